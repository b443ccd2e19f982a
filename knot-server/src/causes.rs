//! Errors as people read them: what happened, and everything that led to it.

use std::error::Error;

/// The error's text and those of its causes, each that is not already said by the one before.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the file cannot be read")]
    struct Outer(#[source] io::Error);

    #[test]
    fn each_cause_is_said_once() {
        let error = Outer(io::Error::other("no disk"));
        assert_eq!(with_causes(&error), "the file cannot be read: no disk");
        let repeated = Outer(io::Error::other("file"));
        assert_eq!(with_causes(&repeated), "the file cannot be read");
    }
}
