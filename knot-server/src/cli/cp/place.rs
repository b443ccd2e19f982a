//! Where a file is: here, or in a space.

use std::path::PathBuf;

/// A place as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On this machine.
    Here(PathBuf),
    /// In a space.
    There {
        /// The space's name or id.
        space: String,
        /// The path there.
        path: String,
    },
}

impl Place {
    /// Reads `SPACE:PATH`; what has a slash before its first colon, or no colon, is here.
    pub(super) fn read(text: &str) -> Self {
        match text.split_once(':') {
            Some((space, path)) if !space.is_empty() && !space.contains('/') => {
                let path = path.strip_prefix("~/").unwrap_or(path);
                let path = if matches!(path, "" | "~") { "." } else { path };
                Self::There { space: space.to_owned(), path: path.to_owned() }
            }
            _ => Self::Here(PathBuf::from(text)),
        }
    }
}

/// A name below a folder, as SFTP writes paths.
pub(super) fn below(folder: &str, name: &str) -> String {
    match folder {
        "." => name.to_owned(),
        folder => format!("{}/{name}", folder.trim_end_matches('/')),
    }
}

/// The folder of a path, and the name in it.
pub(super) fn apart(path: &str) -> (&str, &str) {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parts) => parts,
        None => (".", path.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_stands_before_the_first_colon() {
        let there =
            |space: &str, path: &str| Place::There { space: space.into(), path: path.into() };
        for (text, place) in [
            ("dev:/etc/hosts", there("dev", "/etc/hosts")),
            ("dev:a:b", there("dev", "a:b")),
            ("dev:", there("dev", ".")),
            ("dev:~/a", there("dev", "a")),
            ("./dev:a", Place::Here("./dev:a".into())),
            ("file", Place::Here("file".into())),
            (":a", Place::Here(":a".into())),
        ] {
            assert_eq!(Place::read(text), place, "{text}");
        }
    }

    #[test]
    fn a_path_is_a_folder_and_a_name() {
        for (path, parts) in
            [("a", (".", "a")), ("/a", ("/", "a")), ("/a/b/", ("/a", "b")), ("a/b", ("a", "b"))]
        {
            assert_eq!(apart(path), parts, "{path}");
            assert_eq!(below(parts.0, parts.1), path.trim_end_matches('/'));
        }
    }
}
