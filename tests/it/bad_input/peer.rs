//! Garbage on the peers' port: before, in and after the handshake.

use bitcoin::constants::ChainHash;
use channeld::peer::noise::{ACT_TWO, Initiator, LENGTH_HEADER, TAG, Transport};
use channeld::wire::{Features, Init, Message};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use secp256k1::ecdh::SharedSecret;
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

fn secret(random: &mut StdRng) -> SecretKey {
    SecretKey::from_slice(&noise(random, 32)).expect("nearly all bytes are a key")
}

async fn before_the_handshake(node: &Daemon, random: &mut StdRng) {
    for length in [0, 1, 49, 50, 51, 66, 1_000, 70_000] {
        send(connect(node).await, &noise(random, length)).await;
    }
    // A right version and a key on the curve, with a wrong tag; and another version.
    let key = PublicKey::from_secret_key_global(&secret(random)).serialize();
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
        let own = secret(random);
        let static_public = PublicKey::from_secret_key_global(&own);
        let entropy = secret(random).secret_bytes();
        let (initiator, act_one) = Initiator::start(static_public, &responder, entropy).unwrap();
        stream.write_all(&act_one).await.unwrap();
        let mut act_two = [0; ACT_TWO];
        soon("act two", stream.read_exact(&mut act_two)).await.unwrap();
        let (act_three, noise) = initiator.finish(&act_two, |point| SharedSecret::new(point, &own)).unwrap();
        stream.write_all(&act_three).await.unwrap();
        Stranger { stream, noise }
    }

    async fn introduced(node: &Daemon, random: &mut StdRng) -> Stranger {
        let mut stranger = Stranger::meet(node, random).await;
        let init = Init::new(Features::init(), ChainHash::REGTEST);
        stranger.say(&Message::Init(init).encode()).await;
        stranger
    }

    async fn say(&mut self, message: &[u8]) {
        let mut sealed = Vec::new();
        self.noise.encryptor.seal(message, &mut sealed);
        let _ = self.stream.write_all(&sealed).await;
    }

    /// The next message of the other side.
    async fn hear(&mut self) -> Vec<u8> {
        let mut header = [0; LENGTH_HEADER];
        soon("a frame", self.stream.read_exact(&mut header)).await.unwrap();
        let length = self.noise.decryptor.open_length(&mut header).unwrap();
        let mut sealed = vec![0; usize::from(length) + TAG];
        soon("a message", self.stream.read_exact(&mut sealed)).await.unwrap();
        self.noise.decryptor.open(&mut sealed).unwrap().to_vec()
    }

    async fn leave(self) {
        send(self.stream, &[]).await;
    }
}

async fn frames(node: &Daemon, random: &mut StdRng) {
    // Half a handshake: act three never comes, or is wrong.
    let responder: PublicKey = node.id().parse().unwrap();
    let own = PublicKey::from_secret_key_global(&secret(random));
    let (_, act_one) = Initiator::start(own, &responder, secret(random).secret_bytes()).unwrap();
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
        if cut {
            sealed.truncate(last)
        } else {
            sealed[last] ^= 1
        }
        send(stranger.stream, &sealed).await;
    }
}

async fn messages(node: &Daemon, channel: &str, random: &mut StdRng) {
    // What is right is answered: the others are not refused for another reason.
    let mut stranger = Stranger::introduced(node, random).await;
    assert_eq!(stranger.hear().await[..2], [0, 16], "init");
    stranger.say(&[0, 18, 0, 2, 0, 0]).await;
    // Odd messages may come before it: what we want to hear of the network, say.
    let mut heard = stranger.hear().await;
    while heard[1] % 2 == 1 && heard[..2] != [0, 19] {
        heard = stranger.hear().await;
    }
    assert_eq!(heard, [0, 19, 0, 2, 0, 0], "pong");
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
