//! Connections from one space to another: a space's agent opens a stream, and this server, if the space
//! may, carries it to the other's agent.

use std::time::Duration;

use knot_core::{
    agent::{Answer, Open, Outgoing, Refusal, Target},
    model,
    net::Call,
    replica::Changed,
    schema::Entity as _,
    wire::{self, MAX_AGENT_FRAME},
};
use tokio::{
    io::{AsyncWriteExt as _, copy},
    sync::mpsc,
    time::timeout,
};

use super::resolve::{Rules, reaches};
use crate::{
    access,
    api::{AgentReader, AgentWriter, App, World},
};

/// How long an agent may take to say what it wants.
const ASKING: Duration = Duration::from_secs(10);

/// Carries what agents open, until this server goes away.
pub(crate) async fn serve(app: App, mut calls: mpsc::Receiver<Call>) {
    while let Some(Some(call)) = app.drain.run_until_cancelled(calls.recv()).await {
        let carried = app.clone();
        // Bounded by the streams that an agent's connection may open; ends with its stream.
        tokio::spawn(app.sessions.track_future(async move {
            let app = carried;
            tokio::select! {
                () = carry(&app, call) => {}
                () = app.drain.cancelled() => {}
            }
        }));
    }
}

async fn carry(app: &App, mut call: Call) {
    let asked = timeout(ASKING, wire::read_frame(&mut call.receive, MAX_AGENT_FRAME)).await;
    let Ok(Ok(Some(Outgoing { port }))) = asked else { return };
    let (reader, writer, to) = match open(app, &call, port).await {
        Ok(opened) => opened,
        Err((refusal, why)) => {
            tracing::debug!(space = %call.space, port, why, "a connection to another space is refused");
            let refused = Answer::Refused { refusal, why };
            if wire::write_frame(&mut call.send, &refused, MAX_AGENT_FRAME).await.is_ok() {
                call.send.finish().ok();
                timeout(ASKING, call.send.stopped()).await.ok();
            }
            return;
        }
    };
    if wire::write_frame(&mut call.send, &Answer::Ready, MAX_AGENT_FRAME).await.is_err() {
        return;
    }
    let space = call.space;
    tokio::select! {
        () = exchange(call, reader, writer) => {}
        () = over(app, space, port, to) => {}
    }
}

type Opened = (AgentReader, AgentWriter, model::Forward);

/// Looks whether a space's port leads anywhere, now, and goes there.
async fn open(app: &App, call: &Call, port: u16) -> Result<Opened, (Refusal, String)> {
    let no = |why: &str| (Refusal::NotFound, why.to_owned());
    let space = app.replica.get(call.space).ok_or_else(|| no("this space was deleted"))?;
    let to = space.forwards.get(&port.to_string()).copied();
    let to = to.ok_or_else(|| no("this port leads to no space"))?;
    let other = app.replica.get(to.space).ok_or_else(|| no("the other space was deleted"))?;
    let name = World::new(app).space_name(&other);
    if !reaches(&space, &other) {
        let why = format!("{name} is not shared with this space's owner any more");
        return Err((Refusal::Failed, why));
    }
    let rules = Rules::of(&app.replica, &other).await;
    let rules = rules.map_err(|off| (Refusal::Failed, off.to_string()))?;
    if !rules.forwarded(to.port, false) {
        let why = format!("the template of {name} does not open port {}", to.port);
        return Err((Refusal::Failed, why));
    }
    let target = Target::Tcp { host: "localhost".to_owned(), port: to.port };
    match access::ready(&*app.reach, to.space, &Open::Connect(target)).await {
        Ok((reader, writer, _)) => Ok((reader, writer, to)),
        Err(access::Error::Refused { refusal, why }) => Err((refusal, format!("{name}: {why}"))),
        Err(error) => Err((Refusal::NotFound, format!("{name}: {error}"))),
    }
}

/// Carries bytes both ways until both halves have ended, or one has failed.
async fn exchange(call: Call, mut reader: AgentReader, mut writer: AgentWriter) {
    let Call { mut send, mut receive, .. } = call;
    let forth = async {
        copy(&mut receive, &mut writer).await?;
        writer.shutdown().await
    };
    let back = async {
        copy(&mut reader, &mut send).await?;
        send.shutdown().await
    };
    if let Err(error) = tokio::try_join!(forth, back) {
        tracing::debug!(%error, "a connection between spaces broke");
    }
}

/// Ends when the port no longer leads there.
async fn over(app: &App, from: knot_core::id::Id<model::Space>, port: u16, to: model::Forward) {
    let mut changes = app.replica.watch(&[model::Space::KIND]);
    loop {
        let (space, other) = (app.replica.get(from), app.replica.get(to.space));
        let leads = space.zip(other).is_some_and(|(space, other)| {
            space.forwards.get(&port.to_string()) == Some(&to) && reaches(&space, &other)
        });
        if !leads {
            return;
        }
        let concerns = |changed: &Changed| match changed {
            Changed::Document(doc) => [from.uuid(), to.space.uuid()].contains(&doc.uuid),
            _ => true,
        };
        while !concerns(&changes.next().await) {}
    }
}
