//! The server's stream of events, as `text/event-stream`.

/// The longest event that is read.
const EVENT_LIMIT: usize = 1024 * 1024;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// What kind it is.
    pub(crate) name: String,
    /// Its data.
    pub(crate) data: String,
}

/// An event was longer than any that a knot server sends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it sent an event without end")]
pub(crate) struct TooLong;

/// Puts events together from pieces of the stream, wherever those were cut.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    line: Vec<u8>,
    name: String,
    data: String,
}

impl Decoder {
    /// Takes the next piece; gives the events that it completes.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        let mut lines = piece.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = lines.next() {
            self.line.extend_from_slice(part);
            if self.line.len() + self.data.len() > EVENT_LIMIT {
                return Err(TooLong);
            }
            if lines.peek().is_some() {
                events.extend(self.end_of_line());
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return (!data.is_empty()).then_some(Event { name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => (),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\nevent: space\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nid: 7\nevent: x\ndata:y\n\nevent: z\n\n";

    #[test]
    fn events_are_the_same_wherever_the_stream_is_cut() {
        let wanted = [("space", "{\"a\":\n1}"), ("x", "y")]
            .map(|(name, data)| Event { name: name.to_owned(), data: data.to_owned() });
        for size in 1..STREAM.len() {
            let mut decoder = Decoder::default();
            let pieces = STREAM.as_bytes().chunks(size);
            let events: Vec<Event> =
                pieces.flat_map(|piece| decoder.feed(piece).unwrap()).collect();
            assert_eq!(events, wanted, "pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut decoder = Decoder::default();
        let piece = vec![b'x'; 64 * 1024];
        assert!((0..32).any(|_| decoder.feed(&piece) == Err(TooLong)));
    }
}
