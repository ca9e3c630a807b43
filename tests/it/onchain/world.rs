//! A chain without blocks' headers: coins, a mempool that replaces by fee, and the rules that claims can break.

use std::collections::BTreeMap;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid, Witness};
use channeld::onchain::{Effect, FundRequest, Input, Resolver, relevant_transactions};
use channeld::units::BlockHeight;

use super::party::{Channel, Party};

/// Coins, blocks and a mempool.
pub struct World {
    height: u32,
    /// Unspent and spent, with the height of its creation.
    coins: BTreeMap<OutPoint, (TxOut, u32)>,
    spent: BTreeMap<OutPoint, u32>,
    mempool: Vec<Transaction>,
    blocks: Vec<Vec<Transaction>>,
    wallet_coins: u32,
    /// Whether the wallet has no money now.
    pub is_poor: bool,
}

/// A script that anybody spends: the wallet of these tests.
pub fn wallet_script() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51]).to_p2wsh()
}

pub fn wallet_witness() -> Witness {
    Witness::from_slice(&[[0x51]])
}

impl World {
    pub const START: BlockHeight = BlockHeight::new(100);

    pub fn new(channel: &Channel) -> World {
        let height = World::START.height();
        let coins = BTreeMap::from([(channel.funding().outpoint(), (channel.funding().output(), height))]);
        World {
            height,
            coins,
            spent: BTreeMap::new(),
            mempool: Vec::new(),
            blocks: Vec::new(),
            wallet_coins: 0,
            is_poor: false,
        }
    }

    /// Whether the funding output is spent.
    pub fn is_closed(&self, channel: &Channel) -> bool {
        self.spent.contains_key(&channel.funding().outpoint())
    }

    pub fn height(&self) -> BlockHeight {
        BlockHeight::new(self.height)
    }

    pub fn mempool(&self) -> impl Iterator<Item = &Transaction> {
        self.mempool.iter()
    }

    pub fn forget_mempool(&mut self) {
        self.mempool.clear();
    }

    /// A confirmed coin of 100,000 sat that nobody else has.
    pub fn coin(&mut self) -> (OutPoint, TxOut) {
        self.wallet_coins += 1;
        let outpoint = OutPoint { txid: Txid::from_byte_array([9; 32]), vout: self.wallet_coins };
        let output = TxOut { value: Amount::from_sat(100_000), script_pubkey: wallet_script() };
        self.coins.insert(outpoint, (output.clone(), World::START.height()));
        (outpoint, output)
    }

    pub fn unspent(&self, outpoint: &OutPoint) -> Option<&TxOut> {
        self.coins.get(outpoint).filter(|_| !self.spent.contains_key(outpoint)).map(|(output, _)| output)
    }

    fn output(&self, outpoint: &OutPoint) -> Option<(TxOut, Option<u32>)> {
        let pooled = self.mempool.iter().find(|transaction| transaction.compute_txid() == outpoint.txid);
        let pooled = pooled.and_then(|transaction| transaction.output.get(outpoint.vout as usize)).cloned();
        let coin = self.coins.get(outpoint).map(|(output, height)| (output.clone(), Some(*height)));
        coin.or_else(|| pooled.map(|output| (output, None)))
    }

    /// The fee of a transaction whose inputs are known.
    pub fn fee(&self, transaction: &Transaction) -> Amount {
        let input = |input: &TxIn| self.output(&input.previous_output).expect("known").0.value;
        let paid: Amount = transaction.output.iter().map(|output| output.value).sum();
        transaction.input.iter().map(input).sum::<Amount>() - paid
    }

    /// What Bitcoin Core would check, for the next block. `Ok` where it is in the mempool now.
    pub fn submit(&mut self, transaction: &Transaction) -> Result<(), String> {
        let txid = transaction.compute_txid();
        if self.mempool.iter().any(|pooled| pooled.compute_txid() == txid) {
            return Ok(());
        }
        let (next, mut spent) = (self.height + 1, Vec::new());
        for input in &transaction.input {
            let (output, height) = self.output(&input.previous_output).ok_or("missing input")?;
            if self.spent.contains_key(&input.previous_output) {
                return Err("spent input".to_owned());
            }
            let (delay, disabled) = (input.sequence.0 & 0xffff, input.sequence.0 >> 31 == 1);
            let age = next - height.unwrap_or(next);
            if !disabled && age < delay {
                panic!("BIP 68: {age} of {delay} blocks");
            }
            spent.push(output);
        }
        assert!(transaction.lock_time.to_consensus_u32() < next || is_commitment(transaction), "not final");
        run_scripts(transaction, &spent);
        self.replace(transaction)?;
        self.mempool.push(transaction.clone());
        Ok(())
    }

    /// BIP 125: whoever conflicts must pay more than all it replaces, and for its own weight.
    fn replace(&mut self, transaction: &Transaction) -> Result<(), String> {
        let conflicts = |pooled: &Transaction| {
            let spends =
                |input: &TxIn| transaction.input.iter().any(|new| new.previous_output == input.previous_output);
            pooled.input.iter().any(spends)
        };
        let replaced: Vec<Transaction> = self.mempool.iter().filter(|pooled| conflicts(pooled)).cloned().collect();
        let old: Amount = replaced.iter().map(|pooled| self.fee(pooled)).sum();
        let vsize = Amount::from_sat(transaction.vsize() as u64);
        if !replaced.is_empty() && self.fee(transaction) < old + vsize {
            return Err("insufficient fee".to_owned());
        }
        self.mempool.retain(|pooled| !conflicts(pooled));
        let txids: Vec<Txid> = replaced.iter().map(Transaction::compute_txid).collect();
        self.mempool.retain(|pooled| pooled.input.iter().all(|input| !txids.contains(&input.previous_output.txid)));
        Ok(())
    }

    /// A block with all of the mempool.
    pub fn mine(&mut self, parties: &mut [&mut Party]) {
        let block = std::mem::take(&mut self.mempool);
        self.connect(block, parties);
    }

    /// A block in which nothing of the mempool found room.
    pub fn mine_nothing(&mut self, parties: &mut [&mut Party]) {
        self.connect(Vec::new(), parties);
    }

    fn connect(&mut self, block: Vec<Transaction>, parties: &mut [&mut Party]) {
        self.height += 1;
        for transaction in &block {
            let txid = transaction.compute_txid();
            for input in &transaction.input {
                self.spent.insert(input.previous_output, self.height);
            }
            for (vout, output) in (0..).zip(&transaction.output) {
                self.coins.insert(OutPoint { txid, vout }, (output.clone(), self.height));
            }
        }
        self.blocks.push(block);
        for party in parties {
            self.catch_up(party);
        }
    }

    /// Gives a party the blocks that it has not seen.
    pub fn catch_up(&mut self, party: &mut Party) {
        while party.resolver.tip().height() < self.height {
            let height = party.resolver.tip().height() + 1;
            let block = &self.blocks[(height - World::START.height() - 1) as usize];
            let transactions = relevant_transactions(&party.resolver.watched(&party.context()), block);
            let revoked = transactions.iter().find_map(|spend| party.resolver.revoked_number(&party.signer, spend));
            let history = if revoked.is_some() { party.history.clone() } else { Vec::new() };
            let height = BlockHeight::new(height);
            self.give(party, Input::BlockConnected { height, transactions, history });
        }
    }

    /// Takes the last block back, with what it held.
    pub fn disconnect(&mut self, parties: &mut [&mut Party]) {
        let height = self.height;
        self.blocks.pop().expect("a block");
        self.spent.retain(|_, at| *at < height);
        self.coins.retain(|_, (_, at)| *at < height);
        self.height -= 1;
        self.mempool.clear();
        for party in parties {
            if party.resolver.tip().height() == height {
                self.give(party, Input::BlockDisconnected { height: BlockHeight::new(height) });
            }
        }
    }

    /// One turn of a party: decides, applies, stores, acts.
    pub fn give(&mut self, party: &mut Party, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let (delta, effects) = party.resolver.decide(input, &party.context());
            party.resolver.apply(&delta);
            let bytes = postcard::to_allocvec(&delta).expect("encodes");
            party.stored.apply(&postcard::from_bytes(&bytes).expect("decodes"));
            let bytes = postcard::to_allocvec(&party.stored).expect("encodes");
            party.stored = postcard::from_bytes::<Resolver>(&bytes).expect("decodes");
            assert!(party.stored == party.resolver, "memory is what the disk holds");
            for effect in effects {
                party.note(&effect);
                match effect {
                    Effect::Broadcast(package) => self.broadcast(&package),
                    Effect::Fund(request) => inputs.extend(self.fund(&request)),
                    _ => {}
                }
            }
        }
    }

    fn broadcast(&mut self, package: &[Transaction]) {
        for transaction in package {
            let known = transaction.input.iter().all(|input| self.output(&input.previous_output).is_some());
            assert!(known, "every parent comes first");
            let inputs: Amount =
                transaction.input.iter().map(|input| self.output(&input.previous_output).expect("known").0.value).sum();
            assert!(self.fee(transaction) < inputs, "a budget was exceeded");
            // What conflicts with a better paying transaction, or with the chain, is refused; that is no fault.
            if self.submit(transaction).is_err() {
                return;
            }
        }
    }

    /// The wallet: one coin, change behind the channel's outputs, the fee within the request's limit.
    fn fund(&mut self, request: &FundRequest) -> Option<Input> {
        if self.is_poor {
            return None;
        }
        let reused = request.replaces.iter().flat_map(|(_, coins)| coins).next().cloned();
        let (coin, output) = reused.unwrap_or_else(|| self.coin());
        let mut transaction = request.transaction.clone();
        transaction.input.push(TxIn { previous_output: coin, witness: wallet_witness(), ..TxIn::default() });
        transaction.output.push(TxOut { value: Amount::ZERO, script_pubkey: wallet_script() });
        let weight = transaction.weight().to_wu() + request.witness_weight;
        let package = request.feerate.fee_ceil(weight + request.parent_weight);
        let fee = package.checked_sub(request.parent_fee).unwrap_or(Amount::ZERO).max(request.floor);
        if fee > request.limit {
            return None;
        }
        let fixed: Amount = request.spent.iter().map(|output| output.value).sum();
        let outputs: Amount = request.transaction.output.iter().map(|output| output.value).sum();
        transaction.output.last_mut().expect("the change").value = fixed + output.value - outputs - fee;
        Some(Input::Funded { key: request.key, transaction, spent: vec![output], fee })
    }
}

/// Lock times of commitments carry their number and are long past as times.
fn is_commitment(transaction: &Transaction) -> bool {
    transaction.lock_time.to_consensus_u32() >> 24 == 0x20
}

/// Every input satisfies the script of the output it spends.
pub fn run_scripts(transaction: &Transaction, spent: &[TxOut]) {
    let bytes = bitcoin::consensus::serialize(transaction);
    for (index, output) in spent.iter().enumerate() {
        let flags = bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT;
        let (script, value) = (output.script_pubkey.as_bytes(), output.value.to_sat());
        bitcoinconsensus::verify_with_flags(script, value, &bytes, None, index, flags)
            .unwrap_or_else(|error| panic!("input {index} of {}: {error:?}", transaction.compute_txid()));
    }
}
