//! Not a target: writes `fuzz/corpus` and ends. It stands among the targets to be built as they are.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fn write_and_end() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    match knot_fuzz::seeds::write(&corpus) {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("{} cannot be written: {error}", corpus.display());
            std::process::exit(1);
        }
    }
}

fuzz_target!(init: write_and_end(), |_data: &[u8]| {});
