//! The end of a world: everything heals, all channels close, and every satoshi and millisatoshi is accounted for.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Transaction, TxOut, Txid};
use channeld::node::command::{Page, Query};
use channeld::units::{ChannelId, Msat};
use channeld::wallet::Wallet;

use super::ledger::Book;
use super::world::World;

/// Blocks in which all that was closed must be resolved: the longest expiry, a delay, and twice a burial.
const MAX_BLOCKS: u32 = 160;
/// An anchor's value, the largest output that nobody has to claim.
const ANCHOR: u64 = 330;

/// The largest output that may cost more than it holds: what claims it weighs some 600 and pays at most 6,000 sat/kW.
const UNECONOMICAL: u64 = 2_000;

/// What became of a funding output, as far as the chain says.
struct Flow {
    /// What each wallet got out of it, less what it put in.
    gain: [i64; 2],
    /// What miners got.
    fees: i64,
    /// What lies unclaimed.
    left: u64,
}

impl World {
    /// What must hold whenever nothing is under way.
    pub fn check_quiet(&mut self) {
        let open = self.open_channels();
        // A part whose rest found no way waits at the payee for a minute (BOLT 4, `mpp_timeout`).
        let all = self.parties.iter().flat_map(|party| party.durable.payments.values());
        let partial = all.filter(|payment| payment.is_under_way() && payment.remaining() > Msat::ZERO);
        let waiting = partial.map(|payment| payment.payment_hash).collect();
        self.ledger.check_quiet(&open, &waiting);
    }

    /// Heals everything and closes all channels; comes back when nothing is left to resolve.
    pub fn settle(&mut self) {
        self.heal();
        self.check_quiet();
        for block in 0..MAX_BLOCKS {
            if self.is_settled() {
                self.say(format_args!("all is resolved after {block} blocks"));
                return;
            }
            self.connect();
            if block % 4 == 3 {
                for id in self.open_channels() {
                    let side = usize::from(self.one_in(2));
                    self.ask_to_close(self.ledger.channels[&id].ends[side], id, false);
                }
            }
            self.drain();
            self.mine(false);
            self.drain();
        }
        panic!("channels are never resolved: {}", self.unresolved());
    }

    /// Nothing is left but channels that never were, which the accepter keeps for two weeks.
    fn is_settled(&self) -> bool {
        let given_up = |id: &ChannelId| self.ledger.channels.get(id).is_some_and(|book| book.given_up);
        let mut left = self.parties.iter().flat_map(|party| party.durable.channels.keys());
        left.all(given_up) && self.chain.waiting() == 0
    }

    fn unresolved(&self) -> String {
        let mut lines = Vec::new();
        for party in &self.parties {
            for (id, entry) in &party.durable.channels {
                let phase = entry.channel.funded().map(|funded| &funded.phase);
                let resolver = party.durable.resolvers.get(id).map(|it| it.confirmed());
                let text: String = format!("{phase:?}").chars().take(200).collect();
                let state =
                    (entry.channel.is_live(), entry.channel.funded().map(|it| (it.local_ready, it.remote_ready)));
                lines.push(format!("{} {id}: {text}, resolver {resolver:?}, live and ready {state:?}", party.name));
            }
        }
        let refused: BTreeSet<_> = self.ledger.refused.iter().collect();
        format!("{}; {} wait; refused: {refused:?}", lines.join("; "), self.chain.waiting())
    }

    /// The last checks.
    pub fn check_end(&mut self) {
        for who in self.everybody() {
            let page = Page { after: None, size: 1_000, newest_first: false };
            let query = self.clients.query(who, Query::ListUnspentOutputs(page));
            self.input(who, query);
        }
        self.drain();
        self.check_coins();
        let everybody: Vec<Wallet> = self.everybody().map(|who| self.wallet(who)).collect();
        let transactions = self.transactions();
        let spenders = spenders(&transactions);
        for book in self.ledger.channels.values_mut() {
            let spend = spenders.get(&book.funding);
            book.cheated = spend.is_some_and(|spend| self.ledger.replayed.contains_key(spend));
        }
        self.check_payments();
        let books: Vec<(ChannelId, Book)> = self.ledger.channels.iter().map(|(id, book)| (*id, book.clone())).collect();
        for (id, book) in books {
            let wallets = book.ends.map(|who| &everybody[who]);
            let Some(spend) = spenders.get(&book.funding) else {
                assert!(!transactions.contains_key(&book.funding.txid), "channel {id} is forgotten and not spent");
                continue;
            };
            let Some((_, cheater, number)) = self.ledger.replayed.get(spend).copied() else {
                self.check_channel(id, &book, &transactions[spend], wallets, &transactions, &spenders);
                continue;
            };
            let flow = flow(spend, &book, wallets, &transactions, &spenders);
            if number < book.unrevoked[cheater] {
                self.ledger.count("penalties");
                assert!(
                    flow.gain[cheater] <= ANCHOR.cast_signed(),
                    "the cheater of {id} keeps {} sat of {} (the other {}, fees {}, left {})",
                    flow.gain[cheater],
                    book.capacity,
                    flow.gain[1 - cheater],
                    flow.fees,
                    flow.left
                );
            }
        }
    }

    fn wallet(&self, who: usize) -> Wallet {
        self.parties[who].stored_wallet()
    }

    fn transactions(&self) -> BTreeMap<Txid, Transaction> {
        let blocks = self.chain.blocks();
        blocks.iter().flat_map(|block| &block.txdata).map(|it| (it.compute_txid(), it.clone())).collect()
    }

    /// Wallets, miner, anchors and what costs more than it holds are all there is.
    fn check_coins(&mut self) {
        let mut coins = self.chain.unspent();
        let total: bitcoin::Amount = coins.values().map(|coin| coin.value).sum();
        assert_eq!(total, self.chain.mined(), "the chain makes or loses money");
        for (who, owned) in &self.clients.coins {
            for (outpoint, amount) in owned {
                let coin = coins.remove(outpoint);
                assert_eq!(
                    coin.map(|coin| coin.value),
                    Some(*amount),
                    "{outpoint} of wallet {who} is not in the chain"
                );
            }
        }
        let miner = self.chain.miner().clone();
        let is_absent = |coin: &TxOut| self.absent.iter().flatten().any(|absent| *absent == coin.script_pubkey);
        coins.retain(|_, coin| coin.script_pubkey != miner && !is_absent(coin));
        let lost: Vec<_> = coins.iter().filter(|(_, coin)| !is_unclaimable(coin)).collect();
        assert!(lost.is_empty(), "coins that nobody has: {lost:?}");
    }

    fn check_payments(&self) {
        for (hash, paid) in &self.ledger.payments {
            let succeeded = paid.succeeded.unwrap_or_else(|| panic!("{hash:?} is never decided"));
            // An HTLC without output in a forced close is lost, though the payee has shown its preimage.
            let all = self.ledger.channels.iter();
            let mut crossed = all.filter(|(id, _)| self.is_network() || paid.channels.contains(id));
            let failed_for_dust = crossed.any(|(_, book)| book.forced);
            assert!(
                succeeded == paid.received.is_some() || (failed_for_dust && !succeeded),
                "{hash:?}: the payer says {succeeded}, the payee {:?}",
                paid.received
            );
        }
        if !self.ledger.channels.values().any(|book| book.forced) {
            let paid = self.ledger.payments.values().filter(|paid| paid.succeeded == Some(true));
            let fees: u64 = paid.map(|paid| paid.fee.msat()).sum();
            assert_eq!(
                self.ledger.earned, fees,
                "what forwarding nodes have earned is not what payers have paid for it"
            );
        }
        for (session, ends) in &self.ledger.streams {
            let [Some((channel, paid)), Some((_, received))] = ends else { continue };
            let cheated = self.ledger.channels.get(channel).is_some_and(|book| book.cheated);
            let crossed = self.ledger.crossed.contains(channel);
            assert!(
                cheated || crossed || paid == received,
                "{session}: {} paid, {} received",
                paid.msat(),
                received.msat()
            );
        }
        for (id, book) in &self.ledger.channels {
            let [one, other] = book.moved;
            // An HTLC without output may be lost in a close by force, though its preimage was shown; a commitment that was
            // revoked changes no book, and the last revocation may not have arrived.
            let slack = if book.forced { book.moving } else { 0 };
            let agree = one.0.abs_diff(other.1) <= slack && one.1.abs_diff(other.0) <= slack;
            assert!(agree || book.cheated, "the books of {id} differ by more than {slack}: {one:?}, {other:?}");
        }
    }

    fn check_channel(
        &mut self,
        id: ChannelId,
        book: &Book,
        spend: &Transaction,
        wallets: [&Wallet; 2],
        transactions: &BTreeMap<Txid, Transaction>,
        spenders: &BTreeMap<OutPoint, Txid>,
    ) {
        let expected = [0, 1].map(|who: usize| {
            let (sent, received) = book.moved[who];
            (book.initial[who] + received).checked_sub(sent).expect("nobody sends what it does not have")
        });
        if spend.lock_time.to_consensus_u32() >> 24 != 0x20 {
            self.ledger.count("mutual closes");
            return check_mutual(id, book, spend, expected);
        }
        self.ledger.count("forced closes");
        let flow = flow(&spend.compute_txid(), book, wallets, transactions, spenders);
        let slack = flow.fees + flow.left.cast_signed() + (book.moving / 1_000).cast_signed() + 2;
        for who in [0, 1] {
            let (gain, due) = (flow.gain[who], (expected[who] / 1_000).cast_signed());
            assert!(
                gain + slack >= due && gain <= due + ANCHOR.cast_signed() + (book.moving / 1_000).cast_signed(),
                "{id}: {who} got {gain} sat of {due} (opener {}, fees {}, left {}, under way {})",
                book.opener,
                flow.fees,
                flow.left,
                book.moving / 1_000
            );
        }
    }
}

fn check_mutual(id: ChannelId, book: &Book, spend: &Transaction, expected: [u64; 2]) {
    let total = expected[0] + expected[1];
    assert_eq!(total, book.capacity * 1_000, "the balances of {id} are not its capacity");
    let fee = book.closing_fee.unwrap_or_else(|| panic!("{id} was closed by a transaction that nobody signed"));
    let mut due: Vec<u64> = [0, 1]
        .map(|who: usize| (expected[who] / 1_000).saturating_sub(if who == book.opener { fee } else { 0 }))
        .into_iter()
        .filter(|sat| *sat >= 354)
        .collect();
    let mut paid: Vec<u64> = spend.output.iter().map(|output| output.value.to_sat()).collect();
    due.sort_unstable();
    paid.sort_unstable();
    assert_eq!(paid, due, "the closing transaction of {id} does not pay the balances (fee {fee})");
}

fn is_unclaimable(coin: &TxOut) -> bool {
    coin.value.to_sat() <= UNECONOMICAL && coin.script_pubkey.is_p2wsh()
}

fn spenders(transactions: &BTreeMap<Txid, Transaction>) -> BTreeMap<OutPoint, Txid> {
    let inputs = |(txid, transaction): (&Txid, &Transaction)| {
        let txid = *txid;
        transaction.input.iter().map(move |input| (input.previous_output, txid)).collect::<Vec<_>>()
    };
    transactions.iter().flat_map(inputs).collect()
}

/// Follows all outputs of a commitment transaction until they reach a wallet.
fn flow(
    first: &Txid,
    book: &Book,
    wallets: [&Wallet; 2],
    transactions: &BTreeMap<Txid, Transaction>,
    spenders: &BTreeMap<OutPoint, Txid>,
) -> Flow {
    let owner = |output: &TxOut| wallets.iter().position(|wallet| wallet.is_mine(&output.script_pubkey));
    let mut flow = Flow { gain: [0, 0], fees: book.capacity.cast_signed(), left: 0 };
    let (mut seen, mut waiting) = (BTreeSet::from([*first]), vec![*first]);
    while let Some(txid) = waiting.pop() {
        let transaction = &transactions[&txid];
        for (vout, output) in (0u32..).zip(&transaction.output) {
            let value = output.value.to_sat();
            let outpoint = OutPoint { txid, vout };
            if let Some(who) = owner(output) {
                flow.gain[who] += value.cast_signed();
                flow.fees -= value.cast_signed();
            } else if let Some(next) = spenders.get(&outpoint) {
                if seen.insert(*next) {
                    waiting.push(*next);
                }
            } else {
                flow.left += value;
                flow.fees -= value.cast_signed();
            }
        }
        for input in &transaction.input {
            let previous = &input.previous_output;
            let Some(coin) = transactions.get(&previous.txid).and_then(|it| it.output.get(previous.vout as usize))
            else {
                continue;
            };
            if let Some(who) = owner(coin) {
                let value = coin.value.to_sat().cast_signed();
                flow.gain[who] -= value;
                flow.fees += value;
            }
        }
    }
    flow
}
