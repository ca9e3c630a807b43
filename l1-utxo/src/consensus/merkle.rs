//! Merkle roots, with detection of the mutation of CVE-2012-2459 (Core: `consensus/merkle.cpp`).

use bitcoin::hashes::{Hash, HashEngine, sha256d};

/// A merkle root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MerkleRoot {
    /// The root; zero for no leaves.
    pub root: [u8; 32],
    /// Whether two real neighbours are equal at some level: the same root then belongs to a shorter list as well.
    pub mutated: bool,
}

/// The root over `leaves`, which it consumes as its working space.
pub fn merkle_root(mut leaves: Vec<[u8; 32]>) -> MerkleRoot {
    let mut mutated = false;
    while leaves.len() > 1 {
        let pairs = leaves.len().div_ceil(2);
        for i in 0..pairs {
            let left = leaves[2 * i];
            let right = leaves.get(2 * i + 1).copied();
            mutated |= right == Some(left);
            leaves[i] = hash_pair(&left, &right.unwrap_or(left));
        }
        leaves.truncate(pairs);
    }
    MerkleRoot { root: leaves.first().copied().unwrap_or_default(), mutated }
}

/// SHA256d of two nodes.
pub fn hash_pair(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut engine = sha256d::Hash::engine();
    engine.input(left);
    engine.input(right);
    sha256d::Hash::from_engine(engine).to_byte_array()
}

/// The siblings from leaf `position` up to the root, for a proof (Core: `TransactionMerklePath`).
pub fn merkle_path(mut leaves: Vec<[u8; 32]>, mut position: usize) -> Vec<[u8; 32]> {
    let mut path = Vec::new();
    while leaves.len() > 1 {
        path.push(leaves.get(position ^ 1).copied().unwrap_or(leaves[position]));
        let pairs = leaves.len().div_ceil(2);
        for i in 0..pairs {
            let left = leaves[2 * i];
            leaves[i] = hash_pair(&left, &leaves.get(2 * i + 1).copied().unwrap_or(left));
        }
        leaves.truncate(pairs);
        position /= 2;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::TxMerkleNode;

    fn leaves(numbers: &[u8]) -> Vec<[u8; 32]> {
        numbers.iter().map(|&n| [n; 32]).collect()
    }

    #[test]
    fn agrees_with_rust_bitcoin() {
        for count in 1..40u8 {
            let list = leaves(&(0..count).collect::<Vec<_>>());
            let theirs = bitcoin::merkle_tree::calculate_root(list.iter().map(|l| TxMerkleNode::from_byte_array(*l)));
            let ours = merkle_root(list);
            assert_eq!(Some(ours.root), theirs.map(|root| root.to_byte_array()), "{count}");
            assert!(!ours.mutated);
        }
        assert_eq!(merkle_root(vec![]).root, [0; 32]);
    }

    #[test]
    fn repeated_tail_is_a_mutation() {
        let honest = merkle_root(leaves(&[1, 2, 3, 4, 5, 6]));
        let mutated = merkle_root(leaves(&[1, 2, 3, 4, 5, 6, 5, 6]));
        assert_eq!(honest.root, mutated.root);
        assert!(mutated.mutated && !honest.mutated);
        assert!(merkle_root(leaves(&[1, 1])).mutated);
        assert!(!merkle_root(leaves(&[1])).mutated);
    }

    #[test]
    fn path_leads_to_the_root() {
        for count in 1..20usize {
            let list: Vec<[u8; 32]> = (0..count).map(|n| [n as u8; 32]).collect();
            for position in 0..count {
                let mut index = position;
                let top = merkle_path(list.clone(), position).iter().fold(list[position], |node, sibling| {
                    let parent = if index & 1 == 0 { hash_pair(&node, sibling) } else { hash_pair(sibling, &node) };
                    index >>= 1;
                    parent
                });
                assert_eq!(top, merkle_root(list.clone()).root);
            }
        }
    }
}
