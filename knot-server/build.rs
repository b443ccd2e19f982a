//! Brings what the server carries inside: the agent, and the browser's third-party modules.

#[path = "build/agent.rs"]
mod agent;
#[path = "build/assets.rs"]
mod assets;

fn main() {
    agent::build();
    if let Err(error) = assets::fetch() {
        for line in error.lines() {
            println!("cargo::error={line}");
        }
    }
}
