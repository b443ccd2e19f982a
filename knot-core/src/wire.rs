//! The bytes that leave a process: CBOR items, in frames with a length in front.
//!
//! This is the one module that names a CBOR crate. Items are CBOR (RFC 8949), structs written as
//! maps with their field names, so that a later version may add a field and an older one skips it.
//! A frame is a 4-byte big-endian length and that many bytes. The length is checked against a limit
//! before anything is allocated for it.

use std::io;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest frame between servers, in bytes: 4 MiB. A constant of the protocol.
pub const MAX_PEER_FRAME: usize = 4 << 20;
/// The longest frame between a server and an agent, in bytes: 128 KiB. A constant of the protocol.
pub const MAX_AGENT_FRAME: usize = 128 << 10;
/// The longest frame on a connection whose other end has not proven who it is: 16 KiB.
pub const MAX_STRANGER_FRAME: usize = 16 << 10;

/// How long the length in front of a frame is, in bytes.
const HEADER: usize = 4;
/// A byte string of no bytes ([RFC 8949](https://www.rfc-editor.org/rfc/rfc8949), section 3.1).
const EMPTY_BYTES: u8 = 0x40;
/// What a byte string begins with whose length follows in 4 bytes.
const LONG_BYTES: u8 = 0x5a;

/// Why bytes could not be turned into a value, or a value into bytes. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not the CBOR item that was expected.
    #[error("malformed CBOR: {0}")]
    Malformed(#[source] serde_cbor::Error),
    /// The value cannot be written as CBOR.
    #[error("not encodable as CBOR: {0}")]
    Unencodable(#[source] serde_cbor::Error),
    /// A frame announces, or would have, more bytes than its limit.
    #[error("a frame of {length} bytes, where {limit} is the limit")]
    TooLong {
        /// The length that was announced, in bytes.
        length: usize,
        /// The limit of this stream, in bytes.
        limit: usize,
    },
    /// The stream failed, or ended inside a frame.
    #[error("stream failed: {0}")]
    Stream(#[from] io::Error),
}

/// Encodes one value.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_cbor::to_vec(value).map_err(Error::Unencodable)
}

/// Decodes one value that takes up all of `bytes`, and may borrow from them.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    serde_cbor::from_slice(bytes).map_err(Error::Malformed)
}

/// Encodes one value with its frame header in front.
pub fn encode_frame<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; HEADER];
    serde_cbor::to_writer(&mut bytes, value).map_err(Error::Unencodable)?;
    let length = bytes.len() - HEADER;
    set_header(&mut bytes, length, limit)?;
    Ok(bytes)
}

/// All of the frame of a value that ends with `length` bytes of data, but for the data.
fn encode_head<T: Serialize>(empty: &T, length: usize, limit: usize) -> Result<Vec<u8>, Error> {
    let mut head = encode_frame(empty, limit)?;
    if head.pop() != Some(EMPTY_BYTES) {
        return Err(Error::Unencodable(serde::ser::Error::custom(
            "no byte string is its last item",
        )));
    }
    head.push(LONG_BYTES);
    head.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    let whole = (head.len() - HEADER).saturating_add(length);
    set_header(&mut head, whole, limit)?;
    Ok(head)
}

fn set_header(frame: &mut [u8], length: usize, limit: usize) -> Result<(), Error> {
    if length > limit {
        return Err(Error::TooLong { length, limit });
    }
    if let Some(header) = frame.get_mut(..HEADER) {
        header.copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
    Ok(())
}

/// Writes one value as a frame.
pub async fn write_frame<W, T>(stream: &mut W, value: &T, limit: usize) -> Result<(), Error>
where
    W: AsyncWrite + Unpin,
    T: Serialize,
{
    let bytes = encode_frame(value, limit)?;
    stream.write_all(&bytes).await?;
    Ok(())
}

/// Writes the frame of a value that ends with data, without a copy of them: `empty` is the value with an empty byte string in
/// their place, which must be the last item of it.
pub async fn write_data_frame<W, T>(
    stream: &mut W,
    empty: &T,
    data: &[u8],
    limit: usize,
) -> Result<(), Error>
where
    W: AsyncWrite + Unpin,
    T: Serialize,
{
    stream.write_all(&encode_head(empty, data.len(), limit)?).await?;
    stream.write_all(data).await?;
    Ok(())
}

/// Reads one frame; `None` when the stream ended before one began.
///
/// Not cancel-safe: a frame that was read in part is lost when the future is dropped.
pub async fn read_frame<R, T>(stream: &mut R, limit: usize) -> Result<Option<T>, Error>
where
    R: AsyncRead + Unpin,
    T: DeserializeOwned,
{
    read_raw(stream, limit).await?.map(|frame| decode(&frame)).transpose()
}

/// Reads what one frame holds, to be decoded; `None` when the stream ended before one began.
///
/// Not cancel-safe: a frame that was read in part is lost when the future is dropped.
pub async fn read_raw<R: AsyncRead + Unpin>(
    stream: &mut R,
    limit: usize,
) -> Result<Option<Bytes>, Error> {
    let mut header = [0; HEADER];
    let mut filled = 0;
    while filled < header.len() {
        let rest = header.get_mut(filled..).unwrap_or_default();
        match stream.read(rest).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(Error::Stream(io::ErrorKind::UnexpectedEof.into())),
            n => filled += n,
        }
    }
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(Error::TooLong { length, limit });
    }
    let mut frame = BytesMut::with_capacity(length);
    while frame.len() < length {
        let rest = (length - frame.len()) as u64;
        if (&mut *stream).take(rest).read_buf(&mut frame).await? == 0 {
            return Err(Error::Stream(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(Some(frame.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_comes_back_as_it_went() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &("space", 7_u32), 64).await.unwrap();
        let mut stream = bytes.as_slice();
        let back: Option<(String, u32)> = read_frame(&mut stream, 64).await.unwrap();
        assert_eq!(back, Some(("space".to_owned(), 7)));
        let end: Option<(String, u32)> = read_frame(&mut stream, 64).await.unwrap();
        assert_eq!(end, None);
    }

    #[tokio::test]
    async fn a_length_past_the_limit_is_refused_before_it_is_allocated() {
        let mut stream: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0];
        let refused = read_frame::<_, u32>(&mut stream, MAX_PEER_FRAME).await;
        assert!(matches!(refused, Err(Error::TooLong { length: 0xffff_ffff, .. })));
    }

    #[tokio::test]
    async fn a_stream_that_ends_inside_a_frame_is_an_error() {
        let mut stream: &[u8] = &[0, 0, 0, 9, 1];
        assert!(matches!(read_frame::<_, u32>(&mut stream, 64).await, Err(Error::Stream(_))));
        let mut stream: &[u8] = &[0, 0];
        assert!(matches!(read_frame::<_, u32>(&mut stream, 64).await, Err(Error::Stream(_))));
    }

    #[tokio::test]
    async fn data_that_follows_the_head_of_its_frame_is_read_with_it() {
        for length in [0, 1, 300, 70_000] {
            let data = vec![7; length];
            let value = |data| ("output", Bytes::from(data));
            let mut bytes = Vec::new();
            write_data_frame(&mut bytes, &value(Vec::new()), &data, 80_000).await.unwrap();
            let mut stream = bytes.as_slice();
            let back: Option<(String, Bytes)> = read_frame(&mut stream, 80_000).await.unwrap();
            assert_eq!(back, Some(("output".to_owned(), data.into())));
            assert!(stream.is_empty());
        }
        assert!(matches!(
            encode_head(&Bytes::new(), 60, 64),
            Err(Error::TooLong { length: 65, .. })
        ));
        assert!(matches!(encode_head(&"text", 1, 64), Err(Error::Unencodable(_))));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let bytes = vec![0x81; 100_000];
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(Error::Malformed(_))));
    }
}
