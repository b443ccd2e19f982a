//! One replica in one process: write, read, list, delete, and read after a restart.
//!
//! `cargo run -p knot-core --example one_replica`

use std::{error::Error, path::Path};

use knot_core::{
    entity,
    id::{Author, ServerId},
    replica::{Replica, Service},
    schema::Schema,
    store::{Error as StoreError, sqlite::SqliteStore},
};
use uuid::Uuid;

entity! {
    /// Something to do.
    pub struct Task("task", 1) {
        /// What it is.
        title: Field<String>,
        /// Whether it is done.
        done: Field<bool>,
        /// Who does it.
        people: Set<String>,
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("tasks.db");
    // A server has its id for life; a program keeps it beside its database.
    let me = ServerId(Uuid::now_v7());
    let anna = Author::User(Uuid::now_v7());

    let (service, replica) = open(me, &file)?;
    let task = replica
        .create::<Task, _>(anna, |task| {
            task.set(Task::title, "water the plants".to_owned());
            task.insert(Task::people, &"anna".to_owned());
            Ok(())
        })
        .await?;
    println!("created  {}", task.id);

    // The closure sees the document as it stands when the edit is made.
    let edit = replica.edit(task.id, anna, |task| {
        let done = !task.done;
        task.set(Task::done, done);
        task.insert(Task::people, &"bert".to_owned());
        Ok(())
    });
    edit.await?;
    let mistake = replica
        .create::<Task, _>(anna, |task| {
            task.set(Task::title, "a mistake".to_owned());
            Ok(())
        })
        .await?;
    replica.delete(mistake.id, anna).await?;
    service.stop().await;
    drop(replica);

    // What was acknowledged is there after a restart.
    let (service, replica) = open(me, &file)?;
    for task in replica.list::<Task>() {
        let people: Vec<_> = task.people.iter().map(String::as_str).collect();
        let done = if task.done { "done" } else { "open" };
        println!("{done}     {}, by {}", task.title, people.join(" and "));
    }
    assert!(replica.get(mistake.id).is_none(), "deleting is final");
    service.stop().await;
    Ok(())
}

fn open(me: ServerId, file: &Path) -> Result<(Service, Replica), StoreError> {
    let store = SqliteStore::open(file)?;
    Service::start(me, Schema::new().with::<Task>(), Box::new(store))
}
