//! Values of a template that stand in its document as one text each.

use std::{fmt, str::FromStr};

use crate::{model::words, schema::by_text};

words! {
    /// What is spoken on a port.
    pub enum Protocol {
        /// Anything over TCP.
        #[default]
        Tcp = "tcp",
        /// HTTP, as a web page reaches it.
        Http = "http",
        /// HTTP over TLS, with any certificate.
        Https = "https",
        /// Datagrams.
        Udp = "udp",
    }
}

/// A port that a program in a space listens on: `8080/http`, or `8080/tcp/2222` where the engine is
/// to publish it as port 2222 of its machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The number; 0 stands for none.
    pub number: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The port of the engine's machine that leads to it.
    pub published: Option<u16>,
}

/// A text is no such value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePartError {
    /// No port.
    #[error("a port is a number from 1 to 65535 and a protocol, such as 8080/http")]
    Port,
    /// No hours.
    #[error("hours are from and to, such as 08:00-18:30, or 22:00-06:00 across midnight")]
    Hours,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)?;
        self.published.map_or(Ok(()), |published| write!(f, "/{published}"))
    }
}

impl FromStr for Port {
    type Err = ParsePartError;

    fn from_str(text: &str) -> Result<Self, ParsePartError> {
        let number = |text: &str| match text.parse() {
            Ok(0) | Err(_) => Err(ParsePartError::Port),
            Ok(number) => Ok(number),
        };
        let mut parts = text.split('/');
        let port = Self {
            number: number(parts.next().unwrap_or_default())?,
            protocol: match parts.next() {
                None => Protocol::default(),
                Some(word) => Protocol::from_word(word).ok_or(ParsePartError::Port)?,
            },
            published: parts.next().map(number).transpose()?,
        };
        parts.next().map_or(Ok(port), |_| Err(ParsePartError::Port))
    }
}

/// From when to when, in minutes of a day. Where the end is not after the beginning, it is on the
/// next day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hours {
    /// The first minute: 0 is midnight.
    pub from: u16,
    /// The minute after the last.
    pub to: u16,
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl FromStr for Hours {
    type Err = ParsePartError;

    fn from_str(text: &str) -> Result<Self, ParsePartError> {
        let minute = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            let in_day = minutes < 60 && hours * 60 + minutes <= 24 * 60;
            (hours <= 24 && in_day).then_some(hours * 60 + minutes)
        };
        let hours = || {
            let (from, to) = text.split_once('-')?;
            Some(Self { from: minute(from).filter(|from| *from < 24 * 60)?, to: minute(to)? })
        };
        hours().ok_or(ParsePartError::Hours)
    }
}

by_text!([] Port, [] Hours);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["8080/http", "22/tcp/2222", "53/udp"] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), text);
        }
        assert_eq!("80".parse::<Port>().unwrap().protocol, Protocol::Tcp);
        for text in ["", "0", "65536", "80/ftp", "80/tcp/0", "80/tcp/1/2"] {
            assert_eq!(text.parse::<Port>(), Err(ParsePartError::Port), "{text}");
        }
        for text in ["08:00-18:30", "22:00-06:00", "00:00-24:00"] {
            assert_eq!(text.parse::<Hours>().unwrap().to_string(), text);
        }
        for text in ["", "8-9", "24:00-01:00", "08:60-09:00", "08:00", "00:00-24:01"] {
            assert_eq!(text.parse::<Hours>(), Err(ParsePartError::Hours), "{text}");
        }
    }
}
