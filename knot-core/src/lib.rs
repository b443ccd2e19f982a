//! Replicated state without a leader: typed documents that every server of a cluster may edit at any
//! time, and that are equal again once the servers hear each other.
//!
//! A [`Replica`](replica::Replica) is one server's database. An edit is durable there when it
//! returns and waits for nobody; what others write arrives by itself and is shown to readers and
//! watches. Documents are flat, declared once with [`entity!`], and merged field by field: of
//! concurrent values one is read, the same everywhere, and the others are shown as a conflict until
//! a write settles it. Deleting is final. Each change says who made it and when.
//!
//! What this crate does *not* care about:
//!
//! - **Agreement.** Nothing waits for a majority, a leader or another server. What needs one answer
//!   at one moment, such as a lock or a unique name, cannot be had here; [`names`] says how to live
//!   without the latter.
//! - **Clocks.** Times are kept for people. No order, winner or deletion follows from one.
//! - **Transport.** A link takes frames and gives frames: [`Outbox`](replica::Outbox). QUIC with keys
//!   judged by data is in [`net`], to be used or not.
//! - **Disks.** A [`Store`](store::Store) is three functions. SQLite and memory are here.
//! - **What documents mean.** knot's own types are in [`model`]; other programs declare theirs.
//!   Documents of unknown kinds, and unknown fields, are kept and passed on.
//!
//! ```
//! use std::time::Duration;
//!
//! use knot_core::{
//!     id::{Author, ServerId},
//!     replica::{DurableError, Event, Service},
//!     schema::Schema,
//!     store::memory::MemoryStore,
//! };
//! use uuid::Uuid;
//!
//! knot_core::entity! {
//!     /// Something to do.
//!     pub struct Task("task", 1) {
//!         /// What it is.
//!         title: Field<String>,
//!         /// Who does it.
//!         people: Set<String>,
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let me = ServerId(Uuid::now_v7());
//!     let schema = Schema::new().with::<Task>();
//!     let (service, replica) = Service::start(me, schema, Box::new(MemoryStore::new()))?;
//!
//!     let task = replica
//!         .create::<Task, _>(Author::Server(me), |task| {
//!             task.set(Task::title, "write the front page".to_owned());
//!             task.insert(Task::people, &"anna".to_owned());
//!             Ok(())
//!         })
//!         .await?;
//!
//!     let read = replica.get(task.id).ok_or("it was deleted meanwhile")?;
//!     assert_eq!(read.title, "write the front page");
//!     assert!(read.people.contains("anna"));
//!
//!     // What is there, and a stream of what changes after that, here or elsewhere.
//!     let (tasks, mut changes) = replica.watch_all::<Task>();
//!     assert_eq!(tasks.len(), 1);
//!     let deleted = replica.delete(task.id, Author::Server(me)).await?;
//!     assert!(matches!(changes.next().await, Event::Deleted(_)));
//!
//!     // It is on disk here. Whether it is on a second server too can be asked; it stands anyhow.
//!     let on_two = replica.durable_on(&deleted, 2, Duration::from_secs(1)).await;
//!     assert_eq!(on_two, Err(DurableError::TooFew { wanted: 2, linked: 1 }));
//!     service.stop().await;
//!     Ok(())
//! }
//! ```
//!
//! The chapter on embedding in knot's book goes on from here: conflicts, links, simulation. The
//! programs in `examples/` show each.
//!
//! # Features
//!
//! - `replica` (default): documents, store and replication. Without it there are only the wire
//!   format, ids, and the protocol of agents.
//! - `net` (default): keys, TLS and QUIC; with `replica`, also links between servers. A program with
//!   a transport of its own switches it off.
//! - `sim`: a virtual clock, network and disk to test convergence with.

#![forbid(unsafe_code)]

pub mod agent;
pub mod clock;
#[cfg(feature = "replica")]
pub mod doc;
pub mod generation;
pub mod id;
#[cfg(feature = "replica")]
pub mod membership;
#[cfg(feature = "replica")]
pub mod model;
#[cfg(feature = "replica")]
pub mod names;
pub mod net;
#[cfg(feature = "replica")]
pub mod replica;
#[cfg(feature = "replica")]
pub mod schema;
#[cfg(feature = "replica")]
pub mod secrets;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "replica")]
pub mod store;
#[cfg(feature = "replica")]
pub mod sync;
pub mod wire;

/// The chapter on embedding, so that its code is compiled and run with the tests.
#[cfg(all(doctest, feature = "replica"))]
#[doc = include_str!("../../docs/src/embed.md")]
struct Embedding;
