//! The bytes that leave a process: CBOR items, in frames with a length in front.
//!
//! This is the one module that names a CBOR crate. Items are CBOR (RFC 8949), structs written as
//! maps with their field names, so that a later version may add a field and an older one skips it.
//! A frame is a 4-byte big-endian length and that many bytes. The length is checked against a limit
//! before anything is allocated for it.

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest frame between servers, in bytes: 4 MiB. A constant of the protocol.
pub const MAX_PEER_FRAME: usize = 4 << 20;
/// The longest frame between a server and an agent, in bytes: 128 KiB. A constant of the protocol.
pub const MAX_AGENT_FRAME: usize = 128 << 10;
/// The longest frame on a connection whose other end has not proven who it is: 16 KiB.
pub const MAX_STRANGER_FRAME: usize = 16 << 10;

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

/// Decodes one value that takes up all of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_cbor::from_slice(bytes).map_err(Error::Malformed)
}

/// Encodes one value with its frame header in front.
pub fn encode_frame<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; 4];
    serde_cbor::to_writer(&mut bytes, value).map_err(Error::Unencodable)?;
    let length = bytes.len() - 4;
    if length > limit {
        return Err(Error::TooLong { length, limit });
    }
    if let Some(header) = bytes.get_mut(..4) {
        header.copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
    Ok(bytes)
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

/// Reads one frame; `None` when the stream ended before one began.
///
/// Not cancel-safe: a frame that was read in part is lost when the future is dropped.
pub async fn read_frame<R, T>(stream: &mut R, limit: usize) -> Result<Option<T>, Error>
where
    R: AsyncRead + Unpin,
    T: DeserializeOwned,
{
    let mut header = [0; 4];
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
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    decode(&bytes).map(Some)
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

    #[test]
    fn deep_nesting_is_refused() {
        let bytes = vec![0x81; 100_000];
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(Error::Malformed(_))));
    }
}
