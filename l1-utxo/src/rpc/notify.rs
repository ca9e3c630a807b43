//! ZeroMQ notifications as Bitcoin Core publishes them: blocks and transactions, by hash or whole, and the sequence of all
//! that comes and goes. Messages have three parts: topic, body, and a counter of the topic's messages.
//!
//! Who listens too slowly misses messages, and sees it by the counter. Bitcoin Core: `zmq/`, `doc/zmq.md`.

use std::collections::BTreeMap;

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Transaction, Txid};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

use crate::config::{Publication, Topic};
use crate::consensus::HashedBlock;
use crate::driver::{Handle, Notice};
use crate::mempool::Event;

/// Core's default high water mark, which `getzmqnotifications` tells.
pub const HIGH_WATER_MARK: u32 = 1_000;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{key} = \"{address}\": {source}: choose another address")]
pub struct NotifyError {
    key: &'static str,
    address: String,
    source: zeromq::ZmqError,
}

/// A socket's file outlives a process that was killed, and would keep its address taken (as libzmq does).
fn remove_stale(address: &str) {
    use std::os::unix::fs::FileTypeExt;
    let Some(path) = address.strip_prefix("ipc://") else { return };
    if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(path, %error, "a socket that nobody listens on cannot be removed");
    }
}

/// One socket, with the topics published on it and how many messages each has had.
struct Publisher {
    socket: PubSocket,
    topics: BTreeMap<Topic, u32>,
}

/// The sockets.
pub struct Notifier {
    publishers: Vec<Publisher>,
}

impl Notifier {
    /// Listens on every address; topics of one address share a socket.
    pub async fn bind(publications: &[Publication]) -> Result<Self, NotifyError> {
        let mut by_address: BTreeMap<&str, Publisher> = BTreeMap::new();
        for publication in publications {
            let address = publication.address.as_str();
            if !by_address.contains_key(address) {
                remove_stale(address);
                let mut socket = PubSocket::new();
                let bound = socket.bind(address).await;
                bound.map_err(|source| NotifyError {
                    key: publication.topic.key(),
                    address: address.to_owned(),
                    source,
                })?;
                tracing::info!(address, "zmq publishes");
                by_address.insert(address, Publisher { socket, topics: BTreeMap::new() });
            }
            if let Some(publisher) = by_address.get_mut(address) {
                publisher.topics.insert(publication.topic, 0);
            }
        }
        Ok(Self { publishers: by_address.into_values().collect() })
    }

    /// Publishes what happens until the node stops.
    pub async fn run(mut self, handle: Handle, mut stopping: watch::Receiver<bool>) {
        // Who listens is woken by every transaction and holds every block for a while.
        if self.publishers.is_empty() {
            return;
        }
        let mut notices = handle.notices();
        // The block of the newest tip is the one that was connected last.
        let mut newest: Option<std::sync::Arc<HashedBlock>> = None;
        loop {
            let notice = tokio::select! {
                notice = notices.recv() => notice,
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            match notice {
                Ok(notice) => self.publish(notice, &mut newest).await,
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "zmq: notifications were left out"),
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn publish(&mut self, notice: Notice, newest: &mut Option<std::sync::Arc<HashedBlock>>) {
        match notice {
            Notice::Connected(block) => {
                self.transactions(block.iter()).await;
                self.send(Topic::Sequence, || sequence(&block.hash(), b'C')).await;
                *newest = Some(block);
            }
            Notice::Disconnected(block) => {
                self.transactions(block.iter()).await;
                self.send(Topic::Sequence, || sequence(&block.hash(), b'D')).await;
            }
            Notice::Tip(tip) => {
                // A chain that only became shorter has no new block to show.
                let Some(block) = newest.as_ref().filter(|block| block.hash() == tip.hash) else { return };
                self.send(Topic::HashBlock, || shown(tip.hash.to_byte_array())).await;
                self.send(Topic::RawBlock, || serialize(block.block())).await;
            }
            Notice::Mempool(Event::Added { transaction, txid, sequence }) => {
                self.transactions(std::iter::once((&txid, transaction.as_ref()))).await;
                self.send(Topic::Sequence, || numbered(&txid, b'A', sequence)).await;
            }
            Notice::Mempool(Event::Removed { txid, sequence, .. }) => {
                self.send(Topic::Sequence, || numbered(&txid, b'R', sequence)).await;
            }
        }
    }

    async fn transactions(&mut self, transactions: impl Iterator<Item = (&Txid, &Transaction)>) {
        if !self.wants(Topic::HashTransaction) && !self.wants(Topic::RawTransaction) {
            return;
        }
        for (txid, transaction) in transactions {
            self.send(Topic::HashTransaction, || shown(txid.to_byte_array())).await;
            self.send(Topic::RawTransaction, || serialize(transaction)).await;
        }
    }

    fn wants(&self, topic: Topic) -> bool {
        self.publishers.iter().any(|publisher| publisher.topics.contains_key(&topic))
    }

    async fn send(&mut self, topic: Topic, body: impl Fn() -> Vec<u8>) {
        for publisher in &mut self.publishers {
            let Some(count) = publisher.topics.get_mut(&topic) else { continue };
            let mut message = ZmqMessage::from(topic.name().as_bytes().to_vec());
            message.push_back(body().into());
            message.push_back(count.to_le_bytes().to_vec().into());
            *count = count.wrapping_add(1);
            if let Err(error) = publisher.socket.send(message).await {
                tracing::debug!(%error, topic = topic.name(), "zmq: a message was not sent");
            }
        }
    }
}

/// A hash as it is shown: most significant byte first.
fn shown(mut hash: [u8; 32]) -> Vec<u8> {
    hash.reverse();
    hash.to_vec()
}

fn sequence(hash: &BlockHash, label: u8) -> Vec<u8> {
    let mut body = shown(hash.to_byte_array());
    body.push(label);
    body
}

fn numbered(txid: &Txid, label: u8, number: u64) -> Vec<u8> {
    let mut body = shown(txid.to_byte_array());
    body.push(label);
    body.extend(number.to_le_bytes());
    body
}
