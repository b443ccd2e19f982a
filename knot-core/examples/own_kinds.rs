//! Documents of one's own kind on two replicas that are linked by a channel: rules for concurrent
//! writes, conflicts, and watches.
//!
//! `cargo run -p knot-core --example own_kinds`

use std::{error::Error, time::Duration};

use bytes::Bytes;
use knot_core::{
    entity,
    id::{Author, Id, ServerId},
    replica::{Event, Link, Outbox, Replica, Service, Token},
    schema::{Edit, Schema},
    store::memory::MemoryStore,
    sync::Message,
    wire::{self, MAX_PEER_FRAME},
};
use tokio::sync::mpsc;
use uuid::Uuid;

entity! {
    /// An article of a shop.
    pub struct Article("article", 1) {
        /// What it is called: of two concurrent values one is read, the other shown as a conflict.
        name: Field<String>,
        /// Who may change it: whoever was removed stays so, though another server added it at the
        /// same time.
        editors: Set<String> [RemovalWins],
        /// Texts by language, each merged by itself.
        texts: Map<String, String>,
        /// How often it was counted; of two concurrent values, the larger.
        counted: Field<u64> [LargestWins],
    }
}

const BOUND: Duration = Duration::from_secs(10);

/// The end of a wire that a replica sends into. What does not fit is left out: the replicas compare
/// what they hold, and send it again.
struct Wire(mpsc::Sender<Bytes>);

impl Outbox for Wire {
    fn send(&mut self, frame: Bytes) -> bool {
        self.0.try_send(frame).is_ok()
    }

    fn close(&mut self, reason: &str) {
        println!("the other end broke the protocol: {reason}");
    }
}

async fn carry(mut frames: mpsc::Receiver<Bytes>, to: Link) {
    while let Some(frame) = frames.recv().await {
        let message = wire::read_frame::<_, Message>(&mut &frame[..], MAX_PEER_FRAME).await;
        let Ok(Some(message)) = message else { return };
        if to.receive(message).await.is_err() {
            return;
        }
    }
}

async fn connect(one: &Replica, other: &Replica) -> Result<(), Box<dyn Error>> {
    let (to_other, from_one) = mpsc::channel(1_024);
    let (to_one, from_other) = mpsc::channel(1_024);
    let at_one = one.link(other.me(), Box::new(Wire(to_other))).await?;
    let at_other = other.link(one.me(), Box::new(Wire(to_one))).await?;
    tokio::spawn(carry(from_other, at_one));
    tokio::spawn(carry(from_one, at_other));
    Ok(())
}

/// Writes the chair, and returns a token that other replicas can be asked to wait for.
async fn write(
    at: &Replica,
    edit: impl FnOnce(&mut Edit<'_, Article>) + Send + 'static,
) -> Result<Token, Box<dyn Error>> {
    let put = at.put(chair(), Author::Server(at.me()), move |article| {
        edit(article);
        Ok(())
    });
    Ok(put.await?.token())
}

/// The article's id follows from its number in the catalogue: whoever writes it first, it is one.
fn chair() -> Id<Article> {
    Id::of_key(&[b"catalogue", b"4711"])
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let start = || {
        let (me, schema) = (ServerId(Uuid::now_v7()), Schema::new().with::<Article>());
        Service::start(me, schema, Box::new(MemoryStore::new()))
    };
    let ((left_service, left), (right_service, right)) = (start()?, start()?);

    // Both write the same article before either hears of the other.
    let from_left = write(&left, |article| {
        article.set(Article::name, "chair".to_owned());
        article.insert(Article::editors, &"anna".to_owned());
        article.put(Article::texts, &"de".to_owned(), "Stuhl".to_owned());
        article.set(Article::counted, 3);
    });
    let from_left = from_left.await?;
    let from_right = write(&right, |article| {
        article.set(Article::name, "seat".to_owned());
        article.remove(Article::editors, &"anna".to_owned());
        article.put(Article::texts, &"fr".to_owned(), "chaise".to_owned());
        article.set(Article::counted, 5);
    });
    let from_right = from_right.await?;
    let (_, mut unsettled) = left.watch_query::<Article>(|article| article.counted < 10);

    connect(&left, &right).await?;
    left.wait_for(&from_right, BOUND).await?;
    right.wait_for(&from_left, BOUND).await?;
    let (at_left, at_right) = (left.get(chair()).ok_or("gone")?, right.get(chair()).ok_or("gone")?);
    assert_eq!(*at_left, *at_right, "both read the same");
    println!("texts    {:?}", at_left.texts);
    println!("counted  {}", at_left.counted);
    println!("name     {}", at_left.name);
    for (field, contenders) in at_left.conflicts() {
        let values: Vec<_> = contenders.iter().map(|one| format!("{:?}", one.value)).collect();
        println!("conflict {field}: {}", values.join(" against "));
    }
    if let Event::Changed(article) = unsettled.next().await {
        println!("watch    {} was changed", article.name);
    }

    // A write that has seen both values settles it, everywhere.
    let settled = write(&right, |article| {
        article.set(Article::name, "chair with a seat".to_owned());
        article.set(Article::counted, 10);
    });
    left.wait_for(&settled.await?, BOUND).await?;
    assert_eq!(left.get(chair()).ok_or("gone")?.conflicts().count(), 0);
    if let Event::Left(article) = unsettled.next().await {
        println!("watch    {} matches no more", article.name);
    }
    left_service.stop().await;
    right_service.stop().await;
    Ok(())
}
