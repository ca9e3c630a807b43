//! What became of a revoked commitment, as the blocks tell it: who took which output, by which right.

use std::collections::BTreeSet;

use crate::demo::balance::{ANCHOR_SAT, Ledger};

/// The items of a witness that spends with the revocation key (BOLT 3: signature, 1 or the key, script). The victim's own
/// balance is claimed with two.
const REVOCATION_ITEMS: usize = 3;

/// The end of a revoked commitment.
#[derive(Debug, Default)]
pub struct Punishment {
    /// The transactions that took an output by the revocation key.
    pub txids: BTreeSet<String>,
    /// What they brought the victim: the outputs taken, less the fees.
    pub claimed_sat: u64,
    /// Outputs that were taken by the revocation key.
    pub outputs: usize,
    /// Outputs that the victim did not get.
    pub lost: Vec<String>,
}

impl Punishment {
    /// Follows every output of the commitment, and those of the cheater's second stage. Anchors are worth less than their
    /// claim. `claims` are the transactions that the victim's node says are its own.
    pub fn read(ledger: &Ledger, revoked: &str, claims: &BTreeSet<String>) -> Punishment {
        let mut punishment = Punishment::default();
        let (mut open, mut taken_sat, mut taken) = (vec![revoked], 0, BTreeSet::new());
        while let Some(txid) = open.pop() {
            let Some(values) = ledger.outputs.get(txid) else {
                punishment.lost.push(format!("{txid} is in no block"));
                continue;
            };
            for (index, _) in values.iter().enumerate().filter(|(_, value)| **value != ANCHOR_SAT) {
                let outpoint = (txid.to_string(), index as u32);
                match ledger.spends.get(&outpoint) {
                    Some(spend) if claims.contains(&spend.txid) && spend.witness_items == REVOCATION_ITEMS => {
                        punishment.txids.insert(spend.txid.clone());
                        taken_sat += spend.value_sat;
                        taken.insert(outpoint);
                    }
                    Some(spend) if claims.contains(&spend.txid) => {}
                    // The cheater's second stage: its outputs must have been taken.
                    Some(spend) if txid == revoked => open.push(&spend.txid),
                    _ => punishment.lost.push(format!("{txid}:{index}")),
                }
            }
        }
        punishment.outputs = taken.len();
        punishment.claimed_sat = taken_sat.saturating_sub(fees(ledger, &punishment.txids));
        punishment
    }
}

/// What these transactions paid for themselves.
fn fees(ledger: &Ledger, txids: &BTreeSet<String>) -> u64 {
    let spent: u64 =
        ledger.spends.values().filter(|spend| txids.contains(&spend.txid)).map(|spend| spend.value_sat).sum();
    let paid: u64 = txids.iter().filter_map(|txid| ledger.outputs.get(txid)).flatten().sum();
    spent.saturating_sub(paid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::balance::Spend;

    fn spend(ledger: &mut Ledger, from: (&str, u32), value_sat: u64, txid: &str, witness_items: usize) {
        let spend = Spend { txid: txid.into(), value_sat, witness_items };
        ledger.spends.insert((from.0.into(), from.1), spend);
    }

    #[test]
    fn every_output_is_followed_through_the_second_stage() {
        let mut ledger = Ledger::default();
        ledger.outputs.insert("revoked".into(), vec![330, 1_000, 500, 700]);
        ledger.outputs.insert("stage".into(), vec![400]);
        ledger.outputs.insert("penalty".into(), vec![1_300]);
        ledger.outputs.insert("own".into(), vec![690]);
        spend(&mut ledger, ("revoked", 1), 1_000, "penalty", 3);
        spend(&mut ledger, ("revoked", 2), 500, "stage", 5);
        spend(&mut ledger, ("stage", 0), 400, "penalty", 3);
        spend(&mut ledger, ("revoked", 3), 700, "own", 2);
        let claims: BTreeSet<String> = ["penalty", "own"].map(String::from).into();
        let punishment = Punishment::read(&ledger, "revoked", &claims);
        assert!(punishment.lost.is_empty(), "{punishment:?}");
        assert_eq!((punishment.claimed_sat, punishment.outputs), (1_300, 2));
        assert_eq!(punishment.txids, ["penalty".to_string()].into());
        let without = Punishment::read(&ledger, "revoked", &["penalty".to_string()].into());
        assert_eq!(without.lost, ["own is in no block"].map(|_| "own:0".to_string()));
    }
}
