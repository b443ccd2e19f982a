//! Brings what the server carries inside.

#[path = "build/agent.rs"]
mod agent;

fn main() {
    agent::build();
}
