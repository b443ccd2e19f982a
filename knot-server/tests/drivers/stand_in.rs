//! What the conformance suite puts in the place of the agent: it runs the template's command, if
//! there is one, and stays until it is ended.

fn main() {
    println!("the stand-in runs");
    let command = std::env::var("KNOT_AGENT_COMMAND").unwrap_or_default();
    let words: Vec<&str> = command.split('"').skip(1).step_by(2).collect();
    if let Some((program, arguments)) = words.split_first() {
        std::process::Command::new(program).args(arguments).spawn().expect("the command runs");
    }
    loop {
        std::thread::park();
    }
}
