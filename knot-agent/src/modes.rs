//! The modes of a terminal as SSH clients send them: operation codes and arguments of RFC 4254
//! section 8, and of RFC 8160 for `IUTF8`.

use std::{io, os::fd::AsFd};

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios,
    tcgetattr, tcsetattr,
};

/// By which a client says that a special character is not to be one.
const DISABLED: u32 = 255;

/// Sets what is named and known of the modes of `terminal`; the rest stays.
pub fn apply(terminal: impl AsFd, modes: &[(u8, u32)]) -> io::Result<()> {
    if modes.is_empty() {
        return Ok(());
    }
    let mut termios = tcgetattr(&terminal)?;
    for (code, value) in modes {
        set(&mut termios, *code, *value);
    }
    Ok(tcsetattr(&terminal, OptionalActions::Now, &termios)?)
}

fn set(termios: &mut Termios, code: u8, value: u32) {
    if let Some(character) = special(code) {
        // No character, to Linux, is 0.
        termios.special_codes[character] = match value {
            DISABLED => 0,
            value => u8::try_from(value).unwrap_or(0),
        };
        return;
    }
    let on = value != 0;
    if let Some(flag) = input(code) {
        termios.input_modes.set(flag, on);
    } else if let Some(flag) = local(code) {
        termios.local_modes.set(flag, on);
    } else if let Some(flag) = output(code) {
        termios.output_modes.set(flag, on);
    } else {
        control(termios, code, value);
    }
}

fn special(code: u8) -> Option<SpecialCodeIndex> {
    Some(match code {
        1 => SpecialCodeIndex::VINTR,
        2 => SpecialCodeIndex::VQUIT,
        3 => SpecialCodeIndex::VERASE,
        4 => SpecialCodeIndex::VKILL,
        5 => SpecialCodeIndex::VEOF,
        6 => SpecialCodeIndex::VEOL,
        7 => SpecialCodeIndex::VEOL2,
        8 => SpecialCodeIndex::VSTART,
        9 => SpecialCodeIndex::VSTOP,
        10 => SpecialCodeIndex::VSUSP,
        12 => SpecialCodeIndex::VREPRINT,
        13 => SpecialCodeIndex::VWERASE,
        14 => SpecialCodeIndex::VLNEXT,
        16 => SpecialCodeIndex::VSWTC,
        18 => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

fn input(code: u8) -> Option<InputModes> {
    Some(match code {
        30 => InputModes::IGNPAR,
        31 => InputModes::PARMRK,
        32 => InputModes::INPCK,
        33 => InputModes::ISTRIP,
        34 => InputModes::INLCR,
        35 => InputModes::IGNCR,
        36 => InputModes::ICRNL,
        37 => InputModes::IUCLC,
        38 => InputModes::IXON,
        39 => InputModes::IXANY,
        40 => InputModes::IXOFF,
        41 => InputModes::IMAXBEL,
        42 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local(code: u8) -> Option<LocalModes> {
    Some(match code {
        50 => LocalModes::ISIG,
        51 => LocalModes::ICANON,
        52 => LocalModes::XCASE,
        53 => LocalModes::ECHO,
        54 => LocalModes::ECHOE,
        55 => LocalModes::ECHOK,
        56 => LocalModes::ECHONL,
        57 => LocalModes::NOFLSH,
        58 => LocalModes::TOSTOP,
        59 => LocalModes::IEXTEN,
        60 => LocalModes::ECHOCTL,
        61 => LocalModes::ECHOKE,
        62 => LocalModes::PENDIN,
        _ => return None,
    })
}

fn output(code: u8) -> Option<OutputModes> {
    Some(match code {
        70 => OutputModes::OPOST,
        71 => OutputModes::OLCUC,
        72 => OutputModes::ONLCR,
        73 => OutputModes::OCRNL,
        74 => OutputModes::ONOCR,
        75 => OutputModes::ONLRET,
        _ => return None,
    })
}

fn control(termios: &mut Termios, code: u8, value: u32) {
    match code {
        90 if value != 0 => {
            termios.control_modes.remove(ControlModes::CSIZE);
            termios.control_modes.insert(ControlModes::CS7);
        }
        91 if value != 0 => {
            termios.control_modes.remove(ControlModes::CSIZE);
            termios.control_modes.insert(ControlModes::CS8);
        }
        92 => termios.control_modes.set(ControlModes::PARENB, value != 0),
        93 => termios.control_modes.set(ControlModes::PARODD, value != 0),
        // A speed that the system does not have stays as it is.
        128 => {
            let _ = termios.set_input_speed(value);
        }
        129 => {
            let _ = termios.set_output_speed(value);
        }
        _ => tracing::debug!(code, "unknown terminal mode ignored"),
    }
}

#[cfg(test)]
mod tests {
    use knot_core::agent::TerminalSize;
    use rustix::termios::{LocalModes, OutputModes, SpecialCodeIndex, tcgetattr};

    use super::*;
    use crate::terminal::Terminal;

    #[tokio::test]
    async fn what_is_named_is_set_and_the_rest_stays() {
        let ends = Terminal::open(TerminalSize { columns: 80, rows: 24 }).unwrap();
        let before = tcgetattr(&ends.theirs).unwrap();
        // Erase is backspace, quit is nothing, no echo, no output processing; and what nobody knows.
        apply(&ends.theirs, &[(3, 8), (2, 255), (53, 0), (70, 0), (200, 7), (250, 1)]).unwrap();
        let after = tcgetattr(&ends.theirs).unwrap();
        assert_eq!(after.special_codes[SpecialCodeIndex::VERASE], 8);
        assert_eq!(after.special_codes[SpecialCodeIndex::VQUIT], 0);
        assert!(!after.local_modes.contains(LocalModes::ECHO));
        assert!(!after.output_modes.contains(OutputModes::OPOST));
        assert_eq!(after.local_modes | LocalModes::ECHO, before.local_modes);
        assert_eq!(
            after.special_codes[SpecialCodeIndex::VINTR],
            before.special_codes[SpecialCodeIndex::VINTR]
        );
    }
}
