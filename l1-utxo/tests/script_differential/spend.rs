//! One spend of each kind: a transaction, the outputs it spends, and the input in question.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, hash160, sha256};
use bitcoin::key::TapTweak as _;
use bitcoin::taproot::{LeafVersion, TapLeafHash, TapNodeHash};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use secp256k1::SECP256K1;

use super::Rng;
use super::limit;
use super::lock::{Lock, Need, Separator};
use super::signing::{KEYS, Signing, public_key};
use super::soup;

/// What is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    PubKey,
    PubKeyHash,
    Bare,
    FindAndDelete,
    ScriptHash,
    WitnessKeyHash,
    WitnessScriptHash,
    NestedKeyHash,
    NestedScriptHash,
    TaprootKey,
    TaprootScript,
    UnknownWitness,
    Soup,
    ScriptHashSoup,
    WitnessSoup,
    TapscriptSoup,
    Limit,
}

impl Kind {
    pub const ALL: &'static [Self] = &[
        Self::PubKey,
        Self::PubKeyHash,
        Self::Bare,
        Self::FindAndDelete,
        Self::ScriptHash,
        Self::WitnessKeyHash,
        Self::WitnessScriptHash,
        Self::NestedKeyHash,
        Self::NestedScriptHash,
        Self::TaprootKey,
        Self::TaprootScript,
        Self::UnknownWitness,
        Self::Soup,
        Self::ScriptHashSoup,
        Self::WitnessSoup,
        Self::TapscriptSoup,
        Self::Limit,
    ];
}

#[derive(Debug, Clone)]
pub struct Case {
    pub transaction: Transaction,
    pub prevouts: Vec<TxOut>,
    pub index: usize,
}

/// A spend of this kind that is valid more often than not.
pub fn make(kind: Kind, rng: &mut Rng) -> Case {
    let mut case = skeleton(rng);
    match kind {
        Kind::PubKey | Kind::PubKeyHash => single_key(&mut case, kind == Kind::PubKeyHash, rng),
        Kind::Bare => {
            let lock = Lock::random(false, &case.transaction, case.index, rng);
            let stack = satisfy(&mut case, &lock, lock.script.clone(), Version0::No, rng);
            case.set_script_sig(&stack, rng);
        }
        Kind::FindAndDelete => find_and_delete(&mut case, rng),
        Kind::ScriptHash => {
            let lock = Lock::random(false, &case.transaction, case.index, rng);
            let mut stack = satisfy(&mut case, &lock, p2sh(&lock.script), Version0::No, rng);
            stack.push(lock.script);
            case.set_script_sig(&stack, rng);
        }
        Kind::WitnessKeyHash | Kind::NestedKeyHash => witness_key_hash(&mut case, kind == Kind::NestedKeyHash, rng),
        Kind::WitnessScriptHash | Kind::NestedScriptHash => {
            let lock = Lock::random(false, &case.transaction, case.index, rng);
            let program = [&[0, 32][..], sha256::Hash::hash(&lock.script).as_byte_array()].concat();
            let mut stack = satisfy(&mut case, &lock, program.clone(), Version0::Yes, rng);
            stack.push(lock.script);
            case.set_witness(stack);
            case.nest(kind == Kind::NestedScriptHash, &program);
        }
        Kind::TaprootKey => taproot_key(&mut case, rng),
        Kind::TaprootScript => {
            let lock = Lock::random(true, &case.transaction, case.index, rng);
            taproot_script(&mut case, lock, None, rng);
        }
        Kind::UnknownWitness => unknown_witness(&mut case, rng),
        Kind::Soup | Kind::ScriptHashSoup | Kind::WitnessSoup | Kind::TapscriptSoup => {
            let stack: Vec<Vec<u8>> = (0..rng.random_range(0..5)).map(|_| soup::element(rng)).collect();
            let script = soup::script(stack.len(), rng);
            run_on(&mut case, kind, script, stack, rng);
        }
        Kind::Limit if rng.random_bool(0.3) => {
            let (script, stack) = limit::validation_budget(rng);
            run_on(&mut case, Kind::TapscriptSoup, script, stack, rng);
        }
        Kind::Limit => {
            let (script, stack) = limit::make(rng);
            let kinds = [Kind::Soup, Kind::ScriptHashSoup, Kind::WitnessSoup, Kind::TapscriptSoup];
            run_on(&mut case, *kinds.choose(rng).expect("not empty"), script, stack, rng);
        }
    }
    case
}

impl Case {
    pub fn input(&mut self) -> &mut TxIn {
        &mut self.transaction.input[self.index]
    }

    fn lock(&mut self, script_pubkey: Vec<u8>) {
        self.prevouts[self.index].script_pubkey = ScriptBuf::from_bytes(script_pubkey);
    }

    fn set_script_sig(&mut self, stack: &[Vec<u8>], rng: &mut Rng) {
        let script: Vec<u8> = stack.iter().flat_map(|element| soup::any_push(element, rng)).collect();
        self.input().script_sig = ScriptBuf::from_bytes(script);
    }

    pub fn set_witness(&mut self, stack: Vec<Vec<u8>>) {
        self.input().witness = Witness::from_slice(&stack);
    }

    /// Puts a witness program behind a script hash.
    fn nest(&mut self, nested: bool, program: &[u8]) {
        if nested {
            self.lock(p2sh(program));
            self.input().script_sig = ScriptBuf::from_bytes(soup::push(program));
        }
    }

    fn signing(&self) -> Signing<'_> {
        Signing { transaction: &self.transaction, prevouts: &self.prevouts, index: self.index }
    }
}

fn p2sh(script: &[u8]) -> Vec<u8> {
    Script::from_bytes(script).to_p2sh().into_bytes()
}

fn p2pkh(pubkey: &[u8]) -> Vec<u8> {
    [&[0x76, 0xa9, 20][..], hash160::Hash::hash(pubkey).as_byte_array(), &[0x88, 0xac]].concat()
}

/// A transaction with a few inputs and outputs; every spent output is anyone's until it is locked.
fn skeleton(rng: &mut Rng) -> Case {
    let inputs = rng.random_range(1..=4);
    let lock_time = *[0, 100, 499_999_999, 500_000_000, 1_700_000_000, u32::MAX].choose(rng).expect("not empty");
    let sequences = [0, 1, 10, 0xffff, 0x40_0000, 0x40_0010, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
    let input = |rng: &mut Rng| TxIn {
        previous_output: OutPoint::new(Txid::from_byte_array(rng.random()), rng.random_range(0..4)),
        script_sig: ScriptBuf::new(),
        sequence: Sequence(*sequences.choose(rng).expect("not empty")),
        witness: Witness::new(),
    };
    let output = |rng: &mut Rng| {
        let mut script = vec![0; rng.random_range(0..40)];
        rng.fill(script.as_mut_slice());
        TxOut {
            value: Amount::from_sat(rng.random_range(0..100_000_000)),
            script_pubkey: ScriptBuf::from_bytes(script),
        }
    };
    let transaction = Transaction {
        version: Version(*[1, 2, 2, 3, 0, -1].choose(rng).expect("not empty")),
        lock_time: LockTime::from_consensus(lock_time),
        input: (0..inputs).map(|_| input(rng)).collect(),
        output: (0..rng.random_range(1..=4)).map(|_| output(rng)).collect(),
    };
    Case { prevouts: (0..inputs).map(|_| output(rng)).collect(), index: rng.random_range(0..inputs), transaction }
}

#[derive(Clone, Copy, PartialEq)]
enum Version0 {
    Yes,
    No,
}

/// Locks the input with `script_pubkey` and gives the stack that satisfies `lock`, bottom first.
fn satisfy(case: &mut Case, lock: &Lock, script_pubkey: Vec<u8>, version: Version0, rng: &mut Rng) -> Vec<Vec<u8>> {
    case.lock(script_pubkey);
    let signing = case.signing();
    let element = |need: &Need| match need {
        Need::Bytes(bytes) => bytes.clone(),
        Need::Signature { key, separator } if version == Version0::Yes => {
            signing.witness_v0(*key, &lock.script[separator.code_start..], rng)
        }
        Need::Signature { key, separator } => signing.legacy(*key, &lock.script_code(*separator), rng),
    };
    lock.needs.iter().rev().map(element).collect()
}

fn single_key(case: &mut Case, hashed: bool, rng: &mut Rng) {
    let key = rng.random_range(0..KEYS.len());
    let pubkey = public_key(key, rng);
    let script = if hashed { p2pkh(&pubkey) } else { [soup::push(&pubkey), vec![0xac]].concat() };
    case.lock(script.clone());
    let mut stack = vec![case.signing().legacy(key, &script, rng)];
    if hashed {
        stack.push(pubkey);
    }
    case.set_script_sig(&stack, rng);
}

/// A script that holds its own signature, which is cut out before it is hashed.
fn find_and_delete(case: &mut Case, rng: &mut Rng) {
    let key = rng.random_range(0..KEYS.len());
    let pubkey = public_key(key, rng);
    let copies = rng.random_range(1..=3usize);
    let multisig = rng.random_bool(0.3);
    let check = if multisig {
        [&[0x51][..], &soup::push(&pubkey), &[0x51, 0xae]].concat()
    } else {
        [soup::push(&pubkey), vec![0xac]].concat()
    };
    let tail = [vec![0x75; copies], check].concat();
    let signature = case.signing().legacy(key, &tail, rng);
    // A copy that no instruction begins with stays: as data of a longer push it was not signed, and the check fails.
    let hidden = if rng.random_bool(0.2) { soup::push(&soup::push(&signature)) } else { soup::push(&signature) };
    let script = [soup::push(&signature).repeat(copies - 1), hidden, tail].concat();
    let mut stack = vec![signature];
    if multisig {
        stack.insert(0, vec![]);
    }
    if rng.random_bool(0.5) {
        case.lock(p2sh(&script));
        stack.push(script);
    } else {
        case.lock(script);
    }
    case.set_script_sig(&stack, rng);
}

fn witness_key_hash(case: &mut Case, nested: bool, rng: &mut Rng) {
    let key = rng.random_range(0..KEYS.len());
    let pubkey = public_key(key, rng);
    let program = [&[0, 20][..], hash160::Hash::hash(&pubkey).as_byte_array()].concat();
    case.lock(program.clone());
    let signature = case.signing().witness_v0(key, &p2pkh(&pubkey), rng);
    case.set_witness(vec![signature, pubkey]);
    case.nest(nested, &program);
}

fn annex(rng: &mut Rng) -> Option<Vec<u8>> {
    rng.random_bool(0.25).then(|| {
        let mut annex = vec![0x50; rng.random_range(1..300)];
        rng.fill(&mut annex[1..]);
        annex
    })
}

fn taproot_key(case: &mut Case, rng: &mut Rng) {
    let keypair = KEYS[rng.random_range(0..KEYS.len())];
    let root = rng.random_bool(0.5).then(|| TapNodeHash::from_byte_array(rng.random()));
    let keypair = keypair.tap_tweak(SECP256K1, root).to_keypair();
    case.lock([&[0x51, 32][..], &keypair.x_only_public_key().0.serialize()].concat());
    let annex = annex(rng);
    let mut stack = vec![case.signing().taproot(&keypair, annex.as_deref(), None, rng)];
    stack.extend(annex);
    case.set_witness(stack);
}

/// Spends a leaf of a tree; `arguments` replaces what the lock asks for.
fn taproot_script(case: &mut Case, lock: Lock, arguments: Option<Vec<Vec<u8>>>, rng: &mut Rng) {
    let version = if rng.random_bool(0.9) { 0xc0 } else { rng.random::<u8>() & 0xfe };
    let script = Script::from_bytes(&lock.script);
    // The crate has no leaf version 0x50, which would look like an annex.
    let version = LeafVersion::from_consensus(version).unwrap_or(LeafVersion::TapScript);
    let leaf = TapLeafHash::from_script(script, version);
    let path_length = *[0, 0, 1, 2, 7, 128].choose(rng).expect("not empty");
    let path: Vec<[u8; 32]> = (0..path_length).map(|_| rng.random()).collect();
    let root = path.iter().fold(TapNodeHash::from(leaf), |node, other| {
        TapNodeHash::from_node_hashes(node, TapNodeHash::from_byte_array(*other))
    });
    let internal = KEYS[rng.random_range(0..KEYS.len())].x_only_public_key().0;
    let (output_key, parity) = internal.tap_tweak(SECP256K1, Some(root));
    case.lock([&[0x51, 32][..], &output_key.to_x_only_public_key().serialize()].concat());

    let annex = annex(rng);
    let signing = case.signing();
    let element = |need: &Need| match need {
        Need::Bytes(bytes) => bytes.clone(),
        Need::Signature { key, separator: Separator { position, .. } } => {
            signing.taproot(&KEYS[*key], annex.as_deref(), Some((leaf, *position)), rng)
        }
    };
    let mut stack = arguments.unwrap_or_else(|| lock.needs.iter().rev().map(element).collect());
    stack.push(lock.script);
    stack.push([&[version.to_consensus() | parity.to_u8()][..], &internal.serialize(), &path.concat()].concat());
    stack.extend(annex);
    case.set_witness(stack);
}

/// Programs without a meaning yet, of wrong length, and pay-to-anchor.
fn unknown_witness(case: &mut Case, rng: &mut Rng) {
    let mut program = vec![0; rng.random_range(1..=42)];
    rng.fill(program.as_mut_slice());
    let version = *[0x00, 0x51, 0x51, 0x52, 0x5f, 0x60, 0x61].choose(rng).expect("not empty");
    let mut script = [&[version, program.len() as u8][..], &program].concat();
    if rng.random_bool(0.2) {
        script = vec![0x51, 0x02, 0x4e, 0x73];
    }
    case.lock(script.clone());
    case.set_witness((0..rng.random_range(0..3)).map(|_| soup::element(rng)).collect());
    case.nest(rng.random_bool(0.3), &script);
}

/// Spends an output that a script locks, on this stack.
fn run_on(case: &mut Case, kind: Kind, mut script: Vec<u8>, mut stack: Vec<Vec<u8>>, rng: &mut Rng) {
    match kind {
        Kind::Soup => {
            case.lock(script);
            case.set_script_sig(&stack, rng);
        }
        Kind::ScriptHashSoup => {
            script.truncate(520);
            case.lock(p2sh(&script));
            stack.push(script);
            case.set_script_sig(&stack, rng);
        }
        Kind::WitnessSoup => {
            case.lock([&[0, 32][..], sha256::Hash::hash(&script).as_byte_array()].concat());
            stack.push(script);
            case.set_witness(stack);
        }
        _ => {
            let mut lock = Lock::new(true);
            lock.script = script;
            taproot_script(case, lock, Some(stack), rng);
        }
    }
}
