//! The search for a nonce that makes a header's hash small enough.

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::{Hash, HashEngine, sha256, sha256d};

use crate::consensus::pow::{U256, derive_target};
use crate::params::Params;

/// How a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// With this nonce the header proves its work.
    Found(u32),
    /// Not within the tries; go on from here.
    Paused(u32),
    /// No nonce up to the last one will do: change the header.
    Exhausted,
}

/// Tries at most `tries` nonces from `start` on. The header's own nonce does not matter.
pub fn search(header: &Header, start: u32, tries: u64, params: &Params) -> Search {
    let Some(target) = derive_target(header.bits, params) else {
        return Search::Exhausted;
    };
    let bytes = serialize(header);
    let (head, tail) = bytes.split_at(64);
    // All but the last 16 bytes are hashed once.
    let mut middle = sha256::HashEngine::default();
    middle.input(head);
    let last = u64::from(start).saturating_add(tries).min(1 << 32);
    for nonce in u64::from(start)..last {
        let nonce = nonce as u32;
        let mut engine = middle.clone();
        engine.input(&tail[..12]);
        engine.input(&nonce.to_le_bytes());
        let hash: sha256d::Hash = sha256::Hash::from_engine(engine).hash_again();
        if U256::from_le_bytes(&hash.to_byte_array()) <= target {
            return Search::Found(nonce);
        }
    }
    u32::try_from(last).map_or(Search::Exhausted, Search::Paused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Network;

    #[test]
    fn the_nonces_of_both_genesis_blocks_are_found() {
        for network in Network::ALL {
            let params = network.params();
            let header = &params.genesis.header;
            assert_eq!(search(header, header.nonce, 10, params), Search::Found(header.nonce), "{network}");
        }
        // On devnet a nonce is rare: those just before do not do.
        let params = Network::Devnet.params();
        let header = &params.genesis.header;
        assert_eq!(search(header, header.nonce - 3, 10, params), Search::Found(header.nonce));
    }

    #[test]
    fn a_search_pauses_and_ends() {
        let params = Network::Devnet.params();
        let mut header = params.genesis.header;
        assert_eq!(search(&header, 0, 5, params), Search::Paused(5));
        header.bits = bitcoin::CompactTarget::from_consensus(0x0300_0001);
        assert_eq!(search(&header, u32::MAX, 5, params), Search::Exhausted);
    }
}
