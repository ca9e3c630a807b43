//! In which order a cluster's transactions would be mined, and which of them go together: its chunks.
//!
//! Bitcoin Core: `cluster_linearize.h`. Ancestor sets by feerate first, then Core's post-linearization in both directions,
//! which leaves every chunk connected and is optimal for clusters that are trees. Work grows with the square of the
//! cluster's size, which is at most [`MAX_CLUSTER_COUNT`].

use std::cmp::Ordering;

/// Transactions in one cluster at most; sets of them are bits of a `u64`.
pub const MAX_CLUSTER_COUNT: usize = 64;

/// Fee and size of one transaction or of several together; compared by feerate without rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeeSize {
    /// In satoshi, with what the owner of the node added or took away.
    pub fee: i64,
    /// In weight units, adjusted for signature operations.
    pub weight: u64,
}

impl FeeSize {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { fee: self.fee + other.fee, weight: self.weight + other.weight }
    }

    /// What is left without `other`, which is a part of this.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self { fee: self.fee - other.fee, weight: self.weight - other.weight }
    }

    /// Which pays more per weight unit.
    pub fn compare_feerate(self, other: Self) -> Ordering {
        let left = i128::from(self.fee) * i128::from(other.weight);
        let right = i128::from(other.fee) * i128::from(self.weight);
        left.cmp(&right)
    }
}

/// One transaction of a cluster for [`linearize`]: its parents as bits of its neighbours' positions.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// Its own fee and weight.
    pub size: FeeSize,
    /// Direct parents within the cluster.
    pub parents: u64,
}

/// Transactions that are mined together: `len` of them, in the order of the linearization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Sum of its transactions.
    pub size: FeeSize,
    /// How many transactions.
    pub len: usize,
}

/// Orders a cluster: parents before children, best feerate first. Positions in, positions out.
///
/// Panics on more than [`MAX_CLUSTER_COUNT`] nodes.
pub fn linearize(nodes: &[Node]) -> Vec<usize> {
    assert!(nodes.len() <= MAX_CLUSTER_COUNT, "the cluster limit was checked");
    if nodes.len() < 2 {
        return (0..nodes.len()).collect();
    }
    let ancestors = transitive(nodes);
    let greedy = by_ancestor_sets(nodes, &ancestors);
    let descendants = reversed(&ancestors);
    let backward: Vec<usize> = greedy.into_iter().rev().collect();
    let mut order = regroup(nodes, &descendants, &backward, Ordering::Less);
    order.reverse();
    regroup(nodes, &ancestors, &order, Ordering::Greater)
}

/// Cuts a linearization into chunks of falling feerate.
pub fn chunks(sizes: impl Iterator<Item = FeeSize>) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for size in sizes {
        let mut last = Chunk { size, len: 1 };
        while let Some(previous) = chunks.last() {
            if last.size.compare_feerate(previous.size) != Ordering::Greater {
                break;
            }
            last = Chunk { size: previous.size.plus(last.size), len: previous.len + last.len };
            chunks.pop();
        }
        chunks.push(last);
    }
    chunks
}

/// Compares two sets of chunks as miners would: at every size the sum of the fees of the best chunks up to there.
/// `None` if each is better somewhere (Core: `CompareChunks`).
pub fn compare_diagrams(left: &[FeeSize], right: &[FeeSize]) -> Option<Ordering> {
    let left = diagram(left);
    let right = diagram(right);
    let mut better = false;
    let mut worse = false;
    // Both are made of straight lines and constant after their end, so it is enough to compare at the corners of either.
    for corner in left.iter().chain(&right) {
        match height(&left, corner.weight).cmp_fraction(&height(&right, corner.weight)) {
            Ordering::Greater => better = true,
            Ordering::Less => worse = true,
            Ordering::Equal => {}
        }
    }
    match (better, worse) {
        (true, true) => None,
        (true, false) => Some(Ordering::Greater),
        (false, true) => Some(Ordering::Less),
        (false, false) => Some(Ordering::Equal),
    }
}

/// A fee as a fraction, exact.
struct Height {
    numerator: i128,
    denominator: i128,
}

impl Height {
    fn cmp_fraction(&self, other: &Self) -> Ordering {
        // Fees stay below 2^63 and weights below 2^32 here: no product reaches 2^127.
        (self.numerator * other.denominator).cmp(&(other.numerator * self.denominator))
    }
}

/// Cumulated corners, best chunk first.
fn diagram(chunks: &[FeeSize]) -> Vec<FeeSize> {
    let mut sorted = chunks.to_vec();
    sorted.sort_by(|a, b| b.compare_feerate(*a));
    let mut sum = FeeSize::default();
    sorted
        .into_iter()
        .map(|chunk| {
            sum = sum.plus(chunk);
            sum
        })
        .collect()
}

fn height(corners: &[FeeSize], weight: u64) -> Height {
    let next = corners.partition_point(|corner| corner.weight < weight);
    let before = next.checked_sub(1).map_or_else(FeeSize::default, |index| corners[index]);
    let Some(after) = corners.get(next) else {
        return Height { numerator: i128::from(before.fee), denominator: 1 };
    };
    let step = after.minus(before);
    let within = i128::from(weight - before.weight);
    Height {
        numerator: i128::from(before.fee) * i128::from(step.weight) + i128::from(step.fee) * within,
        denominator: i128::from(step.weight).max(1),
    }
}

fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(index)
    })
}

/// Ancestors of each, itself included.
fn transitive(nodes: &[Node]) -> Vec<u64> {
    let mut ancestors: Vec<u64> = nodes.iter().enumerate().map(|(index, node)| node.parents | 1 << index).collect();
    for via in 0..nodes.len() {
        let reach = ancestors[via];
        for set in &mut ancestors {
            if *set >> via & 1 == 1 {
                *set |= reach;
            }
        }
    }
    ancestors
}

/// Descendants of each from ancestors of each.
fn reversed(ancestors: &[u64]) -> Vec<u64> {
    let mut descendants = vec![0u64; ancestors.len()];
    for (index, set) in ancestors.iter().enumerate() {
        for ancestor in bits(*set) {
            descendants[ancestor] |= 1 << index;
        }
    }
    descendants
}

/// Takes the best remaining ancestor set again and again.
fn by_ancestor_sets(nodes: &[Node], ancestors: &[u64]) -> Vec<usize> {
    let mut sums: Vec<FeeSize> = ancestors
        .iter()
        .map(|set| bits(*set).fold(FeeSize::default(), |sum, index| sum.plus(nodes[index].size)))
        .collect();
    let mut remaining = if nodes.len() == 64 { u64::MAX } else { (1 << nodes.len()) - 1 };
    let mut order = Vec::with_capacity(nodes.len());
    while remaining != 0 {
        let best = bits(remaining)
            .reduce(|best, next| if sums[next].compare_feerate(sums[best]) == Ordering::Greater { next } else { best })
            .expect("something remains");
        let taken = ancestors[best] & remaining;
        let mut members: Vec<usize> = bits(taken).collect();
        // A proper ancestor has fewer ancestors: this order is topological.
        members.sort_by_key(|member| ancestors[*member].count_ones());
        remaining &= !taken;
        for index in bits(remaining) {
            for shared in bits(ancestors[index] & taken) {
                sums[index] = sums[index].minus(nodes[shared].size);
            }
        }
        order.append(&mut members);
    }
    order
}

struct Group {
    members: Vec<usize>,
    set: u64,
    needs: u64,
    size: FeeSize,
}

/// One pass of Core's `PostLinearize`: each transaction joins or overtakes the group before it while it is `better`.
fn regroup(nodes: &[Node], needs: &[u64], order: &[usize], better: Ordering) -> Vec<usize> {
    let mut groups: Vec<Group> = Vec::with_capacity(order.len());
    for &index in order {
        groups.push(Group { members: vec![index], set: 1 << index, needs: needs[index], size: nodes[index].size });
        let mut at = groups.len() - 1;
        while at > 0 && groups[at].size.compare_feerate(groups[at - 1].size) == better {
            if groups[at].needs & groups[at - 1].set == 0 {
                groups.swap(at, at - 1);
            } else {
                let moving = groups.remove(at);
                let into = &mut groups[at - 1];
                into.members.extend(moving.members);
                into.set |= moving.set;
                into.needs |= moving.needs;
                into.size = into.size.plus(moving.size);
            }
            at -= 1;
        }
    }
    groups.into_iter().flat_map(|group| group.members).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(fee: i64, weight: u64, parents: &[usize]) -> Node {
        let parents = parents.iter().fold(0, |set, parent| set | 1 << parent);
        Node { size: FeeSize { fee, weight }, parents }
    }

    fn cut(nodes: &[Node]) -> Vec<Chunk> {
        chunks(linearize(nodes).into_iter().map(|index| nodes[index].size))
    }

    #[test]
    fn a_child_pays_for_its_parent() {
        let chunks = cut(&[node(100, 400, &[]), node(5_000, 400, &[0]), node(10, 400, &[1])]);
        assert_eq!(chunks.iter().map(|chunk| chunk.len).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(chunks[0].size, FeeSize { fee: 5_100, weight: 800 });
    }

    #[test]
    fn two_children_together_pay_for_one_parent() {
        // Each child alone would not lift the parent above the other transaction.
        let nodes = [node(0, 400, &[]), node(900, 400, &[0]), node(900, 400, &[0]), node(500, 400, &[])];
        let order = linearize(&nodes);
        assert_eq!(order[..3].iter().copied().collect::<std::collections::BTreeSet<_>>(), [0, 1, 2].into());
    }

    #[test]
    fn diagrams_compare_at_every_size() {
        let chunk = |fee, weight| FeeSize { fee, weight };
        let old = [chunk(100, 100), chunk(10, 100)];
        assert_eq!(compare_diagrams(&[chunk(120, 100), chunk(10, 100)], &old), Some(Ordering::Greater));
        assert_eq!(compare_diagrams(&old, &old), Some(Ordering::Equal));
        assert_eq!(compare_diagrams(&[chunk(110, 200)], &old), Some(Ordering::Less));
        assert_eq!(compare_diagrams(&[chunk(200, 200), chunk(150, 100)], &old), Some(Ordering::Greater));
        assert_eq!(compare_diagrams(&[chunk(50, 10)], &[chunk(60, 1_000)]), None);
    }

    fn clusters() -> impl Strategy<Value = Vec<Node>> {
        let rows = prop::collection::vec((-1_000..10_000i64, 1..4_000u64, any::<u64>(), any::<u64>()), 1..=64);
        rows.prop_map(|rows| {
            let parents = |index: usize, a: u64, b: u64| a & b & ((1u64 << index) - 1);
            let nodes = rows.iter().enumerate();
            nodes
                .map(|(index, (fee, weight, a, b))| Node {
                    size: FeeSize { fee: *fee, weight: *weight },
                    parents: parents(index, *a, *b),
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn orders_are_topological_and_chunks_fall(nodes in clusters()) {
            let order = linearize(&nodes);
            let mut seen = 0u64;
            for index in &order {
                prop_assert_eq!(nodes[*index].parents & !seen, 0);
                seen |= 1 << index;
            }
            prop_assert_eq!(order.len(), nodes.len());
            let cut = cut(&nodes);
            for pair in cut.windows(2) {
                prop_assert_ne!(pair[1].size.compare_feerate(pair[0].size), Ordering::Greater);
            }
        }
    }
}
