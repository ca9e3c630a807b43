//! The handshake of the encrypted transport (BIP 324) over a socket: keys, garbage, a packet that ends it. Keys and ciphers
//! are the crate `bip324`'s; here bytes are fetched and sent, in bounds.

use std::io;

use bip324::{
    Error, GarbageResult, Handshake, InboundCipher, Initialized, NUM_LENGTH_BYTES, OutboundCipher, ReceivedKey, Role,
    VersionResult,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::transport::{Sink, Source, TransportError, read_bounded};
use crate::sync::wire::MAX_PAYLOAD;

/// Bytes of a public key.
const KEY: usize = 64;
/// Bytes behind which the garbage ends.
const TERMINATOR: usize = 16;
/// Bytes that are read at a time while the end of the garbage is sought.
const STEP: usize = 256;
/// Bytes of garbage at most: whoever looks at sizes learns nothing.
const MAX_GARBAGE: u16 = 4_095;

/// A connection whose both ends have shown that they know the keys.
pub(super) struct Session {
    pub(super) inbound: InboundCipher,
    pub(super) outbound: OutboundCipher,
    /// The same on both ends, and on no other connection.
    pub(super) id: [u8; 32],
    /// What comes next.
    pub(super) source: Source,
}

/// Speaks until the first packet with content may come.
pub(super) async fn establish(
    mut source: Source,
    sink: &mut Sink,
    magic: [u8; 4],
    role: Role,
) -> Result<Session, TransportError> {
    let garbage = garbage()?;
    let handshake = Handshake::<Initialized>::new(magic, role)?;
    let mut bytes = vec![0; Handshake::<Initialized>::send_key_len(Some(&garbage))];
    let handshake = handshake.send_key(Some(&garbage), &mut bytes)?;
    sink.write_all(&bytes).await?;
    sink.flush().await?;

    let mut key = [0; KEY];
    source.read_exact(&mut key).await?;
    let handshake = match handshake.receive_key(key) {
        // One key in 2^32 begins like a plain connection, and the crate takes none of them. Nothing comes of it until the
        // time for the handshake is over, as with any key that is wrong.
        Err(error @ Error::V1Protocol) if role == Role::Responder => {
            tokio::io::copy(&mut source, &mut tokio::io::sink()).await?;
            return Err(error.into());
        }
        received => received?,
    };
    let mut bytes = vec![0; Handshake::<ReceivedKey<'_>>::send_version_len(None)];
    let mut handshake = handshake.send_version(&mut bytes, None)?;
    sink.write_all(&bytes).await?;
    sink.flush().await?;

    let mut theirs = vec![0; TERMINATOR];
    source.read_exact(&mut theirs).await?;
    let (mut handshake, end) = loop {
        match handshake.receive_garbage(&theirs)? {
            GarbageResult::FoundGarbage { handshake, consumed_bytes } => break (handshake, consumed_bytes),
            GarbageResult::NeedMoreData(same) => handshake = same,
        }
        let mut step = [0; STEP];
        let length = source.read(&mut step).await?;
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        theirs.extend_from_slice(&step[..length]);
    };
    let mut source: Source = Box::new(io::Cursor::new(theirs[end..].to_vec()).chain(source));
    loop {
        let mut length = [0; NUM_LENGTH_BYTES];
        source.read_exact(&mut length).await?;
        let length = handshake.decrypt_packet_len(length)?;
        if length > MAX_PAYLOAD {
            return Err(Error::PacketTooBig.into());
        }
        let mut packet = read_bounded(&mut source, length).await?;
        match handshake.receive_version(&mut packet)? {
            VersionResult::Decoy(same) => handshake = same,
            VersionResult::Complete { cipher } => {
                let id = *cipher.id();
                let (inbound, outbound) = cipher.into_split();
                return Ok(Session { inbound, outbound, id, source });
            }
        }
    }
}

/// As many bytes as chance wants.
fn garbage() -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    getrandom::fill(&mut length)?;
    let mut garbage = vec![0; usize::from(u16::from_le_bytes(length) % (MAX_GARBAGE + 1))];
    getrandom::fill(&mut garbage)?;
    Ok(garbage)
}
