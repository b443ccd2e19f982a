//! What the library calls: it answers at once, and leaves what takes time to tasks. It is part of the one
//! loop of a connection.

use std::{collections::HashMap, sync::Arc};

use knot_core::{
    agent::{Command, Target, TerminalSize},
    clock::Millis,
};
use russh::{
    Channel, ChannelId, ChannelOpenFailure, Pty, Sig,
    keys::{Algorithm, Certificate},
    server::{Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session, VerifiedPublicKey},
};
use tokio::sync::oneshot;

use super::{
    WINDOW,
    connection::{Connection, Listening, Login},
    forward,
    inbox::{REST, TRICKLE},
    keys::{self, Key, Rights},
    listen,
    session::{self, Out, Wanted, What, signal_number},
    way::{Way, no_space},
};
use crate::api::{
    Code,
    login::{self, Caller},
};

/// How many variables a client sets, and how many bytes they have.
const VARIABLES: usize = 64;
const VARIABLE: usize = 8 << 10;

/// One connection's callbacks.
pub(super) struct Handler {
    connection: Arc<Connection>,
    signed_in: Option<oneshot::Sender<()>>,
    login: Option<Login>,
    /// Session channels on which nothing has begun.
    waiting: HashMap<ChannelId, Wanted>,
}

type Done = Result<(), russh::Error>;

impl Handler {
    pub(super) fn new(connection: Arc<Connection>, signed_in: oneshot::Sender<()>) -> Self {
        Self { connection, signed_in: Some(signed_in), login: None, waiting: HashMap::new() }
    }

    /// Takes somebody in, for what the name that they sign in with says.
    fn admit(&mut self, caller: Caller, name: &str, rights: Rights) -> Auth {
        let app = &self.connection.app;
        let name = self.connection.peer.jumped.as_deref().unwrap_or(name);
        let space = match login::find_space(app, &caller, name) {
            Ok((space, name)) => Ok(Way::new(app.clone(), caller.clone(), space, name)),
            // Who is told by a command is helped more than who is shut out.
            Err(problem) if problem.code == Code::NotFound => Err(no_space(name)),
            Err(problem) => Err(problem.detail),
        };
        let found = space.is_ok();
        tracing::info!(user = %caller.user, from = %self.connection.peer.address, name, found, "SSH sign-in");
        self.login = Some(Login { caller, space, rights });
        Auth::Accept
    }

    fn begin(&mut self, channel: ChannelId, session: &mut Session, what: What) -> Done {
        let Some(wanted) = self.waiting.remove(&channel) else {
            return session.channel_failure(channel);
        };
        let Ok(room) = Arc::clone(&self.connection.room).try_acquire_owned() else {
            return session.channel_failure(channel);
        };
        session.channel_success(channel)?;
        let connection = Arc::clone(&self.connection);
        self.connection.tasks.spawn(async move {
            let lane = connection.lane(channel);
            session::run(&connection, &lane, wanted, what).await;
            connection.close_lane(channel);
            drop(room);
        });
        Ok(())
    }

    fn take(&mut self, channel: ChannelId, data: &[u8]) -> bool {
        let Some(lane) = self.connection.open_lane(channel) else { return false };
        if lane.inbox.push(data).is_err() {
            tracing::warn!(from = %self.connection.peer.address, "an SSH channel is given up: too much was sent on it");
            lane.closed.cancel();
        }
        lane.inbox.is_full()
    }
}

impl russh::server::Handler for Handler {
    type Error = russh::Error;

    /// A key that nobody has may still be that of a certificate, which is not shown here: it is asked for
    /// a signature where there is any authority.
    async fn auth_publickey_offered(
        &mut self,
        _: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        let fingerprint = keys::fingerprint(offer.public_key.key_data());
        let app = &self.connection.app;
        let known = login::by_key(app, &fingerprint).is_some() || login::any_authority(app);
        let allowed = *offer.algorithm != Algorithm::Rsa { hash: None };
        Ok(if known && allowed { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(
        &mut self,
        name: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        let fingerprint = keys::fingerprint(key.public_key.key_data());
        if *key.algorithm == (Algorithm::Rsa { hash: None }) {
            return Ok(Auth::reject());
        }
        Ok(match login::by_key(&self.connection.app, &fingerprint) {
            Some(caller) => self.admit(caller, name, Rights::ALL),
            None => Auth::reject(),
        })
    }

    async fn auth_openssh_certificate(
        &mut self,
        name: &str,
        certificate: &Certificate,
    ) -> Result<Auth, russh::Error> {
        let fingerprint = keys::fingerprint(certificate.signature_key());
        let from = self.connection.peer.address.ip();
        let judge = |line: &str, user: &str| {
            let key = Key::parse(line).map_err(|error| error.to_string())?;
            keys::judge(certificate, &key, user, from, Millis::now())
        };
        let app = &self.connection.app;
        Ok(match login::by_authority(app, &fingerprint, name, judge) {
            Ok((caller, rights)) => self.admit(caller, name, rights),
            Err(why) => {
                tracing::info!(%from, id = certificate.key_id(), why, "an SSH certificate is refused");
                Auth::reject()
            }
        })
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Done {
        if let (Some(login), Some(signed_in)) = (self.login.take(), self.signed_in.take()) {
            let _ = self.connection.login.set(login);
            let _ = signed_in.send(());
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Done {
        let id = channel.id();
        if self.connection.room.available_permits() <= self.waiting.len() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.connection.lane(id);
        let address = self.connection.peer.address;
        let from = format!("{} {}", address.ip().to_canonical(), address.port());
        // Data that nobody receives comes to `data`.
        let (_, half) = channel.split();
        let wanted = Wanted {
            channel: Out { half, handle: session.handle() },
            environment: [
                ("SSH_CLIENT", format!("{from} 22")),
                ("SSH_CONNECTION", format!("{from} 0.0.0.0 22")),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
            terminal: None,
            modes: Vec::new(),
            agent: false,
        };
        self.waiting.insert(id, wanted);
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Done {
        let Ok(port) = u16::try_from(port) else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        };
        let (to, own) = (Target::Tcp { host: host.to_owned(), port }, self.connection.clone());
        self.connection.tasks.spawn(forward::connect(own, channel, session.handle(), reply, to));
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Done {
        let (to, own) = (Target::Unix(path.to_owned()), self.connection.clone());
        self.connection.tasks.spawn(forward::connect(own, channel, session.handle(), reply, to));
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Done {
        // Before the first data, which may come at once.
        self.connection.lane(id);
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut Session) -> Done {
        if self.take(channel, data) {
            tokio::time::sleep(REST).await;
        }
        Ok(())
    }

    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        if self.connection.is_full() { TRICKLE } else { WINDOW }
    }

    async fn channel_eof(&mut self, channel: ChannelId, _: &mut Session) -> Done {
        if let Some(lane) = self.connection.open_lane(channel) {
            lane.inbox.end();
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Done {
        self.waiting.remove(&channel);
        self.connection.close_lane(channel);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Done {
        let allowed = self.login().is_some_and(|login| login.rights.terminal);
        let Some(wanted) = self.waiting.get_mut(&channel).filter(|_| allowed) else {
            return session.channel_failure(channel);
        };
        wanted.terminal = Some(size(columns, rows));
        if !term.is_empty() {
            wanted.environment.insert("TERM".to_owned(), term.to_owned());
        }
        let known = modes.iter().filter(|(code, _)| *code != Pty::TTY_OP_END);
        wanted.modes = known.map(|(code, value)| (*code as u8, *value)).collect();
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Done {
        let wanted = self.waiting.get_mut(&channel).filter(|wanted| {
            wanted.environment.len() < VARIABLES
                && name.len() + value.len() <= VARIABLE
                && is_taken(name)
        });
        match wanted {
            Some(wanted) => {
                wanted.environment.insert(name.to_owned(), value.to_owned());
                session.channel_success(channel)
            }
            None => session.channel_failure(channel),
        }
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        _: &mut Session,
    ) -> Result<bool, russh::Error> {
        let allowed = self.login().is_some_and(|login| login.rights.agent);
        let wanted = self.waiting.get_mut(&channel).filter(|_| allowed);
        Ok(wanted.map(|wanted| wanted.agent = true).is_some())
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Done {
        session.channel_failure(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Done {
        self.begin(channel, session, What::Command(Command::Login))
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        line: &[u8],
        session: &mut Session,
    ) -> Done {
        match String::from_utf8(line.to_vec()) {
            Ok(line) => self.begin(channel, session, What::Command(Command::Line(line))),
            Err(_) => session.channel_failure(channel),
        }
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Done {
        match name {
            "sftp" => self.begin(channel, session, What::Files),
            _ => session.channel_failure(channel),
        }
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        session: &mut Session,
    ) -> Done {
        if let Some(lane) = self.connection.open_lane(channel) {
            lane.size.send_replace(Some(size(columns, rows)));
        }
        session.channel_success(channel)
    }

    async fn signal(&mut self, channel: ChannelId, signal: Sig, session: &mut Session) -> Done {
        match (self.connection.open_lane(channel), signal_number(&signal)) {
            (Some(lane), Some(signal)) => {
                lane.signal(signal);
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        let at = Listening::Tcp(address.to_owned(), *port);
        let listening = listen::listen(&self.connection, session.handle(), at).await;
        *port = listening.unwrap_or(*port);
        Ok(listening.is_some())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _: &mut Session,
    ) -> Result<bool, russh::Error> {
        Ok(listen::cancel(&self.connection, &Listening::Tcp(address.to_owned(), port)))
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        let at = Listening::Unix(path.to_owned());
        Ok(listen::listen(&self.connection, session.handle(), at).await.is_some())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _: &mut Session,
    ) -> Result<bool, russh::Error> {
        Ok(listen::cancel(&self.connection, &Listening::Unix(path.to_owned())))
    }
}

impl Handler {
    fn login(&self) -> Option<&Login> {
        self.connection.login.get()
    }
}

fn size(columns: u32, rows: u32) -> TerminalSize {
    let cells = |n: u32, none: u16| match u16::try_from(n).unwrap_or(u16::MAX) {
        0 => none,
        n => n,
    };
    TerminalSize { columns: cells(columns, 80), rows: cells(rows, 24) }
}

/// Whether a client may set a variable: what says how text is shown, and what git is told.
fn is_taken(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let known = ["LANG", "LANGUAGE", "TERM", "COLORTERM", "NO_COLOR", "TZ"].contains(&name)
        || ["LC_", "GIT_", "TERM_PROGRAM"].iter().any(|start| name.starts_with(start));
    plain && known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_taken_by_name() {
        for name in ["LANG", "LC_ALL", "TERM", "COLORTERM", "GIT_AUTHOR_NAME", "TERM_PROGRAM"] {
            assert!(is_taken(name), "{name}");
        }
        for name in ["LD_PRELOAD", "PATH", "LANG=x", "LC_\n", "HOME", "SSH_AUTH_SOCK", ""] {
            assert!(!is_taken(name), "{name}");
        }
    }
}
