//! The bytes of one foca packet: a fixed encoding, read whole and checked before foca sees it.
//!
//! All numbers are big-endian. A name is a server's id (16 bytes), its run (8) and its renewal (4).

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message, State};
use uuid::Uuid;

use super::name::Name;
use crate::id::ServerId;

/// The longest packet, in bytes. A constant of the protocol.
pub const MAX_PACKET: usize = 1_100;

const NAME: usize = 28;
const MEMBER: usize = NAME + 3;

/// The bytes are no packet. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It ends before its last field.
    #[error("it ends too early")]
    Short,
    /// It goes on after its last field, or is longer than any packet.
    #[error("it is too long")]
    Long,
    /// A version, message or state of this number is not known.
    #[error("{0} stands where only known numbers may")]
    Unknown(u8),
    /// There was no room to write it.
    #[error("it does not fit")]
    NoRoom,
}

/// A packet whose every byte is accounted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) header: Header<Name>,
    pub(super) members: Vec<Member<Name>>,
}

impl Packet {
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_PACKET {
            return Err(Malformed::Long);
        }
        let header = get_header(&mut bytes)?;
        let mut members = Vec::new();
        if carries_members(&header.message) {
            need(&bytes, 2)?;
            let count = usize::from(bytes.get_u16());
            need(&bytes, count * MEMBER)?;
            for _ in 0..count {
                members.push(get_member(&mut bytes)?);
            }
        }
        if bytes.is_empty() { Ok(Self { header, members }) } else { Err(Malformed::Long) }
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, Malformed> {
        let mut bytes = Vec::new();
        put_header(&self.header, &mut bytes)?;
        if carries_members(&self.header.message) {
            bytes.put_u16(u16::try_from(self.members.len()).map_err(|_| Malformed::NoRoom)?);
            for member in &self.members {
                put_member(member, &mut bytes)?;
            }
        }
        Ok(bytes)
    }

    /// The third server that a message is about, where there is one.
    pub(super) fn third(&self) -> Option<ServerId> {
        match &self.header.message {
            Message::PingReq { target: name, .. }
            | Message::IndirectPing { origin: name, .. }
            | Message::IndirectAck { target: name, .. }
            | Message::ForwardedAck { origin: name, .. } => Some(name.server),
            _ => None,
        }
    }
}

/// How foca writes and reads names.
#[derive(Debug)]
pub(super) struct Fixed;

impl Codec<Name> for Fixed {
    type Error = Malformed;

    fn encode_header(&mut self, header: &Header<Name>, to: impl BufMut) -> Result<(), Malformed> {
        put_header(header, to)
    }

    fn decode_header(&mut self, from: impl Buf) -> Result<Header<Name>, Malformed> {
        get_header(from)
    }

    fn encode_member(&mut self, member: &Member<Name>, to: impl BufMut) -> Result<(), Malformed> {
        put_member(member, to)
    }

    fn decode_member(&mut self, from: impl Buf) -> Result<Member<Name>, Malformed> {
        get_member(from)
    }
}

fn carries_members(message: &Message<Name>) -> bool {
    !matches!(message, Message::Announce | Message::TurnUndead)
}

fn put_header(header: &Header<Name>, mut to: impl BufMut) -> Result<(), Malformed> {
    let (number, third, probe) = match &header.message {
        Message::Ping(probe) => (0, None, Some(*probe)),
        Message::Ack(probe) => (1, None, Some(*probe)),
        Message::PingReq { target, probe_number } => (2, Some(target), Some(*probe_number)),
        Message::IndirectPing { origin, probe_number } => (3, Some(origin), Some(*probe_number)),
        Message::IndirectAck { target, probe_number } => (4, Some(target), Some(*probe_number)),
        Message::ForwardedAck { origin, probe_number } => (5, Some(origin), Some(*probe_number)),
        Message::Announce => (6, None, None),
        Message::Feed => (7, None, None),
        Message::Gossip => (8, None, None),
        Message::TurnUndead => (9, None, None),
        // Nothing of ours travels in foca's broadcasts.
        Message::Broadcast => return Err(Malformed::Unknown(10)),
    };
    let length =
        2 * NAME + 3 + third.map_or(0, |_| NAME) + probe.map_or(0, |_| size_of_val(&number));
    room(&to, length)?;
    put_name(&header.src, &mut to);
    to.put_u16(header.src_incarnation);
    put_name(&header.dst, &mut to);
    to.put_u8(number);
    if let Some(name) = third {
        put_name(name, &mut to);
    }
    if let Some(probe) = probe {
        to.put_u8(probe);
    }
    Ok(())
}

fn get_header(mut from: impl Buf) -> Result<Header<Name>, Malformed> {
    need(&from, 2 * NAME + 3)?;
    let src = get_name(&mut from);
    let src_incarnation = from.get_u16();
    let dst = get_name(&mut from);
    let message = get_message(from)?;
    Ok(Header { src, src_incarnation, dst, message })
}

fn get_message(mut from: impl Buf) -> Result<Message<Name>, Malformed> {
    let number = from.get_u8();
    let rest = match number {
        0 | 1 => 1,
        2..=5 => NAME + 1,
        _ => 0,
    };
    need(&from, rest)?;
    let mut third = || (get_name(&mut from), from.get_u8());
    Ok(match number {
        0 => Message::Ping(from.get_u8()),
        1 => Message::Ack(from.get_u8()),
        2 => {
            let (target, probe_number) = third();
            Message::PingReq { target, probe_number }
        }
        3 => {
            let (origin, probe_number) = third();
            Message::IndirectPing { origin, probe_number }
        }
        4 => {
            let (target, probe_number) = third();
            Message::IndirectAck { target, probe_number }
        }
        5 => {
            let (origin, probe_number) = third();
            Message::ForwardedAck { origin, probe_number }
        }
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::TurnUndead,
        unknown => return Err(Malformed::Unknown(unknown)),
    })
}

fn put_member(member: &Member<Name>, mut to: impl BufMut) -> Result<(), Malformed> {
    room(&to, MEMBER)?;
    put_name(member.id(), &mut to);
    to.put_u16(member.incarnation());
    to.put_u8(match member.state() {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    });
    Ok(())
}

fn get_member(mut from: impl Buf) -> Result<Member<Name>, Malformed> {
    need(&from, MEMBER)?;
    let name = get_name(&mut from);
    let incarnation = from.get_u16();
    let state = match from.get_u8() {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        unknown => return Err(Malformed::Unknown(unknown)),
    };
    Ok(Member::new(name, incarnation, state))
}

fn put_name(name: &Name, to: &mut impl BufMut) {
    to.put_slice(name.server.0.as_bytes());
    to.put_u64(name.run);
    to.put_u32(name.renewal);
}

/// The caller has seen that it is all there.
fn get_name(from: &mut impl Buf) -> Name {
    let server = ServerId(Uuid::from_u128(from.get_u128()));
    Name { server, run: from.get_u64(), renewal: from.get_u32() }
}

fn need(from: &impl Buf, bytes: usize) -> Result<(), Malformed> {
    if from.remaining() < bytes { Err(Malformed::Short) } else { Ok(()) }
}

fn room(to: &impl BufMut, bytes: usize) -> Result<(), Malformed> {
    if to.remaining_mut() < bytes { Err(Malformed::NoRoom) } else { Ok(()) }
}
