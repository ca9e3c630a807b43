//! The entries, what spends what, and the clusters these relations make, each kept as a linearization cut into chunks.
//!
//! Nothing here grows with the size of the mempool but the depth of its search trees: a change touches the clusters it
//! concerns, and a cluster holds at most [`MAX_CLUSTER_COUNT`] transactions.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod check;
mod entry;
mod linearization;

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Txid, Wtxid};

use self::linearization::{Chunk, Node, chunks, linearize};

pub use self::entry::Entry;
pub(super) use self::entry::{ClusterId, Slot, memory_usage};
pub use self::linearization::{FeeSize, MAX_CLUSTER_COUNT, compare_diagrams};

/// Weight of one cluster at most: 101,000 virtual bytes (Core: `DEFAULT_CLUSTER_SIZE_LIMIT_KVB`).
const MAX_CLUSTER_WEIGHT: u64 = 4 * 101_000;

/// A cluster: its transactions in mining order, cut into chunks.
#[derive(Debug, Clone, Default)]
pub(in crate::mempool) struct Cluster {
    pub(in crate::mempool) order: Vec<Slot>,
    pub(in crate::mempool) chunks: Vec<Chunk>,
    /// Each spends the one before, so that there is no other order.
    is_row: bool,
}

impl Cluster {
    /// Two transactions have one order at most to choose from, and so have those that hang on each other in a row.
    const fn is_unproven(&self) -> bool {
        self.order.len() > 2 && !self.is_row
    }
}

/// The place of a chunk among all: worst feerate first, and within a cluster the last chunk first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mempool) struct Rank {
    size: FeeSize,
    cluster: ClusterId,
    index: Reverse<usize>,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.size
            .compare_feerate(other.size)
            .then_with(|| self.cluster.cmp(&other.cluster))
            .then_with(|| self.index.cmp(&other.index))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Clusters as they would be after a change that was not made yet.
#[derive(Debug, Default)]
pub(in crate::mempool) struct Plan {
    replaced: BTreeSet<ClusterId>,
    clusters: Vec<Cluster>,
}

impl Plan {
    /// The chunks of the clusters to be.
    pub(in crate::mempool) fn chunks(&self) -> Vec<FeeSize> {
        self.clusters.iter().flat_map(|cluster| cluster.chunks.iter().map(|chunk| chunk.size)).collect()
    }
}

/// A transaction that is not in the graph yet: its size and its relatives there.
#[derive(Debug, Clone, Copy)]
pub(in crate::mempool) struct Newcomer<'a> {
    pub(in crate::mempool) size: FeeSize,
    pub(in crate::mempool) parents: &'a [Slot],
    /// Its parents among those that come together with it, by their places; each comes before it.
    pub(in crate::mempool) new_parents: &'a [usize],
    pub(in crate::mempool) children: &'a [Slot],
}

/// More than ever come together; the slots from here on stand for newcomers in a plan.
const MOST_NEWCOMERS: u32 = 256;

fn newcomer_slot(place: usize) -> Slot {
    Slot(u32::MAX - index_of(place))
}

fn newcomer_place(slot: Slot) -> Option<usize> {
    let place = u32::MAX - slot.0;
    (place < MOST_NEWCOMERS).then_some(place as usize)
}

/// What a cluster holds at most (Core: `-limitclustercount`, `-limitclustersize`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterLimits {
    /// Transactions, [`MAX_CLUSTER_COUNT`] at most.
    pub count: usize,
    /// Weight of all of them.
    pub weight: u64,
}

impl Default for ClusterLimits {
    fn default() -> Self {
        Self { count: MAX_CLUSTER_COUNT, weight: MAX_CLUSTER_WEIGHT }
    }
}

/// The cluster would hold too many transactions or weigh too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mempool) struct TooLarge;

#[derive(Debug, Default)]
pub(in crate::mempool) struct Graph {
    entries: Vec<Option<Entry>>,
    free: Vec<Slot>,
    by_txid: BTreeMap<Txid, Slot>,
    by_wtxid: BTreeMap<Wtxid, Slot>,
    spenders: BTreeMap<OutPoint, Slot>,
    clusters: Vec<Option<Cluster>>,
    free_clusters: Vec<ClusterId>,
    ranks: BTreeSet<Rank>,
    by_time: BTreeSet<(i64, Slot)>,
    /// Clusters whose linearization may not be the best one.
    unproven: usize,
    limits: ClusterLimits,
}

impl Graph {
    /// An empty one.
    pub(in crate::mempool) fn new(limits: ClusterLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Whether every linearization is known to be the best one.
    pub(in crate::mempool) const fn is_optimal(&self) -> bool {
        self.unproven == 0
    }

    pub(in crate::mempool) fn len(&self) -> usize {
        self.by_txid.len()
    }

    pub(in crate::mempool) fn slot(&self, txid: &Txid) -> Option<Slot> {
        self.by_txid.get(txid).copied()
    }

    /// The same by the hash with witnesses.
    pub(in crate::mempool) fn slot_by_wtxid(&self, wtxid: &Wtxid) -> Option<Slot> {
        self.by_wtxid.get(wtxid).copied()
    }

    /// Which entry spends this output.
    pub(in crate::mempool) fn spender(&self, outpoint: &OutPoint) -> Option<Slot> {
        self.spenders.get(outpoint).copied()
    }

    pub(in crate::mempool) fn entry(&self, slot: Slot) -> &Entry {
        self.entries[slot.0 as usize].as_ref().expect("slots in the indexes are occupied")
    }

    fn entry_mut(&mut self, slot: Slot) -> &mut Entry {
        self.entries[slot.0 as usize].as_mut().expect("slots in the indexes are occupied")
    }

    pub(in crate::mempool) fn cluster(&self, id: ClusterId) -> &Cluster {
        self.clusters[id.0 as usize].as_ref().expect("entries name living clusters")
    }

    /// Every entry, by txid.
    pub(in crate::mempool) fn iter(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        self.by_txid.values().map(|slot| (*slot, self.entry(*slot)))
    }

    /// Entries that came before `time`, oldest first.
    pub(in crate::mempool) fn older_than(&self, time: i64) -> Vec<Slot> {
        self.by_time.range(..(time, Slot(0))).map(|(_, slot)| *slot).collect()
    }

    /// The chunks from best to worst: their transactions in mining order, and the cluster they are of.
    pub(in crate::mempool) fn best_chunks(&self) -> impl Iterator<Item = (ClusterId, FeeSize, &[Slot])> {
        self.ranks.iter().rev().map(|rank| (rank.cluster, rank.size, self.chunk_slots(rank)))
    }

    /// The chunk that would be mined last.
    pub(in crate::mempool) fn worst_chunk(&self) -> Option<(FeeSize, &[Slot])> {
        self.ranks.first().map(|rank| (rank.size, self.chunk_slots(rank)))
    }

    fn chunk_slots(&self, rank: &Rank) -> &[Slot] {
        let cluster = self.cluster(rank.cluster);
        let start: usize = cluster.chunks[..rank.index.0].iter().map(|chunk| chunk.len).sum();
        &cluster.order[start..start + cluster.chunks[rank.index.0].len]
    }

    /// The chunk an entry is in.
    pub(in crate::mempool) fn chunk_of(&self, slot: Slot) -> FeeSize {
        self.place_of(slot).0.0.size
    }

    /// Sorts entries as they would be mined: by the rank of the chunk, the best first, then by the place in the cluster.
    pub(in crate::mempool) fn place_of(&self, slot: Slot) -> (Reverse<Rank>, usize) {
        let id = self.entry(slot).cluster;
        let cluster = self.cluster(id);
        let position = cluster.order.iter().position(|other| *other == slot).expect("clusters list their entries");
        let mut end = 0;
        let index = cluster.chunks.iter().position(|chunk| {
            end += chunk.len;
            position < end
        });
        let index = index.expect("the chunks cover the cluster");
        (Reverse(Rank { size: cluster.chunks[index].size, cluster: id, index: Reverse(index) }), position)
    }

    /// All ancestors of these, themselves included.
    pub(in crate::mempool) fn ancestors(&self, of: &[Slot]) -> BTreeSet<Slot> {
        self.closure(of, |entry| &entry.parents)
    }

    /// All descendants of these, themselves included.
    pub(in crate::mempool) fn descendants(&self, of: &[Slot]) -> BTreeSet<Slot> {
        self.closure(of, |entry| &entry.children)
    }

    fn closure(&self, of: &[Slot], next: impl Fn(&Entry) -> &Vec<Slot>) -> BTreeSet<Slot> {
        let mut found: BTreeSet<Slot> = of.iter().copied().collect();
        let mut open: Vec<Slot> = found.iter().copied().collect();
        while let Some(slot) = open.pop() {
            for other in next(self.entry(slot)) {
                if found.insert(*other) {
                    open.push(*other);
                }
            }
        }
        found
    }

    /// The clusters after `removed` are gone and the newcomers have come, `removed` being closed under descendants or under
    /// ancestors.
    pub(in crate::mempool) fn plan(
        &self,
        removed: &BTreeSet<Slot>,
        newcomers: &[Newcomer<'_>],
    ) -> Result<Plan, TooLarge> {
        let relatives = newcomers.iter().flat_map(|new| new.parents.iter().chain(new.children));
        let replaced: BTreeSet<ClusterId> =
            removed.iter().chain(relatives).map(|slot| self.entry(*slot).cluster).collect();
        self.arrange_anew(replaced, removed, newcomers)
    }

    fn arrange_anew(
        &self,
        replaced: BTreeSet<ClusterId>,
        removed: &BTreeSet<Slot>,
        newcomers: &[Newcomer<'_>],
    ) -> Result<Plan, TooLarge> {
        let members = replaced.iter().flat_map(|id| self.cluster(*id).order.iter());
        let mut slots: Vec<Slot> = members.copied().filter(|slot| !removed.contains(slot)).collect();
        slots.extend((0..newcomers.len()).map(newcomer_slot));
        let places: BTreeMap<Slot, usize> = slots.iter().enumerate().map(|(place, slot)| (*slot, place)).collect();
        let edges = self.edges(&slots, &places, newcomers);
        let size = |slot: Slot| match newcomer_place(slot) {
            Some(place) => newcomers[place].size,
            None => self.entry(slot).size(),
        };
        let components = components(slots.len(), &edges);
        let mut parents: Vec<Vec<u64>> = components.sets.iter().map(|set| vec![0; set.len()]).collect();
        if components.sets.iter().any(|set| set.len() > self.limits.count) {
            return Err(TooLarge);
        }
        for (parent, child) in edges {
            let (set, index) = components.places[child];
            parents[set][index] |= 1 << components.places[parent].1;
        }
        let sets = components.sets.iter().zip(parents);
        let clusters = sets.map(|(set, parents)| {
            let members: Vec<Slot> = set.iter().map(|place| slots[*place]).collect();
            let nodes = members.iter().zip(parents);
            arrange(&members, nodes.map(|(slot, parents)| Node { size: size(*slot), parents }).collect(), self.limits)
        });
        Ok(Plan { replaced, clusters: clusters.collect::<Result<_, _>>()? })
    }

    /// Parent and child of every relation, by place.
    fn edges(&self, slots: &[Slot], places: &BTreeMap<Slot, usize>, newcomers: &[Newcomer<'_>]) -> Vec<(usize, usize)> {
        let mut edges = Vec::new();
        let first = slots.len() - newcomers.len();
        for (place, slot) in slots[..first].iter().enumerate() {
            let parents = self.entry(*slot).parents.iter().filter_map(|parent| places.get(parent));
            edges.extend(parents.map(|parent| (*parent, place)));
        }
        for (place, new) in newcomers.iter().enumerate().map(|(place, new)| (first + place, new)) {
            edges.extend(new.parents.iter().filter_map(|parent| places.get(parent)).map(|parent| (*parent, place)));
            edges.extend(new.new_parents.iter().map(|parent| (first + parent, place)));
            edges.extend(new.children.iter().filter_map(|child| places.get(child)).map(|child| (place, *child)));
        }
        edges
    }

    /// The chunks that a plan would replace, best first or not.
    pub(in crate::mempool) fn replaced_chunks(&self, plan: &Plan) -> Vec<FeeSize> {
        let clusters = plan.replaced.iter().map(|id| self.cluster(*id));
        clusters.flat_map(|cluster| cluster.chunks.iter().map(|chunk| chunk.size)).collect()
    }

    /// Removes entries as planned, and adds some, each with its parents among those before it. The plan must have been made
    /// for exactly these. Returns what was removed, and where what was added lies.
    pub(in crate::mempool) fn apply(
        &mut self,
        plan: Plan,
        removed: &BTreeSet<Slot>,
        newcomers: Vec<(Entry, Vec<usize>)>,
    ) -> (Vec<Entry>, Vec<Slot>) {
        for id in &plan.replaced {
            self.drop_cluster(*id);
        }
        let gone: Vec<Entry> = removed.iter().map(|slot| self.detach(*slot, removed)).collect();
        let mut added: Vec<Slot> = Vec::with_capacity(newcomers.len());
        for (mut entry, new_parents) in newcomers {
            entry.parents.extend(new_parents.into_iter().map(|place| added[place]));
            added.push(self.attach(entry));
        }
        for mut cluster in plan.clusters {
            for slot in &mut cluster.order {
                if let Some(place) = newcomer_place(*slot) {
                    *slot = added[place];
                }
            }
            self.adopt_cluster(cluster);
        }
        (gone, added)
    }

    /// Changes what the owner adds to an entry's fee, and orders its cluster anew.
    pub(in crate::mempool) fn reprice(&mut self, slot: Slot, delta: i64) {
        self.entry_mut(slot).delta = delta;
        let replaced = BTreeSet::from([self.entry(slot).cluster]);
        let plan = self.arrange_anew(replaced, &BTreeSet::new(), &[]);
        self.apply(plan.expect("its members are those it had"), &BTreeSet::new(), Vec::new());
    }

    fn drop_cluster(&mut self, id: ClusterId) {
        let cluster = self.clusters[id.0 as usize].take().expect("plans name living clusters");
        self.unproven -= usize::from(cluster.is_unproven());
        for (index, chunk) in cluster.chunks.iter().enumerate() {
            self.ranks.remove(&Rank { size: chunk.size, cluster: id, index: Reverse(index) });
        }
        self.free_clusters.push(id);
    }

    fn adopt_cluster(&mut self, cluster: Cluster) {
        let id = self.free_clusters.pop().unwrap_or_else(|| {
            self.clusters.push(None);
            ClusterId(index_of(self.clusters.len() - 1))
        });
        for slot in &cluster.order {
            self.entry_mut(*slot).cluster = id;
        }
        let ranks = cluster.chunks.iter().enumerate();
        self.ranks.extend(ranks.map(|(index, chunk)| Rank { size: chunk.size, cluster: id, index: Reverse(index) }));
        self.unproven += usize::from(cluster.is_unproven());
        self.clusters[id.0 as usize] = Some(cluster);
    }

    fn detach(&mut self, slot: Slot, together: &BTreeSet<Slot>) -> Entry {
        let entry = self.entries[slot.0 as usize].take().expect("plans name occupied slots");
        for parent in entry.parents.iter().filter(|parent| !together.contains(parent)) {
            self.entry_mut(*parent).children.retain(|child| *child != slot);
        }
        for child in entry.children.iter().filter(|child| !together.contains(child)) {
            self.entry_mut(*child).parents.retain(|parent| *parent != slot);
        }
        for input in &entry.transaction.input {
            self.spenders.remove(&input.previous_output);
        }
        self.by_txid.remove(&entry.txid);
        self.by_wtxid.remove(&entry.wtxid);
        self.by_time.remove(&(entry.time, slot));
        self.free.push(slot);
        entry
    }

    fn attach(&mut self, entry: Entry) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            Slot(index_of(self.entries.len() - 1))
        });
        for parent in &entry.parents {
            self.entry_mut(*parent).children.push(slot);
        }
        for child in &entry.children {
            self.entry_mut(*child).parents.push(slot);
        }
        for input in &entry.transaction.input {
            self.spenders.insert(input.previous_output, slot);
        }
        self.by_txid.insert(entry.txid, slot);
        self.by_wtxid.insert(entry.wtxid, slot);
        self.by_time.insert((entry.time, slot));
        self.entries[slot.0 as usize] = Some(entry);
        slot
    }
}

fn index_of(position: usize) -> u32 {
    u32::try_from(position).expect("the size limit keeps the mempool far below 2^32 entries")
}

/// Linearizes one connected set.
fn arrange(members: &[Slot], nodes: Vec<Node>, limits: ClusterLimits) -> Result<Cluster, TooLarge> {
    if nodes.iter().map(|node| node.size.weight).sum::<u64>() > limits.weight {
        return Err(TooLarge);
    }
    let order = linearize(&nodes);
    let is_row = order.windows(2).all(|pair| nodes[pair[1]].parents >> pair[0] & 1 == 1);
    Ok(Cluster {
        is_row,
        chunks: chunks(order.iter().map(|index| nodes[*index].size)),
        order: order.into_iter().map(|index| members[index]).collect(),
    })
}

/// Connected sets of places, and for every place its set and its index there.
struct Components {
    sets: Vec<Vec<usize>>,
    places: Vec<(usize, usize)>,
}

fn components(count: usize, edges: &[(usize, usize)]) -> Components {
    let mut root: Vec<usize> = (0..count).collect();
    for (a, b) in edges {
        let (a, b) = (find(&mut root, *a), find(&mut root, *b));
        root[a.max(b)] = a.min(b);
    }
    let mut sets: Vec<Vec<usize>> = Vec::new();
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(count);
    for place in 0..count {
        let first = find(&mut root, place);
        // The root is the smallest place of its set, so its set exists by now.
        let set = if first == place { sets.len() } else { places[first].0 };
        if set == sets.len() {
            sets.push(Vec::new());
        }
        places.push((set, sets[set].len()));
        sets[set].push(place);
    }
    Components { sets, places }
}

fn find(root: &mut [usize], mut place: usize) -> usize {
    while root[place] != place {
        root[place] = root[root[place]];
        place = root[place];
    }
    place
}
