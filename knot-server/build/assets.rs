//! Brings the third-party browser modules into the build: pinned by sha512, checked, never committed.
//!
//! Tarballs are kept in `<target>/knot-assets`, outside `OUT_DIR`, because test, clippy and release builds each have
//! an `OUT_DIR` of their own. `KNOT_ASSETS` names a folder of the same tarballs for machines with no network.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use npm_utils::{download, extract, integrity, registry::Registry};

/// The variable that names a folder of tarballs, as `npm pack` names them.
const FOLDER_VARIABLE: &str = "KNOT_ASSETS";

/// One package of which some files go into the program.
struct Pin {
    name: &'static str,
    version: &'static str,
    /// What the registry publishes as `dist.integrity`.
    integrity: &'static str,
    /// Path in the tarball, and the name under which pages find it.
    files: &'static [(&'static str, &'static str)],
}

/// Raise a version here together with its integrity (`npm view NAME@VERSION dist.integrity`). The addons belong to
/// one xterm.js release: raise them together, and open a terminal in a browser afterwards.
const PINS: &[Pin] = &[
    Pin {
        name: "@xterm/xterm",
        version: "6.0.0",
        integrity: "sha512-TQwDdQGtwwDt+2cgKDLn0IRaSxYu1tSUjgKarSDkUM0ZNiSRXFpjxEsvc/Zgc5kq5omJ+V0a8/kIM2WD3sMOYg==",
        files: &[("lib/xterm.mjs", "xterm.mjs"), ("css/xterm.css", "xterm.css")],
    },
    Pin {
        name: "@xterm/addon-fit",
        version: "0.11.0",
        integrity: "sha512-jYcgT6xtVYhnhgxh3QgYDnnNMYTcf8ElbxxFzX0IZo+vabQqSPAjC3c1wJrKB5E19VwQei89QCiZZP86DCPF7g==",
        files: &[("lib/addon-fit.mjs", "addon-fit.mjs")],
    },
    Pin {
        name: "@xterm/addon-clipboard",
        version: "0.2.0",
        integrity: "sha512-Dl31BCtBhLaUEECUbEiVcCLvLBbaeGYdT7NofB8OJkGTD3MWgBsaLjXvfGAD4tQNHhm6mbKyYkR7XD8kiZsdNg==",
        files: &[("lib/addon-clipboard.mjs", "addon-clipboard.mjs")],
    },
    Pin {
        name: "@xterm/addon-search",
        version: "0.16.0",
        integrity: "sha512-9OeuBFu0/uZJPu+9AHKY6g/w0Czyb/Ut0A5t79I4ULoU4IfU5BEpPFVGQxP4zTTMdfZEYkVIRYbHBX1xWwjeSA==",
        files: &[("lib/addon-search.mjs", "addon-search.mjs")],
    },
    Pin {
        name: "@xterm/addon-web-links",
        version: "0.12.0",
        integrity: "sha512-4Smom3RPyVp7ZMYOYDoC/9eGJJJqYhnPLGGqJ6wOBfB8VxPViJNSKdgRYb8NpaM6YSelEKbA2SStD7lGyqaobw==",
        files: &[("lib/addon-web-links.mjs", "addon-web-links.mjs")],
    },
    Pin {
        name: "@xterm/addon-webgl",
        version: "0.19.0",
        integrity: "sha512-b3fMOsyLVuCeNJWxolACEUED0vm7qC0cy4wRvf3oURSzDTYVQiGPhTnhWZwIHdvC48Y+oLhvYXnY4XDXPoJo6A==",
        files: &[("lib/addon-webgl.mjs", "addon-webgl.mjs")],
    },
];

/// Where every pinned package keeps its licence.
const LICENCE: &str = "LICENSE";

/// Brings the pinned files to `OUT_DIR/third-party`, and writes `OUT_DIR/third_party.rs`, which lists them for
/// `include!`. The error is text for whoever runs the build and ends with what to do.
pub(crate) fn fetch() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build/assets.rs");
    println!("cargo::rerun-if-env-changed={FOLDER_VARIABLE}");
    let out =
        PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?);
    let source = Source::choose(&out)?;
    let files = out.join("third-party");
    replace_folder(&files).map_err(|error| cannot("write", &files, &error))?;

    let mut licences = String::new();
    let mut names = Vec::new();
    for pin in PINS {
        pin.extract(&source.tarball(pin)?, &files)?;
        names.extend(pin.files.iter().map(|(_, name)| *name));
        let licence = files.join(LICENCE);
        let text =
            fs::read_to_string(&licence).map_err(|error| cannot("read", &licence, &error))?;
        let _ = writeln!(
            licences,
            "{} {}\n\n{}\n\n{}\n",
            pin.name,
            pin.version,
            text.trim(),
            "-".repeat(72)
        );
    }
    let list = files.join("third-party-licences.txt");
    fs::write(&list, licences).map_err(|error| cannot("write", &list, &error))?;
    names.push("third-party-licences.txt");

    let module = out.join("third_party.rs");
    fs::write(&module, generated(&names)).map_err(|error| cannot("write", &module, &error))
}

/// Where tarballs come from.
enum Source {
    /// A folder that someone filled by hand.
    Folder(PathBuf),
    /// The package registry, through a cache that all profiles of this target folder share.
    Registry { cache: PathBuf },
}

impl Source {
    fn choose(out: &Path) -> Result<Self, String> {
        if let Some(folder) = env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty()) {
            return Ok(Self::Folder(PathBuf::from(folder)));
        }
        // OUT_DIR is <target>/<profile>/build/<package>/out.
        let target = out
            .ancestors()
            .nth(4)
            .ok_or_else(|| format!("{} is no OUT_DIR of cargo", out.display()))?;
        let cache = target.join("knot-assets");
        fs::create_dir_all(&cache).map_err(|error| cannot("create", &cache, &error))?;
        Ok(Self::Registry { cache })
    }

    /// The bytes of the pinned tarball, checked.
    fn tarball(&self, pin: &Pin) -> Result<Vec<u8>, String> {
        match self {
            Self::Folder(folder) => pin.read_from(folder),
            Self::Registry { cache } => {
                let kept = cache.join(pin.tarball());
                if let Ok(bytes) = fs::read(&kept)
                    && pin.verify(&bytes).is_ok()
                {
                    return Ok(bytes);
                }
                let bytes = pin.download()?;
                keep(&kept, &bytes).map_err(|error| cannot("write", &kept, &error))?;
                Ok(bytes)
            }
        }
    }
}

impl Pin {
    /// The name that `npm pack` gives the tarball.
    fn tarball(&self) -> String {
        format!("{}-{}.tgz", self.name.trim_start_matches('@').replace('/', "-"), self.version)
    }

    fn verify(&self, bytes: &[u8]) -> Result<(), String> {
        integrity::verify(self.name, bytes, self.integrity).map_err(|error| error.to_string())
    }

    fn read_from(&self, folder: &Path) -> Result<Vec<u8>, String> {
        let path = folder.join(self.tarball());
        let bytes = fs::read(&path).map_err(|error| {
            format!("{}\n{}", cannot("read", &path, &error), fill_folder("that folder"))
        })?;
        self.verify(&bytes).map_err(|error| {
            format!("{}: {error}\n{}", path.display(), fill_folder("that folder, anew"))
        })?;
        Ok(bytes)
    }

    fn download(&self) -> Result<Vec<u8>, String> {
        let Self { name, version, .. } = self;
        let bytes = download::fetch(&Registry::npm().tarball_url(name, version)).map_err(|error| {
            format!(
                "{name} {version} could not be downloaded: {error}\nIf this machine has a network, build again. {} \
                 Then build with {FOLDER_VARIABLE}=<the folder>.",
                fill_folder("a new folder on a machine that has a network, and copy the folder here")
            )
        })?;
        self.verify(&bytes).map_err(|error| {
            format!("{error}\nSomething between here and the registry changed {name} {version}; nothing was built from it. Build again on another network.")
        })?;
        Ok(bytes)
    }

    /// Writes the wanted files and the licence, and refuses a package that lacks one of them.
    fn extract(&self, tarball: &[u8], folder: &Path) -> Result<(), String> {
        let mut wanted = self.files.to_vec();
        wanted.push((LICENCE, LICENCE));
        let written =
            extract::tar_gz(tarball, folder, Some("package/"), extract::Select::Files(&wanted))
                .map_err(|error| {
                    format!("{} {} could not be unpacked: {error}", self.name, self.version)
                })?;
        if written != wanted.len() {
            return Err(format!(
                "{} {} lacks some of {wanted:?}: mend its `files` in build/assets.rs",
                self.name, self.version
            ));
        }
        Ok(())
    }
}

/// Two builds may run at once: each writes a file of its own, and the rename shows either nothing or all of it.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension(format!("{}.part", process::id()));
    fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, path)).inspect_err(|_| {
        let _ = fs::remove_file(&draft);
    })
}

fn replace_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(folder),
    }
}

fn generated(names: &[&str]) -> String {
    let mut code = String::from("pub(super) const THIRD_PARTY: &[(&str, &[u8])] = &[\n");
    for name in names {
        let _ = writeln!(
            code,
            "    ({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/third-party/\", {name:?}))),"
        );
    }
    code + "];\n"
}

fn fill_folder(place: &str) -> String {
    let packages: Vec<String> =
        PINS.iter().map(|pin| format!("{}@{}", pin.name, pin.version)).collect();
    format!("With no network: run `npm pack {}` in {place}.", packages.join(" "))
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {verb} {}: {error}", path.display())
}
