//! The keys and scripts that descriptors stand for, private keys included.

use bitcoin::bip32::{ChildNumber, DerivationPath, Xpriv};
use bitcoin::hashes::Hash;
use miniscript::descriptor::{DefiniteDescriptorKey, DescriptorSecretKey, KeyMap, ShInner, Wildcard};
use miniscript::{Descriptor as Miniscript, DescriptorPublicKey, ForEachKey};
use secp256k1::SECP256K1;

use super::{Keystore, TapSpend};

/// Why a descriptor has no keys here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// It is none that keys can be made of.
    #[error("{0}")]
    Malformed(String),
    /// A hardened step of a key that is public.
    #[error("Cannot derive script without private keys")]
    Private,
}

/// Whether the range of a descriptor's text is one of hardened steps, which only private keys can take.
pub fn has_hardened_range(text: &str) -> bool {
    text.contains("/*h") || text.contains("/*'")
}

/// The descriptor at one place of such a range.
pub fn at_hardened(text: &str, index: u32) -> String {
    let step = format!("/{index}h");
    text.replace("/*h", &step).replace("/*'", &step)
}

/// Whether all public keys can be derived: the crate would panic where one has a hardened step before it.
pub fn is_derivable(descriptor: &Miniscript<DescriptorPublicKey>) -> bool {
    descriptor.for_each_key(|key| match key {
        DescriptorPublicKey::Single(_) => true,
        DescriptorPublicKey::XPub(key) => {
            key.wildcard != Wildcard::Hardened && key.derivation_path.into_iter().all(ChildNumber::is_normal)
        }
        DescriptorPublicKey::MultiXPub(_) => false,
    })
}

/// Adds what the descriptor, without its checksum, stands for at these places of its range.
pub fn expand(text: &str, (first, last): (u32, u32), keys: &mut Keystore) -> Result<(), ExpandError> {
    if has_hardened_range(text) {
        return (first..=last).try_for_each(|index| expand(&at_hardened(text, index), (0, 0), keys));
    }
    let malformed = |error: miniscript::Error| ExpandError::Malformed(error.to_string());
    let (descriptor, secrets) = Miniscript::parse_descriptor(SECP256K1, text).map_err(malformed)?;
    for single in descriptor.into_single_descriptors().map_err(malformed)? {
        let (first, last) = if single.has_wildcard() { (first, last) } else { (0, 0) };
        for index in first..=last {
            add(&single, index, keys)?;
            add_secrets(&secrets, index, keys);
        }
    }
    Ok(())
}

fn add(descriptor: &Miniscript<DescriptorPublicKey>, index: u32, keys: &mut Keystore) -> Result<(), ExpandError> {
    if !is_derivable(descriptor) {
        return Err(ExpandError::Private);
    }
    let definite = descriptor.at_derivation_index(index).map_err(|_| ExpandError::Private)?;
    let derived = definite.derived_descriptor(SECP256K1).map_err(|_| ExpandError::Private)?;
    definite.for_each_key(|key| {
        if let Ok(public) = key.derive_public_key(SECP256K1) {
            keys.add_public(public);
            keys.add_origin(public, origin(key));
        }
        true
    });
    match &derived {
        Miniscript::Wsh(wsh) => keys.add_script(wsh.inner_script()),
        Miniscript::Sh(sh) => match sh.as_inner() {
            ShInner::Wsh(wsh) => {
                keys.add_script(wsh.inner_script());
                keys.add_script(wsh.script_pubkey());
            }
            ShInner::Wpkh(wpkh) => keys.add_script(wpkh.script_pubkey()),
            ShInner::SortedMulti(_) | ShInner::Ms(_) => keys.add_script(sh.inner_script()),
        },
        Miniscript::Tr(tr) => {
            let info = tr.spend_info();
            let mut spend = TapSpend {
                internal_key: Some(info.internal_key().serialize()),
                merkle_root: info.merkle_root().map(|root| root.to_byte_array()),
                ..TapSpend::default()
            };
            // Core's builder puts what comes last before what it is joined with: the leaves from the right to the left.
            let leaves = tr.iter_scripts().map(|(depth, leaf)| {
                let version = bitcoin::taproot::LeafVersion::TapScript.to_consensus();
                (depth, version, leaf.encode().into_bytes())
            });
            spend.tree = leaves.collect();
            spend.tree.reverse();
            for leaf in info.script_map().keys() {
                if let Some(block) = info.control_block(leaf) {
                    let (script, version) = leaf;
                    let leaf = (script.to_bytes(), version.to_consensus());
                    spend.scripts.entry(leaf).or_default().insert(block.serialize());
                }
            }
            keys.add_taproot(info.output_key().to_x_only_public_key().serialize(), spend);
        }
        Miniscript::Bare(_) | Miniscript::Pkh(_) | Miniscript::Wpkh(_) => {}
    }
    Ok(())
}

/// Fingerprint and path, as PSBT writes them.
fn origin(key: &DefiniteDescriptorKey) -> Vec<u8> {
    let mut bytes = key.master_fingerprint().to_bytes().to_vec();
    for step in key.full_derivation_path().into_iter().flat_map(|path| path.into_iter().copied().collect::<Vec<_>>()) {
        bytes.extend(u32::from(step).to_le_bytes());
    }
    bytes
}

fn add_secrets(secrets: &KeyMap, index: u32, keys: &mut Keystore) {
    for secret in secrets.values() {
        match secret {
            DescriptorSecretKey::Single(single) => keys.add_secret(single.key.inner, single.key.compressed),
            DescriptorSecretKey::XPrv(extended) => {
                add_child(&extended.xkey, &extended.derivation_path, extended.wildcard, index, keys);
            }
            DescriptorSecretKey::MultiXPrv(extended) => {
                for path in extended.derivation_paths.paths() {
                    add_child(&extended.xkey, path, extended.wildcard, index, keys);
                }
            }
        }
    }
}

fn add_child(key: &Xpriv, path: &DerivationPath, wildcard: Wildcard, index: u32, keys: &mut Keystore) {
    let step = match wildcard {
        Wildcard::None => None,
        Wildcard::Unhardened => ChildNumber::from_normal_idx(index).ok(),
        Wildcard::Hardened => ChildNumber::from_hardened_idx(index).ok(),
    };
    let path = step.map_or_else(|| path.clone(), |step| path.child(step));
    if let Ok(child) = key.derive_priv(SECP256K1, &path) {
        keys.add_secret(child.private_key, true);
    }
}
