//! Two ends of a channel: keys, terms, and what either keeps of any pair of commitments that a test wants.

use std::sync::OnceLock;

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxIn, TxOut};
use channeld::keys::{ChannelKeyId, ReceivedSecrets, Signer, Words};
use channeld::onchain::{ClosedChannel, LocalCommitment, RemoteCommitment};
use channeld::transactions::{
    ClosingSpec, ClosingTransaction, CommitmentFormat, CommitmentParameters, CommitmentSpec, CommitmentTerms,
    CommitmentTransaction, Funding, Htlc, HtlcDirection, HtlcHistory, HtlcTransaction, TransactionKeys,
};
use channeld::units::{CltvDelta, CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcId, Msat, Preimage};
use secp256k1::ecdsa::Signature;

use crate::ground::{Ground, wallet_script, wallet_witness};

/// One end. Alice opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Alice,
    Bob,
}

pub const BOTH: [Side; 2] = [Side::Alice, Side::Bob];

impl Side {
    pub fn other(self) -> Side {
        match self {
            Side::Alice => Side::Bob,
            Side::Bob => Side::Alice,
        }
    }
}

/// What the two agreed on.
#[derive(Clone)]
pub struct Terms {
    pub format: CommitmentFormat,
    pub capacity: Amount,
    /// Of Alice's commitments and of Bob's.
    pub dust_limits: [u64; 2],
    /// `to_self_delay` of Alice's commitments and of Bob's.
    pub delays: [u16; 2],
}

impl Terms {
    pub fn new(format: CommitmentFormat) -> Terms {
        Terms { format, capacity: Amount::from_sat(1_000_000), dust_limits: [354, 546], delays: [10, 9] }
    }
}

/// An HTLC in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Add {
    pub by: Side,
    pub id: u64,
    pub msat: u64,
    pub seed: u8,
    pub expiry: u32,
}

impl Add {
    pub fn preimage(&self) -> Preimage {
        preimage(self.seed)
    }

    /// As `broadcaster`'s commitments see it.
    pub fn on(&self, broadcaster: Side) -> Htlc {
        Htlc {
            direction: if self.by == broadcaster { HtlcDirection::Offered } else { HtlcDirection::Received },
            id: HtlcId::new(self.id),
            amount: Msat::new(self.msat),
            payment_hash: self.preimage().payment_hash(),
            cltv_expiry: CltvExpiry::new(self.expiry),
        }
    }

    /// A row of what the other side keeps for penalties against `broadcaster`.
    pub fn history(&self, broadcaster: Side, first: u64, last: Option<u64>) -> HtlcHistory {
        let (first, last) = (CommitmentNumber::new(first), last.map(CommitmentNumber::new));
        HtlcHistory { htlc: self.on(broadcaster), first, last }
    }
}

/// The preimage that tests know by a byte.
pub fn preimage(seed: u8) -> Preimage {
    Preimage([seed; 32])
}

/// What a commitment says, whoever's it is.
#[derive(Clone, Debug)]
pub struct State {
    pub number: u64,
    /// Alice's balance and Bob's, HTLCs apart, in millisatoshi.
    pub balances: [u64; 2],
    pub htlcs: Vec<Add>,
    pub feerate: u32,
}

/// A channel whose funding output is on the chain.
pub struct Contract {
    pub terms: Terms,
    pub funding: Funding,
    /// Tells the scripts of one test from those of the next on the same chain.
    pub tag: u32,
}

fn signers() -> &'static [Signer; 2] {
    static SIGNERS: OnceLock<[Signer; 2]> = OnceLock::new();
    SIGNERS.get_or_init(|| [1, 2].map(|seed| Signer::new(&Words::from_entropy(&[seed; 32]).seed())))
}

/// A side's keys.
pub fn signer(side: Side) -> (&'static Signer, ChannelKeyId) {
    (&signers()[side as usize], ChannelKeyId([3 + side as u8; 32]))
}

/// Where one side's claims go.
pub fn sweep_script(side: Side, tag: u32) -> ScriptBuf {
    let mut program = [side as u8 + 1; 20];
    program[..4].copy_from_slice(&tag.to_be_bytes());
    ScriptBuf::from_bytes([&[0, 20][..], &program].concat())
}

impl Contract {
    /// The script of the funding output.
    pub fn funding_script() -> ScriptBuf {
        let keys = BOTH.map(|side| signer(side).0.basepoints(&signer(side).1).funding_pubkey);
        Funding::script_pubkey_of(&keys[0], &keys[1])
    }

    pub fn new(terms: Terms, outpoint: OutPoint, tag: u32) -> Contract {
        let keys = BOTH.map(|side| signer(side).0.basepoints(&signer(side).1).funding_pubkey);
        let funding = Funding::new(outpoint, terms.capacity, keys[0], keys[1]);
        Contract { terms, funding, tag }
    }

    pub fn parameters(&self, broadcaster: Side) -> CommitmentParameters {
        let basepoints = |side: Side| signer(side).0.basepoints(&signer(side).1);
        CommitmentParameters::new(CommitmentTerms {
            format: self.terms.format,
            funding: self.funding.clone(),
            broadcaster: basepoints(broadcaster),
            countersignatory: basepoints(broadcaster.other()),
            broadcaster_is_opener: broadcaster == Side::Alice,
            to_self_delay: CltvDelta::new(self.terms.delays[broadcaster as usize]),
            dust_limit: Amount::from_sat(self.terms.dust_limits[broadcaster as usize]),
        })
    }

    pub fn spec(&self, broadcaster: Side, state: &State) -> CommitmentSpec {
        CommitmentSpec {
            number: CommitmentNumber::new(state.number),
            to_broadcaster: Msat::new(state.balances[broadcaster as usize]),
            to_countersignatory: Msat::new(state.balances[broadcaster.other() as usize]),
            feerate: FeeratePerKw::new(state.feerate),
            htlcs: state.htlcs.iter().map(|add| add.on(broadcaster)).collect(),
        }
    }

    pub fn commitment(&self, broadcaster: Side, state: &State) -> CommitmentTransaction {
        let parameters = self.parameters(broadcaster);
        let (signer, id) = signer(broadcaster);
        let point = signer.per_commitment_point(&id, CommitmentNumber::new(state.number));
        let keys = TransactionKeys::derive(&parameters, &point);
        CommitmentTransaction::build(&parameters, keys, &self.spec(broadcaster, state))
    }

    /// A commitment with both signatures, as its broadcaster keeps it.
    pub fn signed(&self, broadcaster: Side, state: &State) -> Transaction {
        let (commitment, parameters) = (self.commitment(broadcaster, state), self.parameters(broadcaster));
        let (other, other_id) = signer(broadcaster.other());
        let signatures = commitment.sign(&parameters, other, &other_id);
        let (signer, id) = signer(broadcaster);
        commitment.signed(&parameters, signer, &id, &signatures.commitment)
    }

    /// What `side` keeps: its commitment, the peer's, and the one that it has signed beyond that.
    pub fn closed(&self, side: Side, local: &State, remote: &State, next: Option<&State>) -> ClosedChannel {
        let (other, other_id) = signer(side.other());
        let mut secrets = ReceivedSecrets::new();
        for number in (0..remote.number).map(CommitmentNumber::new) {
            secrets.insert(number, other.per_commitment_secret(&other_id, number)).expect("in order");
        }
        let commitment = self.commitment(side, local);
        let remote_commitment = |state: &State| RemoteCommitment {
            spec: self.spec(side.other(), state),
            point: other.per_commitment_point(&other_id, CommitmentNumber::new(state.number)),
        };
        ClosedChannel {
            key_id: signer(side).1,
            local: self.parameters(side),
            remote: self.parameters(side.other()),
            local_commitment: LocalCommitment {
                spec: self.spec(side, local),
                point: *commitment.keys().per_commitment_point(),
                signatures: commitment.sign(&self.parameters(side), other, &other_id),
            },
            remote_commitment: remote_commitment(remote),
            next_remote_commitment: next.map(remote_commitment),
            secrets,
            shutdown_scripts: BOTH.map(|side| sweep_script(side, self.tag)).to_vec(),
            sweep_script: sweep_script(side, self.tag),
        }
    }

    /// A mutual close that both have signed.
    pub fn mutual_close(&self, to_alice: u64, fee: u64) -> Transaction {
        let capacity = self.terms.capacity.to_sat();
        let spec = ClosingSpec {
            to_opener: Msat::new(to_alice * 1_000),
            to_accepter: Msat::new((capacity - to_alice) * 1_000),
            opener_script: sweep_script(Side::Alice, self.tag),
            accepter_script: sweep_script(Side::Bob, self.tag),
            fee: Amount::from_sat(fee),
            dust_limit: Amount::from_sat(354),
        };
        let closing = ClosingTransaction::build(&self.funding, &spec).expect("it pays somebody");
        let [alice, bob] =
            BOTH.map(|side| signer(side).0.sign_funding(&signer(side).1, closing.sighash(&self.funding)));
        let pubkey = signer(Side::Alice).0.basepoints(&signer(Side::Alice).1).funding_pubkey;
        closing.with_signatures(&self.funding, &pubkey, &alice, &bob)
    }

    fn second_stages(&self, side: Side, state: &State, add: &Add) -> (HtlcTransaction, Signature) {
        let (commitment, parameters) = (self.commitment(side, state), self.parameters(side));
        let (other, other_id) = signer(side.other());
        let signatures = commitment.sign(&parameters, other, &other_id);
        let is_it = |htlc: &Htlc| *htlc == add.on(side);
        let index = commitment.htlcs().iter().position(|it| is_it(&it.htlc)).expect("the HTLC has an output");
        (commitment.htlc_transaction(&parameters, index), signatures.htlcs[index])
    }

    fn sign_second_stage(
        &self,
        side: Side,
        state: &State,
        second: &HtlcTransaction,
        whole: &Transaction,
        at: usize,
    ) -> Signature {
        let (signer, id) = signer(side);
        let point = signer.per_commitment_point(&id, CommitmentNumber::new(state.number));
        signer.sign_htlc(&id, &point, second.broadcaster_sighash(whole, at))
    }

    /// The second stage of some HTLCs as a cheater makes it: behind a coin of its own where the format has anchors.
    pub fn second_stage(&self, ground: &mut Ground, side: Side, state: &State, adds: &[Add]) -> Transaction {
        let stages: Vec<_> = adds.iter().map(|add| self.second_stages(side, state, add)).collect();
        let mut whole = stages[0].0.transaction().clone();
        if self.terms.format.has_anchors() {
            let (coin, value) = ground.coin();
            whole.input = vec![TxIn { previous_output: coin, witness: wallet_witness(None), ..TxIn::default() }];
            let value = value - Amount::from_sat(5_000);
            whole.output = vec![TxOut { value, script_pubkey: wallet_script(None) }];
            for (second, _) in &stages {
                whole.input.extend(second.transaction().input.iter().cloned());
                whole.output.extend(second.transaction().output.iter().cloned());
                whole.lock_time = whole.lock_time.max_of(second.transaction().lock_time);
            }
        }
        let (unsigned, first) = (whole.clone(), whole.input.len() - stages.len());
        for (at, ((second, theirs), add)) in (first..).zip(stages.iter().zip(adds)) {
            let own = self.sign_second_stage(side, state, second, &unsigned, at);
            let preimage = (add.by != side).then(|| add.preimage());
            whole.input[at].witness = second.witness(theirs, &own, preimage.as_ref());
        }
        whole
    }
}

trait Later {
    fn max_of(self, other: Self) -> Self;
}

impl Later for bitcoin::absolute::LockTime {
    fn max_of(self, other: Self) -> Self {
        if self.to_consensus_u32() >= other.to_consensus_u32() { self } else { other }
    }
}
