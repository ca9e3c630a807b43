//! Cells of the matrix of `tests/enforcement` once more with the real binaries: each side ends with exactly what BOLT 5
//! promises it, less what its own transactions paid. The cells of a cheater are in `breach`.

use proto::v1::{ChannelType, CloseMode, PaymentState};
use serde_json::{Value, json};
use tests::chain::nobody;
use tests::cluster::Terms;
use tests::{Cluster, money};

use crate::close::{close, held, hold, pay_and_leave, unspent_anchors};
use crate::reorg::replace;

/// One channel of 600,000 sat of Alice's and 400,000 of Bob's, with an HTLC of 30,000 sat.
#[derive(Clone, Copy, Debug)]
struct Cell {
    channel_type: ChannelType,
    /// Who closes; the other side hears of it and closes, too.
    closer: usize,
    payer: usize,
    /// Whether the payee has the preimage when the channel closes.
    known: bool,
    /// So many blocks go when the first claims are in: those of the claims, or the commitment's, too.
    reorg: u32,
}

const HTLC: u64 = 30_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closes_with_anchors_are_exact() {
    let channel_type = ChannelType::Anchors;
    let mut cluster = Cluster::pair().await;
    for (closer, payer, known, reorg) in [(0, 0, false, 0), (0, 1, true, 2), (1, 0, true, 0), (1, 1, false, 1)] {
        play(&mut cluster, Cell { channel_type, closer, payer, known, reorg }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closes_with_static_remotekey_are_exact() {
    let channel_type = ChannelType::StaticRemotekey;
    let mut cluster = Cluster::pair().await;
    for (closer, payer, known, reorg) in [(0, 0, true, 1), (0, 1, false, 0), (1, 0, false, 2), (1, 1, true, 0)] {
        play(&mut cluster, Cell { channel_type, closer, payer, known, reorg }).await;
    }
}

async fn play(cluster: &mut Cluster, cell: Cell) {
    let before = [money::wallet_sat(cluster.alice()).await, money::wallet_sat(cluster.bob()).await];
    let height = cluster.chain.height().await;
    let channel = cluster.open(Terms { channel_type: cell.channel_type, ..Terms::default() }).await;
    let (payer, payee) = (cell.payer, 1 - cell.payer);
    hold(&cluster.nodes[payee], &channel, true).await;
    pay_and_leave(&cluster.nodes[payer], &cluster.nodes[payee], HTLC * 1_000).await;
    held(cluster, &channel, 1).await;
    if cell.known {
        show_to_nobody(cluster, &channel, cell).await;
    } else {
        close(&cluster.nodes[cell.closer], &channel, CloseMode::Force).await.unwrap();
    }
    cluster.closing(&channel).await;
    cluster.mine(1).await;
    if cell.reorg > 0 {
        // At least the other side's balance is claimed at once.
        tests::until("a claim", async || (!cluster.chain.mempool().await.is_empty()).then_some(())).await;
        cluster.mine(1).await;
        replace(cluster, cell.reorg).await;
        cluster.chain.call("generateblock", json!([nobody(), []])).await;
        cluster.synced().await;
    }
    cluster.bury(&channel).await;
    // Both sides have closed: whose commitment it is now was decided by who was first, or paid more.
    let (commitment, broadcaster) = cluster.closed_by(&channel).await;
    let broadcaster = broadcaster.unwrap_or_else(|| panic!("{commitment} is nobody's: {cell:?}"));
    check(cluster, cell, (&commitment, broadcaster), before, height).await;
    let payment = cluster.nodes[payer].payments().await.pop().expect("it paid");
    assert_eq!(payment.state() == PaymentState::Succeeded, cell.known, "{cell:?}: {payment:?}");
}

/// The payee takes its payment and nobody hears it; then the channel closes.
async fn show_to_nobody(cluster: &mut Cluster, channel: &str, cell: Cell) {
    let (payer, payee) = (cell.payer, 1 - cell.payer);
    cluster.nodes[payer].kill();
    cluster.nodes[payee].channel_until("without a session", channel, |channel| !channel.usable).await;
    hold(&cluster.nodes[payee], channel, false).await;
    if cell.closer == payer {
        cluster.nodes[payee].kill();
        cluster.nodes[payer].restart().await;
        close(&cluster.nodes[payer], channel, CloseMode::Force).await.unwrap();
        cluster.nodes[payee].restart().await;
    } else {
        close(&cluster.nodes[payee], channel, CloseMode::Force).await.unwrap();
        cluster.nodes[payer].restart().await;
    }
}

async fn check(cluster: &Cluster, cell: Cell, closed: (&str, usize), before: [u64; 2], height: u32) {
    let (commitment, broadcaster) = closed;
    let transactions = money::transactions_after(cluster, height).await;
    let of = |txid: &str| transactions.iter().find(|it| it["txid"] == txid).expect("it is in a block");
    let anchors = if cell.channel_type == ChannelType::Anchors { 660 } else { 0 };
    let commitment_fee = money::sat(&of(commitment)["fee"]);
    let funding = of(of(commitment)["vin"][0]["txid"].as_str().unwrap());
    let mut has =
        [before[0] + 600_000 - 1_000_000 - commitment_fee - anchors - money::sat(&funding["fee"]), before[1] + 400_000];
    has[cell.payer] -= HTLC;
    has[if cell.known { 1 - cell.payer } else { cell.payer }] += HTLC;
    // Whose anchor is taken has made the child.
    has[broadcaster] += anchors - unspent_anchors(cluster, &transactions, commitment).await;
    let mut own: [Vec<String>; 2] = Default::default();
    for who in [0, 1] {
        let coins = money::coins(&cluster.nodes[who]).await.into_iter();
        own[who] = coins.filter_map(|coin| coin.outpoint).map(|outpoint| outpoint.txid).collect();
    }
    let is_claim = |it: &&Value| it["txid"] != commitment && it["txid"] != funding["txid"];
    for claim in transactions.iter().filter(is_claim) {
        let is_of = |who: usize| own[who].iter().any(|txid| claim["txid"] == txid.as_str());
        // A second stage pays to no wallet: only who broadcast the commitment has one.
        let payer = [0, 1].into_iter().find(|who| is_of(*who)).unwrap_or(broadcaster);
        has[payer] -= money::sat(&claim["fee"]);
    }
    let after = [money::wallet_sat(cluster.alice()).await, money::wallet_sat(cluster.bob()).await];
    assert_eq!(after, has, "{cell:?}");
}
