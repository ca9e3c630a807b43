//! What must hold of the graph at any time, checked whole: for tests and for `--check-mempool`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::linearization::{Chunk, chunks};
use super::{Cluster, ClusterId, Graph, Rank, Slot, index_of};

impl Graph {
    /// Panics unless every index agrees with the entries, and every cluster is whole, within its limits and in a valid
    /// order.
    pub(in crate::mempool) fn check(&self) {
        let living: Vec<Slot> = self.by_txid.values().copied().collect();
        assert_eq!(self.entries.iter().flatten().count(), living.len(), "entries and txids");
        let inputs = living.iter().flat_map(|slot| {
            let inputs = self.entry(*slot).transaction.input.iter();
            inputs.map(move |input| (input.previous_output, *slot))
        });
        assert_eq!(inputs.collect::<BTreeMap<_, _>>(), self.spenders, "inputs and spenders");
        let times: BTreeSet<_> = living.iter().map(|slot| (self.entry(*slot).time, *slot)).collect();
        assert_eq!(times, self.by_time, "times");
        let mut ranks = BTreeSet::new();
        let mut placed = 0;
        let clusters = self.clusters.iter().enumerate();
        for (index, cluster) in clusters.filter_map(|(index, cluster)| Some((index, cluster.as_ref()?))) {
            let id = ClusterId(index_of(index));
            placed += cluster.order.len();
            self.check_cluster(id, cluster);
            let all = cluster.chunks.iter().enumerate();
            ranks.extend(all.map(|(index, chunk)| Rank { size: chunk.size, cluster: id, index: Reverse(index) }));
        }
        assert_eq!(placed, living.len(), "entries in clusters");
        assert_eq!(ranks, self.ranks, "chunks by feerate");
    }

    fn check_cluster(&self, id: ClusterId, cluster: &Cluster) {
        assert!(cluster.order.len() <= self.limits.count, "the cluster's count");
        let weight: u64 = cluster.order.iter().map(|slot| self.entry(*slot).weight).sum();
        assert!(cluster.order.len() == 1 || weight <= self.limits.weight, "the cluster's weight");
        let mut seen = BTreeSet::new();
        for slot in &cluster.order {
            let entry = self.entry(*slot);
            assert_eq!(entry.cluster, id, "entries name their cluster");
            let known = entry.transaction.input.iter().filter_map(|input| self.slot(&input.previous_output.txid));
            let parents: BTreeSet<Slot> = entry.parents.iter().copied().collect();
            assert_eq!(known.collect::<BTreeSet<_>>(), parents, "parents are what is spent");
            assert!(entry.parents.iter().all(|parent| seen.contains(parent)), "parents come first");
            assert!(entry.parents.iter().all(|parent| self.entry(*parent).children.contains(slot)), "known to parents");
            assert!(entry.children.iter().all(|child| self.entry(*child).parents.contains(slot)), "known to children");
            seen.insert(*slot);
        }
        let cut: Vec<Chunk> = chunks(cluster.order.iter().map(|slot| self.entry(*slot).size()));
        assert_eq!(cluster.chunks, cut, "the chunks of the order");
    }
}
