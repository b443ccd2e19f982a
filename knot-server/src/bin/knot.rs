//! `knot`: the command-line client. All of it is in [`knot_server::cli`].

fn main() -> std::process::ExitCode {
    knot_server::cli::main()
}
