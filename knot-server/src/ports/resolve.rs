//! What an address means: the space, its port, and who may open it.

use std::collections::BTreeMap;

use knot_core::{
    model::{Port, PortAccess, Protocol, Space},
    names::For,
    replica::{Doc, Replica},
};

use super::address::{Address, PortName};
use crate::{
    access::{self, Feature, TurnedOff},
    api::{App, Caller, World, may_use},
};

/// What a template lets through of the ports of its spaces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    ports: BTreeMap<String, Port>,
    any: bool,
    commands: bool,
}

/// A port that may be opened over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Its number.
    pub(crate) number: u16,
    /// Whether TLS is spoken there.
    pub(crate) tls: bool,
}

/// The space that an address names, and the port as the address has it.
pub(crate) fn find(app: &App, address: &Address) -> Option<(Doc<Space>, PortName)> {
    match address {
        Address::Named { port, space, owner } => {
            let owner = crate::users::find(&app.replica, owner)?;
            let space = World::new(app).of_owner(owner.id(), space, For::Using)?;
            Some((space, port.clone()))
        }
        Address::ById { port, space } => Some((app.replica.get(*space)?, PortName::Number(*port))),
        Address::Alternative { name, owner } => {
            let owner = crate::users::find(&app.replica, owner)?;
            let (space, port) = World::new(app).alternative(owner.id(), name)?;
            Some((space, PortName::Number(port)))
        }
    }
}

/// Who may open a port of a space over HTTP.
pub(crate) fn access_of(space: &Space, port: u16) -> PortAccess {
    space.port_access.get(&port.to_string()).copied().unwrap_or_default()
}

/// Whether somebody may open a port that is open to `access`.
pub(crate) fn may_open(caller: Option<&Caller>, space: &Space, access: PortAccess) -> bool {
    match access {
        PortAccess::Public => true,
        PortAccess::SignedIn => caller.is_some(),
        PortAccess::Owner => caller.is_some_and(|caller| may_use(caller, space)),
    }
}

/// Whether what listens in a space may lead to another one: whoever owns it may use that one too.
pub(crate) fn reaches(from: &Space, to: &Space) -> bool {
    from.owner == to.owner || to.shares.contains(&from.owner)
}

impl Rules {
    /// What the current revision of a space's template lets through.
    ///
    /// # Errors
    /// It turns ports off.
    pub(crate) async fn of(replica: &Replica, space: &Space) -> Result<Self, TurnedOff> {
        access::allows(replica, space, Feature::Ports).await?;
        let Some(template) = access::template(replica, space).await else {
            return Ok(Self::default());
        };
        let ways = [Feature::Terminal, Feature::Exec, Feature::Ssh];
        Ok(Self {
            commands: ways.iter().any(|way| !template.without.contains(way.word())),
            ports: template.ports,
            any: template.any_port,
        })
    }

    /// The port that a name or number means, if it may be opened over HTTP.
    pub(crate) fn over_http(&self, port: &PortName) -> Option<Opened> {
        let declared = match port {
            PortName::Name(name) => self.ports.get(name),
            PortName::Number(number) => {
                self.ports.values().find(|one| one.number == *number && is_tcp(one))
            }
        };
        let opened =
            |port: &Port| Opened { number: port.number, tls: port.protocol == Protocol::Https };
        match (declared.filter(|port| is_tcp(port)), port) {
            (Some(declared), _) => Some(opened(declared)),
            (None, PortName::Number(number)) if self.any => {
                Some(Opened { number: *number, tls: false })
            }
            (None, _) => None,
        }
    }

    /// Whether whoever may use the space may have a port of it forwarded. Who may run commands there
    /// reaches all of them anyway.
    pub(crate) fn forwarded(&self, number: u16, udp: bool) -> bool {
        let declared = self.ports.values();
        let mut declared = declared.filter(|port| port.number == number && is_tcp(port) != udp);
        self.any || self.commands || declared.next().is_some()
    }

    /// The declared ports, by name.
    pub(crate) fn declared(&self) -> &BTreeMap<String, Port> {
        &self.ports
    }

    /// Whether other ports may be opened over HTTP too.
    pub(crate) fn any(&self) -> bool {
        self.any
    }
}

fn is_tcp(port: &Port) -> bool {
    port.protocol != Protocol::Udp
}
