//! Two ends of a channel with three states, and a resolver for each.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid};
use channeld::keys::{ChannelKeyId, ReceivedSecrets, Signer, Words};
use channeld::onchain::{
    CloseKind, ClosedChannel, Context, Effect, Feerates, HtlcKey, HtlcOutcome, LocalCommitment, RemoteCommitment,
    Resolver, Settings,
};
use channeld::transactions::{
    ClosingSpec, ClosingTransaction, CommitmentFormat, CommitmentParameters, CommitmentSpec, CommitmentTerms,
    CommitmentTransaction, Funding, Htlc, HtlcDirection, HtlcHistory, HtlcTransaction, TransactionKeys,
};
use channeld::units::{BlockHeight, CltvDelta, CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcId, Msat, Preimage};
use secp256k1::ecdsa::Signature;

use super::world::{World, wallet_script, wallet_witness};

/// What the funding output holds.
pub const CAPACITY: Amount = Amount::from_sat(1_000_000);
/// `to_self_delay` of both.
pub const DELAY: u16 = 40;
/// What blocks cost.
pub const FEERATES: Feerates =
    Feerates { urgent: FeeratePerKw::new(2_000), normal: FeeratePerKw::new(1_000), relaxed: FeeratePerKw::new(500) };
const COMMITMENT_FEERATE: FeeratePerKw = FeeratePerKw::new(300);
const EXPIRY: u32 = 160;

/// One end. Alice opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Alice,
    Bob,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Alice => Side::Bob,
            Side::Bob => Side::Alice,
        }
    }
}

/// The preimage of one of the HTLCs: 10 and 11 are Alice's, 20 and 21 Bob's; the even ones are known to their receiver.
pub fn preimage(seed: u8) -> Preimage {
    Preimage([seed; 32])
}

/// Both ends' keys and terms. State 0 has no HTLC, state 1 four, state 2 none again.
pub struct Channel {
    format: CommitmentFormat,
    signers: [Signer; 2],
    ids: [ChannelKeyId; 2],
    funding: Funding,
    /// The state that was asked for last.
    state: Cell<u64>,
}

/// A resolver, and what its node was told.
pub struct Party {
    pub signer: Signer,
    pub resolver: Resolver,
    /// The fold of all deltas, as they would be read from a disk.
    pub stored: Resolver,
    pub outcomes: BTreeMap<HtlcKey, HtlcOutcome>,
    pub swept: Amount,
    pub sweeps: BTreeSet<OutPoint>,
    pub funded: usize,
    pub abandoned: usize,
    /// What was said to be final.
    pub buried: Vec<CloseKind>,
    pub history: Vec<HtlcHistory>,
}

impl Party {
    pub fn context(&self) -> Context<'_> {
        Context { signer: &self.signer, feerates: FEERATES, settings: Settings::default() }
    }

    pub fn note(&mut self, effect: &Effect) {
        match effect {
            Effect::HtlcResolved { key, outcome, payment_hash } => {
                if let HtlcOutcome::Fulfilled(preimage) = outcome {
                    assert_eq!(preimage.payment_hash(), *payment_hash);
                }
                assert_eq!(self.outcomes.insert(*key, *outcome), None, "an HTLC ends once");
            }
            Effect::OutputSwept { outpoint, amount, .. } => {
                self.swept += *amount;
                self.sweeps.insert(*outpoint);
            }
            Effect::Abandoned(_) => self.abandoned += 1,
            Effect::Undone => {
                self.swept = Amount::ZERO;
                self.sweeps.clear();
            }
            Effect::Fund(_) => self.funded += 1,
            Effect::Broadcast(_) | Effect::Watch(_) => {}
            Effect::Buried { kind } => self.buried.push(*kind),
            Effect::Closed { .. } | Effect::Resolved { .. } => {}
        }
    }

    /// What still lies on outputs that the resolver watches, anchors apart.
    pub fn unclaimed(&self, world: &World) -> Amount {
        let watched = self.resolver.watched(&self.context());
        let amounts = watched.iter().filter_map(|outpoint| world.unspent(outpoint)).map(|output| output.value);
        amounts.filter(|amount| amount.to_sat() != 330).sum()
    }
}

impl Channel {
    pub fn new(format: CommitmentFormat) -> Channel {
        let signers = [1, 2].map(|seed| Signer::new(&Words::from_entropy(&[seed; 32]).seed()));
        let ids = [ChannelKeyId([3; 32]), ChannelKeyId([4; 32])];
        let keys = [0, 1].map(|side| signers[side].basepoints(&ids[side]).funding_pubkey);
        let outpoint = OutPoint { txid: Txid::from_byte_array([5; 32]), vout: 1 };
        let funding = Funding::new(outpoint, CAPACITY, keys[0], keys[1]);
        Channel { format, signers, ids, funding, state: Cell::new(0) }
    }

    pub fn funding(&self) -> &Funding {
        &self.funding
    }

    pub fn has_anchors(&self) -> bool {
        self.format.has_anchors()
    }

    fn parameters(&self, broadcaster: Side) -> CommitmentParameters {
        let basepoints = |side: Side| self.signers[side as usize].basepoints(&self.ids[side as usize]);
        CommitmentParameters::new(CommitmentTerms {
            format: self.format,
            funding: self.funding.clone(),
            broadcaster: basepoints(broadcaster),
            countersignatory: basepoints(broadcaster.other()),
            broadcaster_is_opener: broadcaster == Side::Alice,
            to_self_delay: CltvDelta::new(DELAY),
            dust_limit: Amount::from_sat(354),
        })
    }

    /// The opener's fee and anchors in a state.
    pub fn opener_cost_of(&self, state: u64) -> Amount {
        self.format.opener_cost(COMMITMENT_FEERATE, if state == 1 { 4 } else { 0 })
    }

    /// What Alice pays in the state that her tests end in: 1 where it has HTLCs, else 2; the same number of outputs.
    pub fn opener_cost(&self) -> Amount {
        self.opener_cost_of(self.state.get())
    }

    /// What an HTLC transaction pays itself.
    pub fn htlc_fee(&self, direction: HtlcDirection) -> Amount {
        self.format.htlc_fee(direction, COMMITMENT_FEERATE)
    }

    /// One side's balance in a state, HTLCs apart.
    pub fn balance(&self, side: Side, state: u64) -> Amount {
        Amount::from_sat(match (state, side) {
            (0, _) => 500_000,
            (1, Side::Alice) => 500_000 - 30_000 - 31_000,
            (1, Side::Bob) => 500_000 - 40_000 - 41_000,
            (_, Side::Alice) => 700_000,
            (_, Side::Bob) => 300_000,
        })
    }

    fn htlcs(&self, broadcaster: Side, state: u64) -> Vec<Htlc> {
        let htlc = |by: Side, id: u64, sat: u64, seed: u8, expiry: u32| Htlc {
            direction: if by == broadcaster { HtlcDirection::Offered } else { HtlcDirection::Received },
            id: HtlcId::new(id),
            amount: Msat::new(sat * 1_000),
            payment_hash: preimage(seed).payment_hash(),
            cltv_expiry: CltvExpiry::new(expiry),
        };
        if state != 1 {
            return Vec::new();
        }
        vec![
            htlc(Side::Alice, 0, 30_000, 10, EXPIRY),
            htlc(Side::Alice, 1, 31_000, 11, EXPIRY + 1),
            htlc(Side::Bob, 0, 40_000, 20, EXPIRY),
            htlc(Side::Bob, 1, 41_000, 21, EXPIRY + 1),
        ]
    }

    fn spec(&self, broadcaster: Side, state: u64) -> CommitmentSpec {
        let msat = |amount: Amount| Msat::from_amount(amount).expect("small");
        CommitmentSpec {
            number: CommitmentNumber::new(state),
            to_broadcaster: msat(self.balance(broadcaster, state)),
            to_countersignatory: msat(self.balance(broadcaster.other(), state)),
            feerate: COMMITMENT_FEERATE,
            htlcs: self.htlcs(broadcaster, state),
        }
    }

    fn signer(&self, side: Side) -> (&Signer, &ChannelKeyId) {
        (&self.signers[side as usize], &self.ids[side as usize])
    }

    fn commitment(&self, broadcaster: Side, state: u64) -> CommitmentTransaction {
        let parameters = self.parameters(broadcaster);
        let (signer, id) = self.signer(broadcaster);
        let point = signer.per_commitment_point(id, CommitmentNumber::new(state));
        CommitmentTransaction::build(
            &parameters,
            TransactionKeys::derive(&parameters, &point),
            &self.spec(broadcaster, state),
        )
    }

    /// A commitment with both signatures, as its broadcaster keeps it.
    pub fn signed_commitment(&self, broadcaster: Side, state: u64) -> Transaction {
        let (commitment, parameters) = (self.commitment(broadcaster, state), self.parameters(broadcaster));
        let (other, other_id) = self.signer(broadcaster.other());
        let signatures = commitment.sign(&parameters, other, other_id);
        let (signer, id) = self.signer(broadcaster);
        commitment.signed(&parameters, signer, id, &signatures.commitment)
    }

    pub fn mutual_close(&self) -> Transaction {
        let spec = ClosingSpec {
            to_opener: Msat::new(700_000_000),
            to_accepter: Msat::new(300_000_000),
            opener_script: sweep_script(Side::Alice),
            accepter_script: sweep_script(Side::Bob),
            fee: Amount::from_sat(500),
            dust_limit: Amount::from_sat(354),
        };
        let closing = ClosingTransaction::build(&self.funding, &spec).expect("two outputs");
        let signature = |side: Side| {
            let (signer, id) = self.signer(side);
            signer.sign_funding(id, closing.sighash(&self.funding))
        };
        let (alice, bob) = (signature(Side::Alice), signature(Side::Bob));
        let (signer, id) = self.signer(Side::Alice);
        let pubkey = signer.basepoints(id).funding_pubkey;
        assert!(closing.verifies(&self.funding, &pubkey, &alice));
        closing.with_signatures(&self.funding, &pubkey, &alice, &bob)
    }

    fn closed(&self, side: Side, state: u64, next: Option<u64>) -> ClosedChannel {
        let (other, other_id) = self.signer(side.other());
        let mut secrets = ReceivedSecrets::new();
        for number in (0..state).map(CommitmentNumber::new) {
            secrets.insert(number, other.per_commitment_secret(other_id, number)).expect("in order");
        }
        let commitment = self.commitment(side, state);
        let remote = |state| RemoteCommitment {
            spec: self.spec(side.other(), state),
            point: other.per_commitment_point(other_id, CommitmentNumber::new(state)),
        };
        ClosedChannel {
            key_id: self.ids[side as usize],
            local: self.parameters(side),
            remote: self.parameters(side.other()),
            local_commitment: LocalCommitment {
                spec: self.spec(side, state),
                point: *commitment.keys().per_commitment_point(),
                signatures: commitment.sign(&self.parameters(side), other, other_id),
            },
            remote_commitment: remote(state),
            next_remote_commitment: next.map(remote),
            secrets,
            shutdown_scripts: vec![sweep_script(Side::Alice), sweep_script(Side::Bob)],
            sweep_script: sweep_script(side),
        }
    }

    pub fn resolver(&self, side: Side, state: u64, tip: BlockHeight) -> Resolver {
        self.state.set(if state == 0 { 2 } else { state });
        Resolver::new(self.closed(side, state, None), &self.known(side), tip)
    }

    fn known(&self, side: Side) -> [Preimage; 1] {
        match side {
            Side::Alice => [preimage(20)],
            Side::Bob => [preimage(10)],
        }
    }

    pub fn party(&self, side: Side, state: u64) -> Party {
        self.party_of(side, self.resolver(side, state, World::START))
    }

    /// A party that has signed the peer's next state without having its revocation of this one.
    pub fn party_with_next(&self, side: Side, state: u64) -> Party {
        let closed = self.closed(side, state, Some(state + 1));
        self.party_of(side, Resolver::new(closed, &self.known(side), World::START))
    }

    fn party_of(&self, side: Side, resolver: Resolver) -> Party {
        let row = |htlc| HtlcHistory { htlc, first: CommitmentNumber::new(1), last: Some(CommitmentNumber::new(1)) };
        Party {
            signer: Signer::new(&Words::from_entropy(&[side as u8 + 1; 32]).seed()),
            stored: resolver.clone(),
            resolver,
            outcomes: BTreeMap::new(),
            swept: Amount::ZERO,
            sweeps: BTreeSet::new(),
            funded: 0,
            abandoned: 0,
            buried: Vec::new(),
            history: self.htlcs(side.other(), 1).into_iter().map(row).collect(),
        }
    }

    /// A cheater's HTLC transactions of a state, with the other side's signature and its own HTLC key.
    fn second_stages(
        &self,
        side: Side,
        state: u64,
        direction: HtlcDirection,
    ) -> Vec<(HtlcTransaction, Signature, u64)> {
        let (commitment, parameters) = (self.commitment(side, state), self.parameters(side));
        let (other, other_id) = self.signer(side.other());
        let signatures = commitment.sign(&parameters, other, other_id);
        (0..commitment.htlcs().len())
            .filter(|index| commitment.htlcs()[*index].htlc.direction == direction)
            .map(|index| {
                let id = commitment.htlcs()[index].htlc.id.id();
                (commitment.htlc_transaction(&parameters, index), signatures.htlcs[index], id)
            })
            .collect()
    }

    fn cheat_preimage(side: Side, id: u64) -> Preimage {
        preimage(if side == Side::Bob { 10 } else { 20 } + id as u8)
    }

    fn sign_second_stage(
        &self,
        side: Side,
        state: u64,
        second: &HtlcTransaction,
        whole: &Transaction,
        at: usize,
    ) -> Signature {
        let (signer, id) = self.signer(side);
        let point = signer.per_commitment_point(id, CommitmentNumber::new(state));
        signer.sign_htlc(id, &point, second.broadcaster_sighash(whole, at))
    }

    /// Each on its own: without anchors they carry their fee.
    pub fn htlc_transactions(&self, side: Side, state: u64, direction: HtlcDirection) -> Vec<Transaction> {
        let second_stages = self.second_stages(side, state, direction);
        second_stages
            .iter()
            .map(|(second, theirs, id)| {
                let own = self.sign_second_stage(side, state, second, second.transaction(), 0);
                let preimage = Self::cheat_preimage(side, *id);
                second.signed(theirs, &own, (direction == HtlcDirection::Received).then_some(&preimage))
            })
            .collect()
    }

    /// All in one transaction, behind a coin of the cheater's own.
    pub fn joined_htlc_transactions(
        &self,
        world: &mut World,
        side: Side,
        state: u64,
        direction: HtlcDirection,
    ) -> Transaction {
        let second_stages = self.second_stages(side, state, direction);
        let (coin, output) = world.coin();
        let mut joined = second_stages[0].0.transaction().clone();
        joined.input = vec![TxIn { previous_output: coin, witness: wallet_witness(), ..TxIn::default() }];
        joined.output = vec![TxOut { value: output.value - Amount::from_sat(2_000), script_pubkey: wallet_script() }];
        for (second, _, _) in second_stages.iter().rev() {
            joined.input.extend(second.transaction().input.iter().cloned());
            joined.output.extend(second.transaction().output.iter().cloned());
        }
        let unsigned = joined.clone();
        for (at, (second, theirs, id)) in (1..).zip(second_stages.iter().rev()) {
            let own = self.sign_second_stage(side, state, second, &unsigned, at);
            joined.input[at].witness = second.witness(theirs, &own, Some(&Self::cheat_preimage(side, *id)));
        }
        joined
    }
}

/// Where one side's claims go.
pub fn sweep_script(side: Side) -> ScriptBuf {
    ScriptBuf::from_bytes([&[0, 20][..], &[side as u8 + 1; 20]].concat())
}
