//! The agent that this server puts into spaces, carried inside the server's own file.

/// A static: a constant would stand in the file once for each place that it is used at.
static AGENT: &[u8] = include_bytes!(env!("KNOT_AGENT_BINARY"));

/// The agent's program, linked statically: it runs in any image of this architecture.
pub fn bytes() -> &'static [u8] {
    AGENT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The type of a program header that names a dynamic linker (ELF, `PT_INTERP`).
    const INTERPRETER: u32 = 3;

    #[test]
    fn the_agent_is_a_program_that_needs_no_linker_of_the_image() {
        let file = bytes();
        assert_eq!(&file[..4], b"\x7fELF");
        assert_eq!(&file[4..6], [2, 1], "64 bits, little-endian");
        let half = |at: usize| u16::from_le_bytes(file[at..at + 2].try_into().unwrap());
        let headers = u64::from_le_bytes(file[32..40].try_into().unwrap());
        let first = usize::try_from(headers).unwrap();
        let (size, count) = (usize::from(half(54)), usize::from(half(56)));
        for header in 0..count {
            let at = first + header * size;
            let kind = u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            assert_ne!(kind, INTERPRETER);
        }
    }
}
