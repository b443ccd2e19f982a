//! What has to be there before knot-server compiles: the browser modules of its pages.

#[path = "build/assets.rs"]
mod assets;

fn main() {
    if let Err(problem) = assets::fetch() {
        for line in problem.lines() {
            println!("cargo::error={line}");
        }
    }
}
