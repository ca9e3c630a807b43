//! What tells one network from another: magic, ports, genesis, proof-of-work limit, retargeting and subsidy.
//!
//! `regtest` is Bitcoin Core's, byte for byte (`kernel/chainparams.cpp`, `CRegTestParams`). `devnet` is our own network with
//! real retargeting at a short block interval. All soft forks are active from height 1 in both (segwit from 0) by default.
//! Nothing here is computed from a clock or a file; of the options only regtest's activation heights come in, once.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::str::FromStr;
use std::sync::{LazyLock, OnceLock};

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut,
    Witness, transaction,
};

/// The networks this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Bitcoin Core's regression test network.
    Regtest,
    /// Our development network, where proof of work means something.
    Devnet,
}

/// The name is neither `regtest` nor `devnet`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown network \"{0}\": expected regtest or devnet")]
pub struct UnknownNetwork(pub String);

/// The heights from which the buried soft forks hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activation {
    /// The coinbase begins with the height, and versions below 2 are refused.
    pub bip34: u32,
    /// Strict signatures (BIP 66), and versions below 3 are refused.
    pub dersig: u32,
    /// `OP_CHECKLOCKTIMEVERIFY` (BIP 65), and versions below 4 are refused.
    pub cltv: u32,
    /// Relative lock times (BIP 68, 112), and absolute ones by median time (BIP 113).
    pub csv: u32,
    /// Commitments to witnesses (BIP 141, 147). Witness programs and taproot are enforced on every block.
    pub segwit: u32,
}

impl Default for Activation {
    fn default() -> Self {
        Self { bip34: 1, dersig: 1, cltv: 1, csv: 1, segwit: 0 }
    }
}

/// What regtest was told before its constants were asked for.
static REGTEST_ACTIVATION: OnceLock<Activation> = OnceLock::new();

/// Moves regtest's activation heights (Core: `-testactivationheight`): before anything else, and once a process. `false`:
/// it is too late.
pub fn activate_regtest_at(activation: Activation) -> bool {
    *REGTEST_ACTIVATION.get_or_init(|| activation) == activation
}

/// The constants of one network.
#[derive(Clone, Debug)]
pub struct Params {
    /// Which network these are of.
    pub network: Network,
    /// The first four bytes of every p2p message.
    pub magic: [u8; 4],
    /// Default p2p port.
    pub p2p_port: u16,
    /// Default JSON-RPC port.
    pub rpc_port: u16,
    /// Block 0; its coinbase is no coin.
    pub genesis: Block,
    /// The hash of block 0; its bytes are the Lightning `chain_hash`.
    pub genesis_hash: BlockHash,
    /// The highest target allowed, in compact form. `pow_limit` is its full value.
    pub pow_limit_bits: CompactTarget,
    /// The highest target allowed, as 32 bytes, most significant first.
    pub pow_limit: [u8; 32],
    /// Seconds wanted between two blocks.
    pub pow_target_spacing: u32,
    /// Seconds wanted for one retarget period.
    pub pow_target_timespan: u32,
    /// Whether the target never changes (Core: `fPowNoRetargeting`). Regtest's minimum-difficulty rule for late blocks
    /// (`fPowAllowMinDifficultyBlocks`) then has nothing to choose from: every block has the limit.
    pub no_retargeting: bool,
    /// BIP 94: seconds by which the first block of a retarget period may lie before its parent; `None` switches BIP 94 off.
    /// Bitcoin's 600 s are its block spacing, and so is devnet's value: with 600 s in a period of 600 s the attack that the
    /// rule is there for would still pay.
    pub max_timewarp: Option<u32>,
    /// Seconds by which a block may be ahead of our clock.
    pub max_future_block_time: u32,
    /// Blocks between two halvings of the subsidy.
    pub subsidy_halving_interval: u32,
    /// The heights of the soft forks.
    pub activation: Activation,
    /// Whether `setmocktime` is served.
    pub is_mockable: bool,
}

/// Scripts, addresses and keys look as on Bitcoin's regtest in both networks (versions 111/196, WIF 239, `bcrt`).
pub const ADDRESS_NETWORK: bitcoin::Network = bitcoin::Network::Regtest;

impl Network {
    /// Every network, in the order of their names' introduction.
    pub const ALL: [Self; 2] = [Self::Regtest, Self::Devnet];

    /// The name on the command line, in the data directory and as `chain` in RPC answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regtest => "regtest",
            Self::Devnet => "devnet",
        }
    }

    /// The constants of this network.
    pub fn params(self) -> &'static Params {
        static REGTEST: LazyLock<Params> = LazyLock::new(regtest);
        static DEVNET: LazyLock<Params> = LazyLock::new(devnet);
        match self {
            Self::Regtest => &REGTEST,
            Self::Devnet => &DEVNET,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Network {
    type Err = UnknownNetwork;

    fn from_str(name: &str) -> Result<Self, UnknownNetwork> {
        Self::ALL.into_iter().find(|n| n.name() == name).ok_or_else(|| UnknownNetwork(name.to_owned()))
    }
}

impl Params {
    /// Blocks in one retarget period.
    pub const fn difficulty_adjustment_interval(&self) -> u32 {
        self.pow_target_timespan / self.pow_target_spacing
    }
}

fn regtest() -> Params {
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
    Params {
        network: Network::Regtest,
        magic: [0xfa, 0xbf, 0xb5, 0xda],
        p2p_port: 18_444,
        rpc_port: 18_443,
        genesis_hash: genesis.block_hash(),
        genesis,
        pow_limit_bits: CompactTarget::from_consensus(0x207f_ffff),
        pow_limit: leading([0x7f, 0xff, 0xff], 0, 0xff),
        pow_target_spacing: 600,
        pow_target_timespan: 24 * 60 * 60,
        no_retargeting: true,
        max_timewarp: None,
        max_future_block_time: 2 * 60 * 60,
        subsidy_halving_interval: 150,
        activation: *REGTEST_ACTIVATION.get_or_init(Activation::default),
        is_mockable: true,
    }
}

/// Devnet's limit is met by one hash in 2^23: about a second of one core at 8 million header hashes a second.
const DEVNET_POW_LIMIT_BITS: u32 = 0x1e01_ffff;

fn devnet() -> Params {
    let genesis = devnet_genesis();
    Params {
        network: Network::Devnet,
        magic: [0x6c, 0x31, 0x75, 0xde],
        p2p_port: 19_444,
        rpc_port: 19_443,
        genesis_hash: genesis.block_hash(),
        genesis,
        pow_limit_bits: CompactTarget::from_consensus(DEVNET_POW_LIMIT_BITS),
        pow_limit: leading([0x01, 0xff, 0xff], 2, 0x00),
        pow_target_spacing: 10,
        pow_target_timespan: 600,
        no_retargeting: false,
        max_timewarp: Some(10),
        max_future_block_time: 60,
        subsidy_halving_interval: 210_000,
        activation: Activation::default(),
        is_mockable: false,
    }
}

/// Block 0 of devnet: 2026-01-01 00:00 UTC, with a nonce that really meets the limit.
fn devnet_genesis() -> Block {
    let message = b"l1-utxo devnet: proof of work that means something";
    let script_sig =
        Builder::new().push_int(i64::from(DEVNET_POW_LIMIT_BITS)).push_slice([4u8]).push_slice(message).into_script();
    let coinbase = Transaction {
        version: transaction::Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig,
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::from_int_btc(50),
            script_pubkey: ScriptBuf::from_bytes(vec![OP_RETURN.to_u8()]),
        }],
    };
    let header = Header {
        version: Version::from_consensus(4),
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::from_raw_hash(coinbase.compute_txid().to_raw_hash()),
        time: 1_767_225_600,
        bits: CompactTarget::from_consensus(DEVNET_POW_LIMIT_BITS),
        nonce: 7_210_423,
    };
    Block { header, txdata: vec![coinbase] }
}

/// A 256-bit number, most significant byte first: `zeros` zero bytes, three `digits`, the rest `fill`.
fn leading(digits: [u8; 3], zeros: usize, fill: u8) -> [u8; 32] {
    let mut bytes = [fill; 32];
    bytes[..zeros].fill(0);
    bytes[zeros..zeros + 3].copy_from_slice(&digits);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Target;

    #[test]
    fn regtest_is_bitcoin_cores() {
        let params = Network::Regtest.params();
        assert_eq!(params.genesis, bitcoin::constants::genesis_block(bitcoin::Network::Regtest));
        assert_eq!(params.genesis_hash.to_string(), "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206");
        assert_eq!(params.difficulty_adjustment_interval(), 144);
        assert_eq!(bitcoin::p2p::Magic::REGTEST.to_bytes(), params.magic);
    }

    #[test]
    fn devnet_genesis_meets_its_own_limit() {
        let params = Network::Devnet.params();
        assert_eq!(params.genesis_hash.to_string(), "000001995213aa74b5a601ba409a8a5c72c24161ec148e5ac99fe318a344620a");
        assert!(params.genesis.header.target().is_met_by(params.genesis_hash));
        assert_eq!(params.genesis.header.bits, params.pow_limit_bits);
        assert!(params.genesis.check_merkle_root());
        assert_eq!(params.difficulty_adjustment_interval(), 60);
    }

    #[test]
    fn limits_and_their_compact_forms_agree() {
        for network in Network::ALL {
            let params = network.params();
            let limit = Target::from_be_bytes(params.pow_limit);
            assert_eq!(limit.to_compact_lossy(), params.pow_limit_bits);
        }
    }

    #[test]
    fn names_are_read_back() {
        for network in Network::ALL {
            assert_eq!(network.name().parse(), Ok(network));
        }
        assert_eq!("mainnet".parse::<Network>(), Err(UnknownNetwork("mainnet".into())));
    }
}
