//! One node's part in a closed channel: its resolver, a wallet of open coins, and what it was told.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, BlockHash, OutPoint, Transaction, TxIn, TxOut};
use channeld::onchain::{
    CloseKind, ClosedChannel, Context, Effect, Feerates, FundRequest, HtlcKey, HtlcOutcome, Input, Resolver, Settings,
    relevant_transactions,
};
use channeld::transactions::HtlcHistory;
use channeld::units::{BlockHeight, FeeratePerKw, Preimage};
use tests::simulation::chain::Step;

use crate::contract::{Side, signer, sweep_script};
use crate::ground::{Ground, wallet_script, wallet_witness};

/// What blocks cost.
pub const FEERATES: Feerates =
    Feerates { urgent: FeeratePerKw::new(2_000), normal: FeeratePerKw::new(1_000), relaxed: FeeratePerKw::new(500) };

/// A node that has to do with one channel.
pub struct Party {
    pub side: Side,
    pub tag: u32,
    pub resolver: Resolver,
    /// The blocks that it has seen.
    tips: Vec<BlockHash>,
    /// What it keeps of HTLCs on revoked commitments.
    pub history: Vec<HtlcHistory>,
    pub outcomes: BTreeMap<HtlcKey, HtlcOutcome>,
    pub kinds: Vec<CloseKind>,
    pub buried: Vec<CloseKind>,
    pub abandoned: usize,
    pub funded: usize,
    /// The wallet's coins, spent or not.
    pub coins: Vec<OutPoint>,
    pub feerates: Feerates,
    /// Whether it is told of blocks.
    pub is_awake: bool,
    /// Everything that it ever broadcast, by id.
    pub said: BTreeMap<bitcoin::Txid, Transaction>,
}

impl Party {
    pub fn new(side: Side, tag: u32, closed: ClosedChannel, preimages: &[Preimage], ground: &Ground) -> Party {
        let resolver = Resolver::new(closed, preimages, BlockHeight::new(ground.height()));
        Party {
            side,
            tag,
            resolver,
            tips: vec![ground.world.tip()],
            history: Vec::new(),
            outcomes: BTreeMap::new(),
            kinds: Vec::new(),
            buried: Vec::new(),
            abandoned: 0,
            funded: 0,
            coins: Vec::new(),
            feerates: FEERATES,
            is_awake: true,
            said: BTreeMap::new(),
        }
    }

    pub fn context(&self) -> Context<'static> {
        Context { signer: signer(self.side).0, feerates: self.feerates, settings: Settings::default() }
    }

    pub fn kind(&self) -> Option<CloseKind> {
        self.resolver.confirmed().map(|(kind, _)| kind)
    }

    /// A restart: all that is left is what was written.
    pub fn restart(&mut self) {
        let bytes = postcard::to_allocvec(&self.resolver).expect("it encodes");
        let stored: Resolver = postcard::from_bytes(&bytes).expect("it decodes");
        assert!(stored == self.resolver);
        self.resolver = stored;
    }

    /// Sees the chain's blocks up to its tip, those that are gone first.
    pub fn follow(&mut self, ground: &mut Ground) {
        while let Some(step) = ground.world.next_step(self.tips.last().expect("it began somewhere")) {
            let height = self.resolver.tip();
            match step {
                Step::Disconnect => {
                    self.tips.pop();
                    self.give(ground, Input::BlockDisconnected { height });
                }
                Step::Connect(at, block) => {
                    assert_eq!(at, height.height() + 1);
                    self.tips.push(block.block_hash());
                    let watched = self.resolver.watched(&self.context());
                    let transactions = relevant_transactions(&watched, &block.txdata);
                    let signer = signer(self.side).0;
                    let revoked = transactions.iter().find_map(|it| self.resolver.revoked_number(signer, it));
                    let history = if revoked.is_some() { self.history.clone() } else { Vec::new() };
                    self.give(ground, Input::BlockConnected { height: height.plus(1), transactions, history });
                }
            }
        }
    }

    /// One turn: decides, applies, acts.
    pub fn give(&mut self, ground: &mut Ground, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let (delta, effects) = self.resolver.decide(input, &self.context());
            self.resolver.apply(&delta);
            for effect in effects {
                inputs.extend(self.carry_out(ground, effect));
            }
        }
    }

    fn carry_out(&mut self, ground: &mut Ground, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Broadcast(package) => {
                self.said.extend(package.iter().map(|it| (it.compute_txid(), it.clone())));
                let is_behind = self.tips.last() != Some(&ground.world.tip());
                ground.broadcast(&package, is_behind);
            }
            Effect::Fund(request) => {
                self.funded += 1;
                return self.fund(ground, &request);
            }
            Effect::HtlcResolved { key, outcome, payment_hash } => {
                if let HtlcOutcome::Fulfilled(preimage) = outcome {
                    assert_eq!(preimage.payment_hash(), payment_hash);
                }
                assert_eq!(self.outcomes.insert(key, outcome), None, "an HTLC ends once");
            }
            Effect::Closed { kind, .. } => self.kinds.push(kind),
            Effect::Buried { kind } => self.buried.push(kind),
            Effect::Abandoned(_) => self.abandoned += 1,
            Effect::Undone | Effect::Watch(_) | Effect::OutputSwept { .. } | Effect::Resolved { .. } => {}
        }
        None
    }

    fn owner(&self) -> Option<(Side, u32)> {
        Some((self.side, self.tag))
    }

    /// A wallet: coins until the fee is there, change behind the channel's outputs, the fee within the request's limit.
    fn fund(&self, ground: &Ground, request: &FundRequest) -> Option<Input> {
        let reused = request.replaces.iter().flat_map(|(_, coins)| coins).map(|(coin, _)| *coin);
        let bound: BTreeSet<OutPoint> =
            self.resolver.claims().flat_map(|claim| &claim.coins).map(|(coin, _)| *coin).collect();
        let free = self.coins.iter().copied().filter(|coin| !bound.contains(coin));
        let candidates: Vec<(OutPoint, TxOut)> =
            reused.chain(free).filter_map(|coin| Some((coin, ground.world.coin(&coin)?))).collect();
        let mut transaction = request.transaction.clone();
        let mut spent: Vec<TxOut> = Vec::new();
        let in_sum: Amount = request.spent.iter().map(|output| output.value).sum();
        let out_sum: Amount = request.transaction.output.iter().map(|output| output.value).sum();
        for (coin, output) in candidates {
            let witness = wallet_witness(self.owner());
            transaction.input.push(TxIn { previous_output: coin, witness, ..TxIn::default() });
            spent.push(output);
            let mut whole = transaction.clone();
            whole.output.push(TxOut { value: Amount::ZERO, script_pubkey: wallet_script(self.owner()) });
            let weight = whole.weight().to_wu() + request.witness_weight;
            let (package, own) =
                (request.feerate.fee_ceil(weight + request.parent_weight), request.feerate.fee_ceil(weight));
            let wanted = package.checked_sub(request.parent_fee).unwrap_or(own).max(own).max(request.floor);
            if FeeratePerKw::FLOOR.fee_ceil(weight).max(request.floor) > request.limit {
                return None;
            }
            let fee = wanted.min(request.limit);
            let sum = in_sum + spent.iter().map(|output| output.value).sum::<Amount>();
            if let Some(change) = sum.checked_sub(out_sum + fee).filter(|change| change.to_sat() >= 330) {
                whole.output.last_mut().expect("the change").value = change;
                return Some(Input::Funded { key: request.key, transaction: whole, spent, fee });
            }
        }
        None
    }

    /// Whether an output is this side's: the wallet's, or where claims go.
    pub fn owns(&self, output: &TxOut) -> bool {
        output.script_pubkey == sweep_script(self.side, self.tag) || output.script_pubkey == wallet_script(self.owner())
    }
}
