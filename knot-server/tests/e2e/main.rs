//! What a user does, end to end: real processes, real QUIC and SQLite, the real `knot` client, a real
//! browser, and real containers where an engine answers.

mod bad_input;
mod browser;
mod life;
mod nodes;
mod world;
