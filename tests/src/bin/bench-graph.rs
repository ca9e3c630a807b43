//! How fast the graph takes announcements, loads and publishes, beside the crate `lightning` on the same messages in the same run.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use channeld::graph::{Announcement, Graph, Verified, VerifiedUpdate};
use channeld::units::UnixTime;
use clap::Parser;
use lightning::routing::gossip::NetworkGraph;
use lightning::util::ser::{ReadableArgs, Writeable};
use rayon::prelude::*;
use serde_json::json;
use tests::synthetic::{Chain, LdkGraph, Signing, Silent, Synthetic, announcement, ldk_channel, ldk_update};

/// The graph beside LDK's; prints one JSON object
#[derive(Parser)]
#[command(about, long_about = None)]
struct Args {
    /// The seed of the network
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// How many nodes
    #[arg(long, default_value_t = 15_000)]
    nodes: usize,
    /// How many channels
    #[arg(long, default_value_t = 60_000)]
    channels: usize,
    /// How many of the channels are signed and verified by both
    #[arg(long, default_value_t = 6_000)]
    verified: usize,
    /// How many announcements of channels in one batch of ours
    #[arg(long, default_value_t = 500)]
    batch: usize,
}

/// Bytes that are allocated, so that both graphs are measured alike.
struct Counting;
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[allow(unsafe_code, reason = "an allocator that counts can only be written so; nothing but the counting is ours")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let args = Args::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as u32;
    let network = Synthetic::new(args.seed, args.nodes, args.channels, now);
    let figures = json!({
        "nodes": args.nodes,
        "channels": args.channels,
        "threads": rayon::current_num_threads(),
        "verify": verify(&network, &args),
        "store": store(&network),
    });
    println!("{figures:#}");
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Wall-clock and processor seconds of all threads: on a busy machine only the latter say what the work costs.
fn both(work: impl FnOnce()) -> [f64; 2] {
    let before = processor_seconds();
    let wall = seconds(work);
    [wall, processor_seconds() - before]
}

/// From `/proc/self/stat`, in hundredths of a second.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has it");
    let fields = stat.rsplit(')').next().expect("the name is in brackets").split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    ticks as f64 / 100.0
}

fn median(runs: usize, mut work: impl FnMut() -> f64) -> f64 {
    let mut times: Vec<f64> = (0..runs).map(|_| work()).collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

/// Both from the bytes of the wire: decode, verify, hold against the chain, apply. In turns, so that both meet the same machine.
fn verify(network: &Synthetic, args: &Args) -> serde_json::Value {
    // Spread over the network, so that nodes come as often as they do in a sync.
    let count = args.verified.min(network.channels.len());
    let chosen: Vec<usize> = (0..count).map(|at| at * network.channels.len() / count).collect();
    let channels: Vec<Vec<u8>> =
        chosen.par_iter().map(|number| network.channel_announcement(*number, Signing::Real)).collect();
    let updates: Vec<Vec<u8>> = chosen
        .par_iter()
        .flat_map_iter(|number| (0..2).filter_map(|end| network.channel_update(*number, end, Signing::Real)))
        .collect();
    let outputs: Vec<_> = chosen.par_iter().map(|number| network.funding_output(*number, Signing::Real)).collect();
    let mut rounds: Vec<[f64; 12]> = (0..5).map(|_| round(network, args, &channels, &updates, &outputs)).collect();
    let curve = curve(network, args, &channels);
    let mut middle = |at: usize| {
        rounds.sort_by(|a, b| a[at].total_cmp(&b[at]));
        rounds[rounds.len() / 2][at]
    };
    let [ours_channels, ours_channels_cpu, ours_updates, ours_updates_cpu, ours_again, _] =
        [0, 1, 2, 3, 4, 5].map(&mut middle);
    let [ldk_channels, ldk_channels_cpu, ldk_updates, ldk_updates_cpu, ldk_again, _] =
        [6, 7, 8, 9, 10, 11].map(&mut middle);
    let rate = |items: usize, seconds: f64| (items as f64 / seconds).round();
    json!({
        "channel_announcements": channels.len(),
        "channel_updates": updates.len(),
        "ours_announcements_per_s": rate(channels.len(), ours_channels),
        "ldk_announcements_per_s": rate(channels.len(), ldk_channels),
        "announcements_ratio": ldk_channels / ours_channels,
        "ours_updates_per_s": rate(updates.len(), ours_updates),
        "ldk_updates_per_s": rate(updates.len(), ldk_updates),
        "updates_ratio": ldk_updates / ours_updates,
        "all_ratio": (ldk_channels + ldk_updates) / (ours_channels + ours_updates),
        "ours_processor_us_per_announcement": ours_channels_cpu * 1e6 / channels.len() as f64,
        "ldk_processor_us_per_announcement": ldk_channels_cpu * 1e6 / channels.len() as f64,
        "announcements_processor_ratio": ldk_channels_cpu / ours_channels_cpu,
        "updates_processor_ratio": ldk_updates_cpu / ours_updates_cpu,
        "all_processor_ratio": (ldk_channels_cpu + ldk_updates_cpu) / (ours_channels_cpu + ours_updates_cpu),
        "ours_duplicates_per_s": rate(channels.len() + updates.len(), ours_again),
        "ldk_duplicates_per_s": rate(channels.len() + updates.len(), ldk_again),
        "bound": curve,
        "one_of_five_new_ratio": (ldk_channels + ldk_updates + 4.0 * ldk_again) / (ours_channels + ours_updates + 4.0 * ours_again),
    })
}

/// What the curve allows: four bare verifications an announcement, of parsed keys and digests, on one core and on all of them;
/// and what ours and LDK's cost in processor time where each has one core, for two busy cores that share a die cost each other.
fn curve(network: &Synthetic, args: &Args, channels: &[Vec<u8>]) -> serde_json::Value {
    let bare: Vec<_> = channels.par_iter().map(|bytes| signatures(bytes)).collect();
    let check = |four: &[Signed; 4]| {
        assert!(
            four.iter()
                .all(|(digest, signature, key)| { secp256k1::SECP256K1.verify_ecdsa(digest, signature, key).is_ok() })
        )
    };
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let mut rounds: Vec<[f64; 6]> = (0..5)
        .map(|_| {
            let one = seconds(|| bare.iter().for_each(check));
            let all = seconds(|| bare.par_iter().for_each(check));
            let [ours, ours_cpu] = alone.install(|| {
                let graph = Graph::new(Synthetic::chain_hash());
                both(|| {
                    for batch in channels.chunks(args.batch) {
                        assert!(graph.verify_batch(read(batch), network.time()).iter().all(Result::is_ok));
                    }
                })
            });
            let theirs: LdkGraph = NetworkGraph::new(bitcoin::Network::Regtest, &Silent);
            let nowhere: Option<&Chain<'_>> = None;
            let [ldk, ldk_cpu] = both(|| {
                for bytes in channels {
                    let added = theirs.update_channel_from_announcement(&ldk_channel(bytes), &nowhere);
                    added.expect("nothing is wrong with it");
                }
            });
            [one, all, ours, ours_cpu, ldk, ldk_cpu]
        })
        .collect();
    let [one, all, ours, ours_cpu, ldk, ldk_cpu] = [0, 1, 2, 3, 4, 5].map(|at| {
        rounds.sort_by(|a, b| a[at].total_cmp(&b[at]));
        rounds[rounds.len() / 2][at]
    });
    let each = |seconds: f64| seconds * 1e6 / channels.len() as f64;
    json!({
        "bare_announcements_per_s_on_one_core": (channels.len() as f64 / one).round(),
        "bare_announcements_per_s_on_all_cores": (channels.len() as f64 / all).round(),
        "bare_all_to_ldk_ratio": ldk / all,
        "ours_us_on_one_core": each(ours),
        "ldk_us_on_one_core": each(ldk),
        "ours_processor_us_on_one_core": each(ours_cpu),
        "ldk_processor_us_on_one_core": each(ldk_cpu),
        "ours_share_of_bare_on_one_core": one / ours,
    })
}

/// A digest, a signature of it and the key.
type Signed = (secp256k1::Message, secp256k1::ecdsa::Signature, secp256k1::PublicKey);

/// The four of a `channel_announcement`.
fn signatures(bytes: &[u8]) -> [Signed; 4] {
    use bitcoin::hashes::{Hash, sha256d};
    let digest = secp256k1::Message::from_digest(sha256d::Hash::hash(&bytes[2 + 256..]).to_byte_array());
    let features = usize::from(u16::from_be_bytes([bytes[258], bytes[259]]));
    let keys = 258 + 2 + features + 32 + 8;
    std::array::from_fn(|at| {
        let signature = secp256k1::ecdsa::Signature::from_compact(&bytes[2 + at * 64..2 + (at + 1) * 64]);
        let key = secp256k1::PublicKey::from_slice(&bytes[keys + at * 33..keys + (at + 1) * 33]);
        (digest, signature.expect("a signature"), key.expect("a key"))
    })
}

/// Wall-clock and processor seconds: ours for announcements, updates, all of them again; LDK's for the same.
fn round(
    network: &Synthetic,
    args: &Args,
    channels: &[Vec<u8>],
    updates: &[Vec<u8>],
    outputs: &[channeld::graph::FundingOutput],
) -> [f64; 12] {
    let mut graph = Graph::new(Synthetic::chain_hash());
    let mut at = 0;
    let ours_channels = both(|| {
        for batch in channels.chunks(args.batch) {
            for verified in graph.verify_batch(read(batch), network.time()) {
                let Ok(Verified::Channel(channel)) = verified else { panic!("nothing is wrong with it") };
                graph.apply_channel(&channel, &outputs[at], network.time()).expect("nothing is wrong with it");
                at += 1;
            }
        }
    });
    let ours_updates = both(|| {
        for batch in updates.chunks(args.batch * 4) {
            for verified in graph.verify_batch(read(batch), network.time()) {
                let Ok(Verified::Update(update)) = verified else { panic!("nothing is wrong with it") };
                graph.apply_update(&update, network.time()).expect("nothing is wrong with it");
            }
        }
    });
    let ours_again = both(|| {
        for batch in channels.chunks(args.batch).chain(updates.chunks(args.batch)) {
            assert!(graph.verify_batch(read(batch), network.time()).iter().all(Result::is_err));
        }
    });
    let theirs: LdkGraph = NetworkGraph::new(bitcoin::Network::Regtest, &Silent);
    // It gets no chain to look at, which would only cost it more.
    let nowhere: Option<&Chain<'_>> = None;
    let ldk_channels = both(|| {
        for bytes in channels {
            let added = theirs.update_channel_from_announcement(&ldk_channel(bytes), &nowhere);
            added.expect("nothing is wrong with it");
        }
    });
    let ldk_updates = both(|| {
        for bytes in updates {
            theirs.update_channel(&ldk_update(bytes)).expect("nothing is wrong with it");
        }
    });
    let ldk_again = both(|| {
        for bytes in channels {
            assert!(theirs.update_channel_from_announcement(&ldk_channel(bytes), &nowhere).is_err());
        }
        for bytes in updates {
            assert!(theirs.update_channel(&ldk_update(bytes)).is_err());
        }
    });
    let all = [ours_channels, ours_updates, ours_again, ldk_channels, ldk_updates, ldk_again];
    std::array::from_fn(|at| all[at / 2][at % 2])
}

fn read(batch: &[Vec<u8>]) -> Vec<Announcement> {
    batch.iter().map(|bytes| announcement(bytes.clone())).collect()
}

/// Size in memory and on disk, time to load and to publish.
fn store(network: &Synthetic) -> serde_json::Value {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let graph = network.graph();
    let ours = ALLOCATED.load(Ordering::Relaxed) - before;
    let before = ALLOCATED.load(Ordering::Relaxed);
    let theirs = network.ldk_graph();
    let ldk = ALLOCATED.load(Ordering::Relaxed) - before;
    let mut changing = graph.clone();
    let (mut held, mut number) = (changing.snapshot(), 0);
    // One fee changes, and everybody is to know: the page is written, the snapshot taken, the last one dropped.
    let publish = median(51, || {
        let late = UnixTime::from_seconds(u64::from(network.now) + 60);
        number = (number + 7_919) % network.channels.len();
        let Some(update) = network.channel_update_at(number, 0, network.now + 1) else { return 0.0 };
        let signer = network.nodes[network.channels[number].nodes[0]];
        let update = VerifiedUpdate::assume_signed(announcement(update), &signer).expect("it is one");
        let start = Instant::now();
        let _ = changing.apply_update(&update, late);
        held = changing.snapshot();
        start.elapsed().as_secs_f64()
    });
    drop((held, changing));
    let encode = median(5, || seconds(|| drop(black_box(graph.encode()))));
    let bytes = graph.encode();
    let load = median(21, || {
        let mut loaded = None;
        let time = seconds(|| loaded = Graph::decode(&bytes, Synthetic::chain_hash()).ok());
        assert_eq!(loaded.map(|graph| graph.view().channel_count()), Some(network.channels.len()));
        time
    });
    let ldk_bytes = theirs.encode();
    let ldk_load = median(3, || {
        seconds(|| drop(black_box(LdkGraph::read(&mut &ldk_bytes[..], &Silent).expect("it reads what it writes"))))
    });
    let channels = graph.view().channel_count();
    json!({
        "bytes_per_channel": ours / channels,
        "ldk_bytes_per_channel_with_node_messages_only": ldk / channels,
        "change_and_publish_us": publish * 1e6,
        "encode_ms": encode * 1e3,
        "file_bytes": bytes.len(),
        "load_ms": load * 1e3,
        "ldk_file_bytes": ldk_bytes.len(),
        "ldk_load_ms": ldk_load * 1e3,
    })
}
