//! Announcements as the bytes they came in: read where they lie, for they are hashed, compared and passed on more often than
//! they are looked into, and a key that is known needs no decompression.

use bitcoin::hashes::{Hash, sha256d};
use secp256k1::Message as Digest;

use super::store::record::KeyBytes;
use crate::units::ShortChannelId;
use crate::wire::codec::Reader;
use crate::wire::{ChannelAnnouncement, ChannelUpdate, DecodeError, Message, NodeAnnouncement};

/// A signature as it stands in messages.
pub(super) type SignatureBytes = [u8; 64];

/// Which of the three an announcement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `channel_announcement`, 256.
    Channel,
    /// `node_announcement`, 257.
    Node,
    /// `channel_update`, 258.
    Update,
}

/// One of the three messages that everybody is told, as its bytes: well-formed, and nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    kind: Kind,
    bytes: Vec<u8>,
}

impl Announcement {
    /// From a whole message, its type first.
    ///
    /// # Errors
    /// [`DecodeError`] where it is another message or ends too early. Keys and signatures are not looked at.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Announcement, DecodeError> {
        let message_type = u16::from_be_bytes(Reader::new(&bytes).array()?);
        let kind = match message_type {
            ChannelAnnouncement::TYPE => ChannelView::read(&bytes).map(|_| Kind::Channel)?,
            NodeAnnouncement::TYPE => NodeView::read(&bytes).map(|_| Kind::Node)?,
            ChannelUpdate::TYPE => UpdateView::read(&bytes).map(|_| Kind::Update)?,
            message_type => return Err(DecodeError::UnknownEvenType { message_type }),
        };
        Ok(Announcement { kind, bytes })
    }

    /// From a message that was decoded, or `None` where it is another one.
    pub fn from_message(message: &Message) -> Option<Announcement> {
        let kind = match message {
            Message::ChannelAnnouncement(_) => Kind::Channel,
            Message::NodeAnnouncement(_) => Kind::Node,
            Message::ChannelUpdate(_) => Kind::Update,
            _ => return None,
        };
        let mut bytes = Vec::with_capacity(512);
        message.encode_into(&mut bytes);
        Some(Announcement { kind, bytes })
    }

    /// Which of the three it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The whole message, its type first.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The channel that it is about, if it is about one.
    pub fn short_channel_id(&self) -> Option<ShortChannelId> {
        match self.kind {
            Kind::Channel => self.channel().map(|view| ShortChannelId::from_u64(view.short_channel_id)),
            Kind::Update => self.update().map(|view| ShortChannelId::from_u64(view.short_channel_id)),
            Kind::Node => None,
        }
    }

    /// Its time, in seconds since 1970; a `channel_announcement` has none.
    pub fn timestamp(&self) -> Option<u32> {
        match self.kind {
            Kind::Channel => None,
            Kind::Update => self.update().map(|view| view.timestamp),
            Kind::Node => self.node().map(|view| view.timestamp),
        }
    }

    pub(super) fn channel(&self) -> Option<ChannelView<'_>> {
        (self.kind == Kind::Channel).then(|| ChannelView::read(&self.bytes).ok())?
    }

    pub(super) fn node(&self) -> Option<NodeView<'_>> {
        (self.kind == Kind::Node).then(|| NodeView::read(&self.bytes).ok())?
    }

    pub(super) fn update(&self) -> Option<UpdateView<'_>> {
        (self.kind == Kind::Update).then(|| UpdateView::read(&self.bytes).ok())?
    }
}

/// A `channel_announcement` where it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChannelView<'a> {
    /// By the two node ids, then the two funding keys.
    pub signatures: [&'a SignatureBytes; 4],
    pub features: &'a [u8],
    pub chain_hash: &'a [u8; 32],
    pub short_channel_id: u64,
    pub node_ids: [&'a KeyBytes; 2],
    pub bitcoin_keys: [&'a KeyBytes; 2],
    pub excess: &'a [u8],
    signed: &'a [u8],
}

impl<'a> ChannelView<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<ChannelView<'a>, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.take(2)?;
        let mut signature = || chunk::<64>(&mut reader);
        let signatures = [signature()?, signature()?, signature()?, signature()?];
        let signed = reader.take_rest();
        let mut reader = Reader::new(signed);
        Ok(ChannelView {
            signatures,
            features: reader.bytes_u16()?,
            chain_hash: chunk(&mut reader)?,
            short_channel_id: u64::from_be_bytes(reader.array()?),
            node_ids: [chunk(&mut reader)?, chunk(&mut reader)?],
            bitcoin_keys: [chunk(&mut reader)?, chunk(&mut reader)?],
            excess: reader.take_rest(),
            signed,
        })
    }

    /// What its signatures sign.
    pub fn digest(&self) -> Digest {
        digest(self.signed)
    }
}

/// A `channel_update` where it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpdateView<'a> {
    pub signature: &'a SignatureBytes,
    pub chain_hash: &'a [u8; 32],
    pub short_channel_id: u64,
    pub timestamp: u32,
    pub message_flags: u8,
    pub channel_flags: u8,
    pub cltv_expiry_delta: u16,
    pub htlc_minimum_msat: u64,
    pub fee_base_msat: u32,
    pub fee_proportional_millionths: u32,
    pub htlc_maximum_msat: u64,
    pub excess: &'a [u8],
    signed: &'a [u8],
}

impl<'a> UpdateView<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<UpdateView<'a>, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.take(2)?;
        let signature = chunk(&mut reader)?;
        let signed = reader.take_rest();
        let mut reader = Reader::new(signed);
        Ok(UpdateView {
            signature,
            chain_hash: chunk(&mut reader)?,
            short_channel_id: u64::from_be_bytes(reader.array()?),
            timestamp: u32::from_be_bytes(reader.array()?),
            message_flags: u8::from_be_bytes(reader.array()?),
            channel_flags: u8::from_be_bytes(reader.array()?),
            cltv_expiry_delta: u16::from_be_bytes(reader.array()?),
            htlc_minimum_msat: u64::from_be_bytes(reader.array()?),
            fee_base_msat: u32::from_be_bytes(reader.array()?),
            fee_proportional_millionths: u32::from_be_bytes(reader.array()?),
            htlc_maximum_msat: u64::from_be_bytes(reader.array()?),
            excess: reader.take_rest(),
            signed,
        })
    }

    pub const fn is_disabled(&self) -> bool {
        self.channel_flags & 2 != 0
    }

    pub const fn end(&self) -> usize {
        (self.channel_flags & 1) as usize
    }

    pub fn digest(&self) -> Digest {
        digest(self.signed)
    }

    /// The CRC32C of the update without signature and timestamp (BOLT 7, `channel_update_checksums`).
    pub fn checksum(&self) -> u32 {
        let (before, after) = self.signed.split_at(40);
        crc32c::crc32c_append(crc32c::crc32c(before), &after[4..])
    }
}

/// A `node_announcement` where it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeView<'a> {
    pub signature: &'a SignatureBytes,
    pub features: &'a [u8],
    pub timestamp: u32,
    pub node_id: &'a KeyBytes,
    pub rgb_color: &'a [u8; 3],
    pub alias: &'a [u8; 32],
    pub addresses: &'a [u8],
    signed: &'a [u8],
}

impl<'a> NodeView<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<NodeView<'a>, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.take(2)?;
        let signature = chunk(&mut reader)?;
        let signed = reader.take_rest();
        let mut reader = Reader::new(signed);
        Ok(NodeView {
            signature,
            features: reader.bytes_u16()?,
            timestamp: u32::from_be_bytes(reader.array()?),
            node_id: chunk(&mut reader)?,
            rgb_color: chunk(&mut reader)?,
            alias: chunk(&mut reader)?,
            addresses: reader.bytes_u16()?,
            signed,
        })
    }

    pub fn digest(&self) -> Digest {
        digest(self.signed)
    }
}

fn digest(signed: &[u8]) -> Digest {
    Digest::from_digest(sha256d::Hash::hash(signed).to_byte_array())
}

fn chunk<'a, const N: usize>(reader: &mut Reader<'a>) -> Result<&'a [u8; N], DecodeError> {
    let bytes = reader.take(N)?;
    bytes.first_chunk().ok_or(DecodeError::TooShort)
}
