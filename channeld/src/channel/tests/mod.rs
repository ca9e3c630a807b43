//! Two machines joined in memory. After every step the state is compared with the fold of the stored deltas, and both
//! machines' money is counted (the machine's own invariants do that in `apply`).

mod bolt;
mod close;
mod disorder;
mod failure;
mod hostile;
mod load;
mod normal;
mod open;
mod random;
mod reestablish;
mod refusal;
mod transfer;
mod violation;

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;

use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_PUSHBYTES_0;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid};

use super::*;
use crate::commitment::{Side, View};
use crate::keys::{ChannelKeyId, Signer, Words};
use crate::transactions::CommitmentFormat;
use crate::units::{
    BlockHeight, ChannelId, CltvExpiry, FeeratePerKw, HtlcId, Msat, NodeId, PaymentHash, Preimage, ShortChannelId,
};
use crate::wire::{CommitmentSigned, Message, OnionRoutingPacket};

/// The amount that all test channels hold.
pub(super) const FUNDING: Amount = Amount::from_sat(1_000_000);

/// What all test sessions know.
pub(super) const FEATURES: SessionFeatures = SessionFeatures {
    upfront_shutdown_script: true,
    any_segwit: true,
    anchors: true,
    large_channels: true,
    dual_fund: false,
    transfers: true,
    scid_alias: true,
};

/// One side.
pub(super) struct Node {
    pub signer: &'static Signer,
    pub policy: Policy,
    pub height: BlockHeight,
    pub channel: Channel,
    /// The fold of what was stored.
    disk: Channel,
    /// Sent and not delivered.
    pub outbox: VecDeque<Message>,
    /// All other effects.
    pub effects: Vec<Effect>,
    pub rows: Vec<crate::commitment::PenaltyRow>,
    pub steps: usize,
    connected: bool,
    /// Memory is compared with the disk after each step.
    pub checked: bool,
    /// What was signed for each number of the peer's commitments.
    signed: BTreeMap<u64, CommitmentSigned>,
}

fn signer(which: u8) -> &'static Signer {
    static SIGNERS: [OnceLock<Signer>; 2] = [OnceLock::new(), OnceLock::new()];
    SIGNERS[usize::from(which)].get_or_init(|| Signer::new(&Words::from_entropy(&[which + 1; 32]).seed()))
}

pub(super) fn stored<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    postcard::from_bytes(&postcard::to_allocvec(value).expect("it serializes")).expect("it deserializes")
}

pub(super) fn close_script(byte: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([byte; 20]))
}

impl Node {
    pub(super) fn new(which: u8, policy: Policy, channel: Channel, effects: Vec<Effect>) -> Node {
        let disk = stored(&channel);
        let mut node = Node {
            signer: signer(which),
            policy,
            height: BlockHeight::new(100),
            channel,
            disk,
            outbox: VecDeque::new(),
            effects: Vec::new(),
            rows: Vec::new(),
            steps: 0,
            connected: true,
            checked: true,
            signed: BTreeMap::new(),
        };
        node.take(effects);
        node
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            signer: self.signer,
            chain_hash: ChainHash::REGTEST,
            height: self.height,
            close_feerate: FeeratePerKw::new(1_000),
            policy: &self.policy,
        }
    }

    pub(super) fn try_step(&mut self, input: Input) -> Result<(), Error> {
        self.connected = match &input {
            Input::Connected(_) => true,
            Input::Disconnected => false,
            _ => self.connected,
        };
        let (delta, effects) = self.channel.decide(input, &self.context())?;
        self.channel.apply(&delta);
        let delta = stored(&delta);
        if self.checked {
            self.disk.apply(&delta);
            assert!(self.disk == self.channel, "memory is not what the deltas make of the disk");
        }
        self.rows.extend(delta.penalty_rows);
        self.take(effects);
        self.steps += 1;
        Ok(())
    }

    pub(super) fn step(&mut self, input: Input) {
        if let Err(error) = self.try_step(input) {
            panic!("{error}");
        }
    }

    pub(super) fn command(&mut self, command: Command) -> Result<(), Error> {
        self.try_step(Input::Command(command))
    }

    /// A crash and a restart: what is on the disk is all there is.
    pub(super) fn restart(&mut self) {
        self.channel = stored(&self.disk);
        self.disk = stored(&self.channel);
        self.outbox.clear();
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(message) => {
                    self.assert_safe(&message);
                    if self.connected {
                        let decoded = Message::decode(&message.encode()).expect("what we send decodes");
                        assert_eq!(decoded, message);
                        self.outbox.push_back(decoded);
                    }
                }
                effect => self.effects.push(effect),
            }
        }
    }

    /// DESIGN.md: no two signatures for different commitments of one number; no secret given before its successor is there.
    fn assert_safe(&mut self, message: &Message) {
        let Some(commitments) = self.channel.commitments() else { return };
        match message {
            Message::CommitmentSigned(message) => {
                let number = commitments.number(View::RemoteSigned).number();
                let first = self.signed.entry(number).or_insert_with(|| message.clone());
                assert_eq!(first, message, "two signatures for commitment {number}");
            }
            Message::RevokeAndAck(message) => {
                let revoked = commitments.local_number.previous().expect("commitment 0 has a successor");
                let secret = self.signer.per_commitment_secret(&self.channel.keys_id, revoked);
                assert_eq!(secret.as_bytes(), &message.per_commitment_secret.0, "only the last revoked one is shown");
            }
            _ => {}
        }
    }

    pub(super) fn commitments(&self) -> &Commitments {
        self.channel.commitments().expect("funded")
    }

    pub(super) fn funded(&self) -> &Funded {
        self.channel.funded().expect("funded")
    }

    pub(super) fn balance(&self) -> Msat {
        self.commitments().tally(View::LocalCurrent).local
    }

    /// Takes the effects that `of` maps to something.
    pub(super) fn taken<T>(&mut self, of: impl Fn(&Effect) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        self.effects.retain(|effect| match of(effect) {
            Some(value) => {
                found.push(value);
                false
            }
            None => true,
        });
        found
    }

    pub(super) fn broadcasts(&mut self) -> Vec<Transaction> {
        let packages = self.taken(|effect| match effect {
            Effect::Broadcast(package) => Some(package.clone()),
            _ => None,
        });
        packages.concat()
    }

    /// Offers an HTLC with the preimage `byte`.
    pub(super) fn add(&mut self, msat: u64, byte: u8) -> Result<HtlcId, Error> {
        let id = self.commitments().next_outgoing;
        self.command(Command::AddHtlc {
            amount: Msat::new(msat),
            payment_hash: Preimage([byte; 32]).payment_hash(),
            cltv_expiry: CltvExpiry::new(200),
            onion: OnionRoutingPacket::new([byte; 1_366]),
            path_key: None,
        })?;
        Ok(id)
    }

    pub(super) fn fulfil(&mut self, id: HtlcId, byte: u8) -> Result<(), Error> {
        self.command(Command::FulfillHtlc { id, preimage: Preimage([byte; 32]), attribution_data: None })
    }

    pub(super) fn fail(&mut self, id: HtlcId) -> Result<(), Error> {
        self.command(Command::FailHtlc { id, reason: vec![7; 292], attribution_data: None })
    }

    /// The incoming HTLCs that wait for an answer.
    pub(super) fn incoming(&mut self) -> Vec<HtlcId> {
        self.taken(|effect| match effect {
            Effect::IncomingHtlc { offer, .. } => Some(offer.id),
            _ => None,
        })
    }
}

/// Two sides of a channel: `a` opened it.
pub(super) struct Pair {
    pub a: Node,
    pub b: Node,
    pub delivered: usize,
}

pub(super) fn request(format: CommitmentFormat, push: u64) -> OpenRequest {
    OpenRequest {
        peer: NodeId(signer(1).node_id()),
        keys_id: ChannelKeyId([11; 32]),
        temporary_channel_id: ChannelId([13; 32]),
        alias: ShortChannelId::from_u64(17),
        funding: FUNDING,
        push: Msat::new(push),
        announce: false,
        format,
        feerate: FeeratePerKw::new(1_000),
        close_script: close_script(1),
        upfront_shutdown_script: false,
        features: FEATURES,
    }
}

pub(super) fn accept_request() -> AcceptRequest {
    AcceptRequest {
        peer: NodeId(signer(0).node_id()),
        keys_id: ChannelKeyId([12; 32]),
        alias: ShortChannelId::from_u64(18),
        close_script: close_script(2),
        upfront_shutdown_script: false,
        features: FEATURES,
    }
}

pub(super) fn bare_context(which: u8, policy: &Policy) -> Context<'_> {
    Context {
        signer: signer(which),
        chain_hash: ChainHash::REGTEST,
        height: BlockHeight::new(100),
        close_feerate: FeeratePerKw::new(1_000),
        policy,
    }
}

impl Pair {
    /// `open_channel` and `accept_channel` sent, the latter not delivered.
    pub(super) fn opening(format: CommitmentFormat, push: u64, policies: [Policy; 2]) -> Pair {
        let [policy_a, policy_b] = policies;
        let (channel, effects) = Channel::open(request(format, push), &bare_context(0, &policy_a)).expect("opens");
        let mut a = Node::new(0, policy_a, channel, effects);
        let Some(Message::OpenChannel(message)) = a.outbox.pop_front() else { panic!("open_channel is sent") };
        let (channel, effects) =
            Channel::accept(&message, accept_request(), &bare_context(1, &policy_b)).expect("accepts");
        let b = Node::new(1, policy_b, channel, effects);
        Pair { a, b, delivered: 0 }
    }

    /// Ready for payments.
    pub(super) fn open(format: CommitmentFormat) -> Pair {
        Pair::open_with(format, 500_000_000, [Policy::default(), Policy::default()])
    }

    pub(super) fn anchors() -> Pair {
        Pair::open(CommitmentFormat::Anchors)
    }

    pub(super) fn open_with(format: CommitmentFormat, push: u64, policies: [Policy; 2]) -> Pair {
        let mut pair = Pair::opening(format, push, policies);
        pair.fund();
        pair.confirm();
        pair.run();
        assert!(pair.a.channel.is_usable() && pair.b.channel.is_usable());
        pair.a.effects.clear();
        pair.b.effects.clear();
        pair.delivered = 0;
        pair
    }

    /// Until the opener may broadcast the funding transaction.
    pub(super) fn fund(&mut self) {
        self.run();
        self.a.step(Input::Command(Command::FundingBuilt { outpoint: outpoint() }));
        self.run();
        assert!(self.a.effects.contains(&Effect::BroadcastFunding { outpoint: outpoint() }));
    }

    pub(super) fn confirm(&mut self) {
        let confirmed =
            Input::FundingDepth { depth: 6, short_channel_id: ShortChannelId::new(101, 1, 1).expect("in range") };
        self.a.step(confirmed.clone());
        self.b.step(confirmed);
    }

    pub(super) fn side(&mut self, side: usize) -> &mut Node {
        if side == 0 { &mut self.a } else { &mut self.b }
    }

    /// Delivers the oldest message of one side; says whether there was one.
    pub(super) fn try_deliver(&mut self, from: usize) -> Result<bool, Error> {
        let Some(message) = self.side(from).outbox.pop_front() else { return Ok(false) };
        self.delivered += 1;
        self.side(1 - from).try_step(Input::Message(message)).map(|()| true)
    }

    pub(super) fn deliver(&mut self, from: usize) -> bool {
        match self.try_deliver(from) {
            Ok(any) => any,
            Err(error) => panic!("from {from}: {error}"),
        }
    }

    /// Seals both sides; says whether anything was signed.
    pub(super) fn seal(&mut self) -> bool {
        let before = self.a.outbox.len() + self.b.outbox.len();
        self.a.step(Input::Seal);
        self.b.step(Input::Seal);
        self.a.outbox.len() + self.b.outbox.len() > before
    }

    /// Delivers and seals until nothing is left to do.
    pub(super) fn run(&mut self) {
        self.run_at_most(usize::MAX);
    }

    /// The same, with at most so many messages delivered; says whether it came to an end.
    pub(super) fn run_at_most(&mut self, messages: usize) -> bool {
        let end = self.delivered.saturating_add(messages);
        loop {
            let sealed = self.seal();
            let mut any = false;
            for from in [0, 1] {
                if self.delivered >= end {
                    return false;
                }
                any |= self.deliver(from);
            }
            if !sealed && !any {
                return true;
            }
        }
    }

    /// The connection goes, with all that is on it.
    pub(super) fn disconnect(&mut self) {
        for side in [0, 1] {
            let node = self.side(side);
            node.outbox.clear();
            node.step(Input::Disconnected);
            node.outbox.clear();
        }
    }

    pub(super) fn reconnect(&mut self) {
        self.a.step(Input::Connected(FEATURES));
        self.b.step(Input::Connected(FEATURES));
    }

    /// Nothing is on its way: both sides see the same commitments.
    pub(super) fn assert_level(&self) {
        let (a, b) = (self.a.commitments(), self.b.commitments());
        assert_eq!((a.local_number, a.remote_number), (b.remote_number, b.local_number));
        for (one, other) in [(View::LocalCurrent, View::RemoteCurrent), (View::RemoteCurrent, View::LocalCurrent)] {
            let (x, y) = (a.tally(one), b.tally(other));
            assert_eq!((x.local, x.remote, x.feerate), (y.remote, y.local, y.feerate));
            assert_eq!((x.outgoing, x.incoming, x.untrimmed), (y.incoming, y.outgoing, y.untrimmed));
        }
        assert_eq!(a.next_outgoing, b.next_incoming);
        assert_eq!(a.next_incoming, b.next_outgoing);
        assert_eq!(a.outgoing_transfers.next_id, b.incoming_transfers.next_id);
        assert_eq!(a.incoming_transfers.next_id, b.outgoing_transfers.next_id);
    }
}

pub(super) fn outpoint() -> OutPoint {
    OutPoint::new(Txid::from_byte_array([9; 32]), 1)
}

pub(super) fn hash(byte: u8) -> PaymentHash {
    Preimage([byte; 32]).payment_hash()
}

/// A script that no mutual close may pay to.
pub(super) fn bad_script() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![OP_PUSHBYTES_0.to_u8(); 3])
}
