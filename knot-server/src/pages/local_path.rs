//! Where a page may send its visitor: a path on this server, and nowhere else.

use std::fmt;

/// A path, with a query if it has one, that a browser can only read as one on the server that the page came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPath(String);

impl LocalPath {
    /// The first page.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Takes `text` if it is such a path, as in the `next` parameter of the sign-in page.
    ///
    /// Browsers read `\` as `/` and drop tabs and line ends, so that `/\host` and `/<tab>/host` name another server:
    /// neither is a local path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.chars().all(|character| character != '\\' && !character.is_control());
        let local = text.starts_with('/') && !text.starts_with("//");
        (plain && local && text.len() <= 2048).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for LocalPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_on_this_server_is_taken_with_its_query() {
        for path in ["/", "/templates/new", "/spaces/1/terminal?renderer=dom", "/a//b"] {
            assert_eq!(LocalPath::parse(path).map(|path| path.to_string()).as_deref(), Some(path));
        }
    }

    #[test]
    fn what_a_browser_may_read_as_another_server_is_refused() {
        for text in [
            "",
            "spaces",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "https://evil.example/",
            "javascript:alert(1)",
            "\\\\evil.example",
            " //evil.example",
        ] {
            assert_eq!(LocalPath::parse(text), None, "{text:?}");
        }
    }
}
