//! Garbage on the peers' port: before, in and after the handshake.

use channeld::peer::noise::{ACT_TWO, Initiator, Transport};
use channeld::wire::{Init, Message};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use secp256k1::{PublicKey, SecretKey};
use tests::wait::soon;
use tests::{Cluster, Daemon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::BRIEFLY;

pub async fn garbage(cluster: &Cluster, channel: &str) {
    let mut random = StdRng::seed_from_u64(7);
    before_the_handshake(cluster.bob(), &mut random).await;
    frames(cluster.bob(), &mut random).await;
    messages(cluster.bob(), channel, &mut random).await;
    many_connections(cluster.bob()).await;
}

async fn connect(node: &Daemon) -> TcpStream {
    TcpStream::connect(node.presence().listen.unwrap()).await.unwrap()
}

/// Sends bytes, then waits a moment for the end of the connection; a peer may as well wait for more.
async fn send(mut stream: TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(BRIEFLY, stream.read_to_end(&mut answer)).await;
}

fn noise(random: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill_bytes(&mut bytes);
    bytes
}

async fn before_the_handshake(node: &Daemon, random: &mut StdRng) {
    for length in [0, 1, 49, 50, 51, 66, 1_000, 70_000] {
        send(connect(node).await, &noise(random, length)).await;
    }
    // A right version and a key on the curve, with a wrong tag; and another version.
    let key = PublicKey::from_secret_key_global(&SecretKey::new(random)).serialize();
    for version in [0, 1] {
        let mut act_one = vec![version];
        act_one.extend(key);
        act_one.extend(noise(random, 16));
        send(connect(node).await, &act_one).await;
    }
    // What other protocols say first.
    for hello in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        send(connect(node).await, hello).await;
    }
}

/// A stranger with a session.
struct Stranger {
    stream: TcpStream,
    noise: Transport,
}

impl Stranger {
    async fn meet(node: &Daemon, random: &mut StdRng) -> Stranger {
        let responder: PublicKey = node.id().parse().unwrap();
        let mut stream = connect(node).await;
        let own = SecretKey::new(random);
        let (initiator, act_one) = Initiator::start(responder, SecretKey::new(random));
        stream.write_all(&act_one).await.unwrap();
        let mut act_two = [0; ACT_TWO];
        soon("act two", stream.read_exact(&mut act_two)).await.unwrap();
        let static_public = PublicKey::from_secret_key_global(&own);
        let (act_three, noise) = initiator.finish(&act_two, &static_public, |point| ecdh(point, &own)).unwrap();
        stream.write_all(&act_three).await.unwrap();
        Stranger { stream, noise }
    }

    async fn introduced(node: &Daemon, random: &mut StdRng) -> Stranger {
        let mut stranger = Stranger::meet(node, random).await;
        let features = channeld::wire::Features::init();
        let init = Init { features, ..Init::default() };
        stranger.say(&Message::Init(init).encode()).await;
        stranger
    }

    async fn say(&mut self, message: &[u8]) {
        let mut sealed = Vec::new();
        self.noise.encryptor.seal(message, &mut sealed);
        let _ = self.stream.write_all(&sealed).await;
    }

    async fn leave(self) {
        send(self.stream, &[]).await;
    }
}

async fn frames(node: &Daemon, random: &mut StdRng) {
    // Half a handshake: act three never comes, or is wrong.
    let responder: PublicKey = node.id().parse().unwrap();
    let (_, act_one) = Initiator::start(responder, SecretKey::new(random));
    send(connect(node).await, &act_one).await;
    let wrong = [act_one.as_slice(), &noise(random, 66)].concat();
    send(connect(node).await, &wrong).await;
    // Frames that were not sealed with the session's key.
    for length in [1, 17, 18, 19, 65_535 + 34] {
        let stranger = Stranger::meet(node, random).await;
        send(stranger.stream, &noise(random, length)).await;
    }
    // A good frame whose last byte is wrong, and one that is cut off.
    for cut in [false, true] {
        let mut stranger = Stranger::introduced(node, random).await;
        let mut sealed = Vec::new();
        stranger.noise.encryptor.seal(&[0, 18, 0, 4, 0, 0], &mut sealed);
        let last = sealed.len() - 1;
        if cut { sealed.truncate(last) } else { sealed[last] ^= 1 }
        send(stranger.stream, &sealed).await;
    }
}

async fn messages(node: &Daemon, channel: &str, random: &mut StdRng) {
    // Nothing but `init` may come first; and it must be one.
    for first in [&[][..], &[0], &[0, 16], &[0, 16, 255, 255], &[0, 18, 0, 0, 0, 0], &[255; 65_535]] {
        let mut stranger = Stranger::meet(node, random).await;
        stranger.say(first).await;
        stranger.leave().await;
    }
    // `init` with a feature that nobody knows, and must.
    let mut stranger = Stranger::meet(node, random).await;
    stranger.say(&[0, 16, 0, 0, 0, 8, 0x40, 0, 0, 0, 0, 0, 0, 0]).await;
    stranger.leave().await;
    let id = hex::decode(channel).unwrap();
    for kind in [1_u16, 2, 17, 18, 19, 32, 33, 34, 35, 36, 38, 39, 128, 130, 131, 132, 133, 134, 135, 136, 256, 258] {
        for body in [vec![], id.clone(), [id.clone(), vec![255; 200]].concat(), noise(random, 1_366), vec![0; 65_533]] {
            let mut stranger = Stranger::introduced(node, random).await;
            stranger.say(&[&kind.to_be_bytes()[..], &body].concat()).await;
            drop(stranger);
        }
    }
    // Types at random, many in one session until it ends.
    for _ in 0..20 {
        let mut stranger = Stranger::introduced(node, random).await;
        for _ in 0..50 {
            let length = random.random_range(0..400);
            stranger.say(&noise(random, length)).await;
        }
        drop(stranger);
    }
    node.node().await;
}

/// More connections than anyone needs, all of them silent: the others are still served.
async fn many_connections(node: &Daemon) {
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(connect(node).await);
    }
    node.node().await;
}

/// BOLT 8's ECDH: SHA-256 of the compressed point.
fn ecdh(point: &PublicKey, own: &SecretKey) -> [u8; 32] {
    secp256k1::ecdh::SharedSecret::new(point, own).secret_bytes()
}
