//! The wallet on a chain of hand-made blocks: coins, payments, reserve, claims, reorganisations, restarts.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::transaction;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Weight, Witness,
};

use super::*;
use crate::keys::Words;
use crate::units::FeeratePerKw;

const FEERATE: FeeratePerKw = FeeratePerKw::new(1_000);

struct Fixture {
    wallet: Wallet,
    state: WalletState,
    chain: Vec<Block>,
}

fn account() -> Xpriv {
    Words::from_entropy(&[7; 32]).seed().account_xprv(Network::Regtest)
}

fn genesis() -> Block {
    bitcoin::constants::genesis_block(Network::Regtest)
}

fn block(previous: BlockHash, nonce: u32, transactions: Vec<Transaction>) -> Block {
    let header = Header {
        version: Version::ONE,
        prev_blockhash: previous,
        merkle_root: TxMerkleNode::all_zeros(),
        time: 1_700_000_000 + nonce,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce,
    };
    Block { header, txdata: transactions }
}

fn coinbase(script: ScriptBuf, value: Amount, height: u32) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::builder().push_int(i64::from(height) + 100).into_script(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value, script_pubkey: script }],
    }
}

impl Fixture {
    /// A wallet with `coins` matured coinbase outputs of one million satoshi each.
    fn new(coins: u32) -> Fixture {
        let genesis = genesis();
        let mut wallet = Wallet::create(account(), Network::Regtest, genesis.block_hash());
        let mut state = WalletState::default();
        let script = wallet.next_address().script_pubkey();
        state.merge(&wallet.take_staged().expect("a new wallet has much to keep")).expect("readable");
        let mut fixture = Fixture { wallet, state, chain: vec![genesis] };
        for height in 1..=coins {
            fixture.mine(vec![coinbase(script.clone(), Amount::from_sat(1_000_000), height)]);
        }
        for _ in 0..100 {
            fixture.mine(Vec::new());
        }
        fixture
    }

    fn mine(&mut self, transactions: Vec<Transaction>) {
        let height = self.chain.len() as u32;
        let block = block(self.chain[self.chain.len() - 1].block_hash(), height, transactions);
        self.wallet.apply_block(&block, BlockHeight::new(height)).expect("it connects");
        self.keep();
        self.chain.push(block);
    }

    fn keep(&mut self) {
        if let Some(staged) = self.wallet.take_staged() {
            self.state.merge(&staged).expect("readable");
        }
    }

    fn restart(&mut self) {
        self.keep();
        self.state = WalletState::from_bytes(&self.state.to_bytes()).expect("readable");
        let genesis = genesis().block_hash();
        self.wallet = Wallet::load(account(), Network::Regtest, genesis, &self.state).expect("it is the same wallet");
    }
}

fn foreign_script() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_byte_array([3; 32]))
}

fn output(sat: u64) -> TxOut {
    TxOut { value: Amount::from_sat(sat), script_pubkey: foreign_script() }
}

#[test]
fn a_restart_changes_nothing() {
    let mut fixture = Fixture::new(3);
    let draft =
        fixture.wallet.build(&Spend::Exact(output(1_500_000)), FEERATE, Amount::ZERO, &[1; 32]).expect("enough");
    let (coins, balance) = (fixture.wallet.coins(), fixture.wallet.balance(Amount::ZERO));
    assert_eq!(balance.locked, Amount::from_sat(2_000_000));
    fixture.restart();
    assert_eq!((fixture.wallet.coins(), fixture.wallet.balance(Amount::ZERO)), (coins, balance));
    draft.inputs().for_each(|outpoint| fixture.wallet.unlock(outpoint));
    fixture.restart();
    assert_eq!(fixture.wallet.balance(Amount::ZERO).spendable, Amount::from_sat(3_000_000));
    assert_eq!(fixture.wallet.height(), BlockHeight::new(103));
}

#[test]
fn a_payment_is_valid_and_leaves_the_reserve() {
    let mut fixture = Fixture::new(2);
    let reserve = Amount::from_sat(20_000);
    let draft = fixture.wallet.build(&Spend::Exact(output(400_000)), FEERATE, reserve, &[1; 32]).expect("enough");
    let transaction = &draft.transaction;
    assert_eq!(transaction.output[draft.output_index as usize], output(400_000));
    assert!(draft.fee >= FEERATE.fee_floor(transaction.weight().to_wu()));
    for (index, input) in transaction.input.iter().enumerate() {
        let coin = &fixture.chain[1..]
            .iter()
            .flat_map(|block| &block.txdata)
            .find(|coinbase| coinbase.compute_txid() == input.previous_output.txid);
        let spent = &coin.expect("it spends a coinbase").output[0];
        let mut sighashes = bitcoin::sighash::SighashCache::new(transaction);
        let sighash = sighashes
            .p2wpkh_signature_hash(index, &spent.script_pubkey, spent.value, bitcoin::EcdsaSighashType::All)
            .expect("in range");
        let signature = bitcoin::ecdsa::Signature::from_slice(&input.witness[0]).expect("a signature");
        let key = bitcoin::CompressedPublicKey::from_slice(&input.witness[1]).expect("a key");
        assert_eq!(spent.script_pubkey, ScriptBuf::new_p2wpkh(&key.wpubkey_hash()));
        secp256k1::SECP256K1.verify_ecdsa(&sighash.into(), &signature.signature, &key.0).expect("it is valid");
    }
    let refused = fixture.wallet.build(&Spend::Exact(output(990_000)), FEERATE, reserve, &[1; 32]);
    assert!(matches!(refused, Err(WalletError::InsufficientFunds { .. })), "{refused:?}");
    let refused = fixture.wallet.build(&Spend::Exact(output(100)), FEERATE, reserve, &[1; 32]);
    assert_eq!(refused, Err(WalletError::Dust(Amount::from_sat(100))));
}

#[test]
fn all_is_all_but_the_reserve() {
    let mut fixture = Fixture::new(3);
    let reserve = Amount::from_sat(30_000);
    let most = fixture.wallet.spendable_to(&foreign_script(), FEERATE, reserve);
    let draft = fixture.wallet.build(&Spend::All(foreign_script()), FEERATE, reserve, &[2; 32]).expect("enough");
    assert_eq!(draft.transaction.output[draft.output_index as usize].value, most);
    assert_eq!(most + draft.fee + reserve, Amount::from_sat(3_000_000));
    fixture.wallet.apply_unconfirmed([Arc::new(draft.transaction)], 1_700_000_500);
    let left = fixture.wallet.balance(reserve);
    assert_eq!((left.spendable, left.reserved, left.locked), (Amount::ZERO, reserve, Amount::ZERO));
}

#[test]
fn the_same_entropy_makes_the_same_transaction() {
    let build = |entropy| {
        let mut fixture = Fixture::new(4);
        fixture.wallet.build(&Spend::Exact(output(2_100_000)), FEERATE, Amount::ZERO, &[entropy; 32]).expect("enough")
    };
    assert_eq!(build(1), build(1));
}

#[test]
fn a_reorganisation_takes_coins_back() {
    let mut fixture = Fixture::new(1);
    let address = fixture.wallet.next_address();
    let mut payment = coinbase(address.script_pubkey(), Amount::from_sat(50_000), 0);
    payment.input[0].previous_output = OutPoint { txid: fixture.chain[0].txdata[0].compute_txid(), vout: 5 };
    fixture.mine(vec![payment]);
    assert_eq!(fixture.wallet.balance(Amount::ZERO).spendable, Amount::from_sat(1_050_000));
    let height = fixture.chain.len() as u32 - 1;
    let other = block(fixture.chain[height as usize - 1].block_hash(), 9_999, Vec::new());
    fixture.wallet.apply_block(&other, BlockHeight::new(height)).expect("it connects below the tip");
    let balance = fixture.wallet.balance(Amount::ZERO);
    assert_eq!((balance.spendable, balance.unconfirmed), (Amount::from_sat(1_000_000), Amount::from_sat(50_000)));
    let stray = block(BlockHash::all_zeros(), 1, Vec::new());
    let refused = fixture.wallet.apply_block(&stray, BlockHeight::new(500));
    assert_eq!(refused, Err(WalletError::UnconnectedBlock(BlockHeight::new(500))));
}

fn bump(txid: bitcoin::Txid, feerate: u32, fixed: &BTreeSet<bitcoin::Txid>) -> Bump<'_> {
    let (feerate, reserve) = (FeeratePerKw::new(feerate), Amount::ZERO);
    Bump { txid, feerate, limit: None, reserve, from_payment: false, fixed }
}

#[test]
fn a_bump_pays_more_for_the_same() {
    let (mut fixture, none) = (Fixture::new(2), BTreeSet::new());
    let draft = fixture.wallet.build(&Spend::Exact(output(300_000)), FEERATE, Amount::ZERO, &[1; 32]).expect("enough");
    let txid = draft.transaction.compute_txid();
    fixture.wallet.apply_unconfirmed([Arc::new(draft.transaction)], 1_700_000_500);
    let low = bump(txid, FEERATE.sat_per_kw(), &none);
    assert_eq!(fixture.wallet.bump(&low, &[2; 32]), Err(WalletError::FeerateTooLow));
    let tight = Bump { limit: Some(Amount::from_sat(1_000)), ..bump(txid, 3_000, &none) };
    assert!(matches!(fixture.wallet.bump(&tight, &[2; 32]), Err(WalletError::FeeAboveLimit { .. })));
    let bumped = fixture.wallet.bump(&bump(txid, 3_000, &none), &[2; 32]).expect("enough");
    assert_eq!(bumped.replaces, Some(txid));
    let bumped = bumped.draft;
    let target = FeeratePerKw::new(3_000).fee_floor(bumped.transaction.weight().to_wu());
    assert!(bumped.fee > draft.fee && bumped.fee >= target && bumped.fee < target + Amount::from_sat(50));
    assert!(bumped.transaction.output.contains(&output(300_000)));
    fixture.wallet.apply_unconfirmed([Arc::new(bumped.transaction.clone())], 1_700_000_600);
    fixture.mine(vec![bumped.transaction.clone()]);
    let height = fixture.chain.len() as u32 - 1;
    let transactions = fixture.wallet.transactions();
    let confirmed = transactions.iter().find(|known| known.txid == bumped.transaction.compute_txid());
    assert_eq!(confirmed.and_then(|known| known.confirmed_at), Some(BlockHeight::new(height)));
    for txid in [bitcoin::Txid::all_zeros(), bumped.transaction.compute_txid()] {
        let refused = fixture.wallet.bump(&bump(txid, 9_000, &none), &[2; 32]);
        assert_eq!(refused, Err(WalletError::NotUnconfirmed(txid)));
    }
    assert_eq!(fixture.wallet.balance(Amount::ZERO).total(), Amount::from_sat(2_000_000 - 300_000) - bumped.fee);
}

#[test]
fn a_payment_of_all_is_bumped_from_what_it_pays() {
    let (mut fixture, none) = (Fixture::new(2), BTreeSet::new());
    let script = output(1).script_pubkey;
    let reserve = Amount::from_sat(10_000);
    let draft = fixture.wallet.build(&Spend::All(script.clone()), FEERATE, reserve, &[1; 32]).expect("all there is");
    let (txid, old) = (draft.transaction.compute_txid(), draft.transaction.clone());
    fixture.wallet.apply_unconfirmed([Arc::new(draft.transaction)], 1_700_000_500);
    let plain = Bump { reserve, ..bump(txid, 3_000, &none) };
    assert!(matches!(fixture.wallet.bump(&plain, &[2; 32]), Err(WalletError::InsufficientFunds { .. })));
    let all = Bump { from_payment: true, ..plain };
    let tight = Bump { limit: Some(Amount::from_sat(500)), ..all.clone() };
    assert!(matches!(fixture.wallet.bump(&tight, &[2; 32]), Err(WalletError::FeeAboveLimit { .. })));
    let bumped = fixture.wallet.bump(&all, &[2; 32]).expect("the payment pays");
    let new = &bumped.draft.transaction;
    let paid = |transaction: &Transaction| {
        transaction
            .output
            .iter()
            .filter(|output| output.script_pubkey == script)
            .map(|output| output.value)
            .sum::<Amount>()
    };
    assert_eq!(bumped.replaces, Some(txid));
    assert_eq!(paid(&old) - paid(new), bumped.draft.fee - draft.fee);
    assert!(bumped.draft.fee >= FeeratePerKw::new(3_000).fee_floor(new.weight().to_wu()));
    let whole = Bump { feerate: FeeratePerKw::new(10_000_000), ..all };
    assert!(matches!(fixture.wallet.bump(&whole, &[2; 32]), Err(WalletError::FeeAboveLimit { .. })));
}

#[test]
fn what_must_keep_its_id_gets_a_child_and_then_a_dearer_child() {
    let mut fixture = Fixture::new(1);
    let draft = fixture.wallet.build(&Spend::Exact(output(300_000)), FEERATE, Amount::ZERO, &[1; 32]).expect("enough");
    let (txid, parent) = (draft.transaction.compute_txid(), draft.transaction.weight().to_wu());
    let fixed = BTreeSet::from([txid]);
    fixture.wallet.apply_unconfirmed([Arc::new(draft.transaction)], 1_700_000_500);
    let first = fixture.wallet.bump(&bump(txid, 3_000, &fixed), &[2; 32]).expect("there is change");
    assert_eq!(first.replaces, None);
    let child = &first.draft.transaction;
    assert!(child.input.iter().any(|input| input.previous_output.txid == txid));
    let both = |fee: Amount, weight: u64, feerate: u32| {
        let needed = FeeratePerKw::new(feerate).fee_floor(parent + weight);
        assert!(fee + draft.fee >= needed && fee + draft.fee < needed + Amount::from_sat(50), "{fee} for {needed}");
    };
    both(first.draft.fee, child.weight().to_wu(), 3_000);
    fixture.wallet.apply_unconfirmed([Arc::new(child.clone())], 1_700_000_600);
    assert_eq!(fixture.wallet.bump(&bump(txid, 3_000, &fixed), &[3; 32]), Err(WalletError::FeerateTooLow));
    let second = fixture.wallet.bump(&bump(txid, 6_000, &fixed), &[3; 32]).expect("the child is ours alone");
    assert_eq!(second.replaces, Some(child.compute_txid()));
    both(second.draft.fee, second.draft.transaction.weight().to_wu(), 6_000);
}

#[test]
fn a_claim_gets_its_fee_within_its_limit() {
    let mut fixture = Fixture::new(2);
    let fixed = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::from_consensus(90),
        input: vec![TxIn { previous_output: OutPoint::null(), ..TxIn::default() }],
        output: vec![output(5_000)],
    };
    let fee = ClaimFee {
        feerate: FeeratePerKw::new(2_000),
        parent_weight: Weight::from_wu(1_000),
        parent_fee: Amount::from_sat(253),
        limit: Amount::from_sat(10_000),
        yields: false,
        floor: Amount::ZERO,
    };
    let claim =
        Claim { transaction: fixed.clone(), spent: vec![output(5_000)], witness_weight: Weight::from_wu(300), fee };
    let mut funded = fixture.wallet.fund_claim(&claim, &[]).expect("there are coins");
    assert_eq!((&funded.transaction.input[0], &funded.transaction.output[0]), (&fixed.input[0], &fixed.output[0]));
    assert_eq!(fixture.wallet.sign_inputs(&mut funded.transaction, &funded.spent), 1);
    let weight = funded.transaction.weight().to_wu() + 300;
    let needed = fee.feerate.fee_floor(weight + 1_000) - fee.parent_fee;
    assert!(funded.fee >= needed && funded.fee <= needed + Amount::from_sat(10), "{} for {needed}", funded.fee);
    let tight = Claim { fee: ClaimFee { limit: Amount::from_sat(100), ..fee }, ..claim.clone() };
    assert!(matches!(fixture.wallet.fund_claim(&tight, &[]), Err(WalletError::FeeAboveLimit { .. })));
    // What must be claimed, however dear blocks are, pays all that it is worth; below what relays nothing is made.
    let yielding = |sat| ClaimFee { limit: Amount::from_sat(sat), yields: true, ..fee };
    let worth = Claim { fee: yielding(1_000), ..claim.clone() };
    assert_eq!(fixture.wallet.fund_claim(&worth, &[]).map(|funded| funded.fee), Ok(Amount::from_sat(1_000)));
    let worthless = Claim { fee: yielding(100), ..claim.clone() };
    assert!(matches!(fixture.wallet.fund_claim(&worthless, &[]), Err(WalletError::FeeAboveLimit { .. })));
    let mut empty = Fixture::new(0);
    assert!(matches!(empty.wallet.fund_claim(&claim, &[]), Err(WalletError::InsufficientFunds { .. })));
}

#[test]
fn a_foreign_state_is_refused() {
    let fixture = Fixture::new(0);
    let other = Words::from_entropy(&[8; 32]).seed().account_xprv(Network::Regtest);
    let loaded = Wallet::load(other, Network::Regtest, genesis().block_hash(), &fixture.state);
    assert!(matches!(loaded.err(), Some(WalletError::ForeignState(_))));
    let loaded = Wallet::load(account(), Network::Regtest, BlockHash::all_zeros(), &fixture.state);
    assert!(matches!(loaded.err(), Some(WalletError::ForeignState(_))));
    assert_eq!(WalletState::from_bytes(&[0xff; 9]).err(), Some(WalletError::UnreadableState));
}

#[test]
fn what_rests_on_inputs_of_others_is_not_change() {
    let mut fixture = Fixture::new(1);
    let (coin, script) = (fixture.wallet.coins().remove(0), fixture.wallet.next_change_script());
    let input = |previous_output| TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let pay = |inputs: Vec<TxIn>, sat| Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: inputs,
        output: vec![TxOut { value: Amount::from_sat(sat), script_pubkey: script.clone() }],
    };
    // An anchor's child: a coin of ours and an output of a commitment that may never confirm.
    let anchor = OutPoint { txid: bitcoin::Txid::from_byte_array([9; 32]), vout: 0 };
    let child = pay(vec![input(anchor), input(coin.outpoint)], 999_000);
    let rest = pay(vec![input(OutPoint { txid: child.compute_txid(), vout: 0 })], 998_000);
    fixture.wallet.apply_unconfirmed([Arc::new(child.clone()), Arc::new(rest.clone())], 1_700_000_000);
    let coins = fixture.wallet.coins();
    assert_eq!(coins.iter().map(|coin| coin.is_spendable()).collect::<Vec<_>>(), [false]);
    assert!(fixture.wallet.build(&Spend::Exact(output(10_000)), FEERATE, Amount::ZERO, &[1; 32]).is_err());
    fixture.mine(vec![child]);
    assert!(fixture.wallet.coins().iter().all(Coin::is_spendable), "the rest is ours alone then");
}
