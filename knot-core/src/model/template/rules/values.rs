//! Rules for single values.

use crate::agent::MAX_SCRIPT;

/// The longest job, in bytes.
const LONGEST_JOB: usize = 256 << 10;

/// A name of something outside of knot.
pub(super) fn word(what: &str, word: &str) -> Result<(), String> {
    if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("`{word}` is no {what}'s name: it has no spaces, and is not empty"));
    }
    Ok(())
}

/// A reference to an image, by the grammar that registries share (OCI distribution, "Pulling
/// manifests").
pub(super) fn image(text: &str) -> Result<(), String> {
    word("image", text)?;
    let wrong = || {
        format!(
            "`{text}` is no image's name: write it like debian:bookworm or registry.example/team/app:1"
        )
    };
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if let Some(digest) = digest {
        let (algorithm, hash) = digest.split_once(':').ok_or_else(wrong)?;
        if algorithm.is_empty()
            || hash.is_empty()
            || !hash.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err(wrong());
        }
    }
    let name_end = rest.rfind('/').map_or(0, |at| at + 1);
    let (folders, last) = rest.split_at_checked(name_end).ok_or_else(wrong)?;
    let (last, tag) = match last.split_once(':') {
        Some((last, tag)) => (last, Some(tag)),
        None => (last, None),
    };
    let in_tag = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if tag.is_some_and(|tag| {
        tag.is_empty() || tag.len() > 128 || tag.starts_with(['.', '-']) || !tag.bytes().all(in_tag)
    }) {
        return Err(wrong());
    }
    let mut parts: Vec<&str> = folders.split_terminator('/').chain([last]).collect();
    if parts.len() > 1
        && let Some(first) = parts.first()
        && (first.contains(['.', ':']) || *first == "localhost")
    {
        let host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        if !first.bytes().all(host) {
            return Err(wrong());
        }
        parts.remove(0);
    }
    let in_part =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let sound = |part: &&str| {
        !part.is_empty()
            && part.bytes().all(in_part)
            && !part.starts_with(['.', '_', '-'])
            && !part.ends_with(['.', '_', '-'])
    };
    if parts.iter().all(sound) { Ok(()) } else { Err(wrong()) }
}

/// An environment variable.
pub(super) fn variable(name: &str, value: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.chars().all(allowed)
        || !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    {
        return Err(format!("`{name}` is no variable's name: letters, digits and _ are"));
    }
    if name.starts_with("KNOT_") {
        return Err(format!("{name} is knot's own: variables that begin with KNOT_ cannot be set"));
    }
    if value.contains('\0') {
        return Err(format!("the value of {name} has a zero byte"));
    }
    Ok(())
}

/// Where something is seen in a space.
pub(super) fn path(what: &str, path: &str) -> Result<(), String> {
    if !is_path(path) {
        return Err(format!(
            "`{path}` is no place for {what}: a path begins with /, is not / itself, and has no empty part, `.` \
             or `..`"
        ));
    }
    if path.split('/').nth(1) == Some(".knot") {
        return Err(format!("{what} cannot be at {path}: the agent stands there"));
    }
    Ok(())
}

/// A folder of the engine's machine.
pub(super) fn folder(at: &str, source: &str) -> Result<(), String> {
    let folder = source.strip_suffix(":ro").unwrap_or(source);
    if is_path(folder) && !folder.contains(':') {
        return Ok(());
    }
    Err(format!(
        "`{source}` is no folder to show at {at}: it is an absolute path of the engine's machine, such as /srv/data, \
         or /srv/data:ro"
    ))
}

fn is_path(path: &str) -> bool {
    let inner = path.strip_prefix('/').unwrap_or_default();
    !inner.is_empty()
        && !inner.split('/').any(|part| matches!(part, "" | "." | ".."))
        && !inner.contains('\0')
}

/// What makes a volume.
pub(super) fn kind(name: &str, kind: &str, platform: &str) -> Result<(), String> {
    if platform != "nomad" {
        return Err(format!("volume {name} has a kind: only those of platform nomad have one"));
    }
    match kind.strip_prefix("csi:") {
        Some(plugin) => word("plugin", plugin),
        None if kind == "host" => Ok(()),
        None => {
            Err(format!("`{kind}` is no kind of volume: it is host, or csi: and a plugin's id"))
        }
    }
}

/// A Linux capability, or one to take away.
pub(super) fn capability(text: &str) -> Result<(), String> {
    let name = text.strip_prefix('-').unwrap_or(text);
    if !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || b"_0123456789".contains(&byte))
    {
        return Ok(());
    }
    Err(format!("`{text}` is no capability: write it like NET_ADMIN, or -NET_RAW to take it away"))
}

/// A device of the engine's machine.
pub(super) fn device(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split(':').collect();
    let sound = match parts.as_slice() {
        [from] => is_path(from),
        [from, to] => is_path(from) && is_path(to),
        [from, to, rights] => {
            is_path(from)
                && is_path(to)
                && !rights.is_empty()
                && rights.chars().all(|one| "rwm".contains(one))
        }
        _ => false,
    };
    if sound {
        return Ok(());
    }
    Err(format!("`{text}` is no device: write it like /dev/kvm, or /dev/a:/dev/b:rw"))
}

/// A script that the agent runs.
pub(super) fn script(text: &str) -> Result<(), String> {
    if text.len() > MAX_SCRIPT {
        return Err(format!(
            "it has more than {MAX_SCRIPT} bytes: put the rest into the image, or fetch it from a short one"
        ));
    }
    whole(text)
}

/// A job of Nomad.
pub(super) fn job(text: &str) -> Result<(), String> {
    if text.len() > LONGEST_JOB {
        return Err(format!("it has more than {LONGEST_JOB} bytes"));
    }
    whole(text)
}

/// A text that a program reads.
fn whole(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("it has a zero byte".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_as_registries_name_them() {
        for name in [
            "x",
            "1:2",
            "debian:bookworm",
            "rust:1.95-bookworm",
            "library/debian",
            "localhost:5000/a/b:c",
            "registry.example/team/app@sha256:0123456789abcdef0123456789abcdef",
            "a__b/c-d.e",
        ] {
            assert_eq!(image(name), Ok(()), "{name}");
        }
        for name in ["", "a b", "Debian", "a:", "a/", "/a", "a//b", "a:-b", "a@b", "a:b:c", "-a"] {
            assert!(image(name).is_err(), "{name}");
        }
    }

    #[test]
    fn devices_have_their_forms() {
        for one in ["/dev/kvm", "/dev/a:/dev/b", "/dev/a:/dev/b:rw"] {
            assert_eq!(device(one), Ok(()), "{one}");
        }
        for one in ["", "kvm", "/dev/a:b", "/dev/a:/dev/b:x", "/a:/b:r:w"] {
            assert!(device(one).is_err(), "{one}");
        }
        assert_eq!(capability("-NET_RAW"), Ok(()));
        assert!(capability("net_raw").is_err());
    }
}
