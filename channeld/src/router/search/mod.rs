//! The cheapest way for one amount: a label-setting search backwards from the payee, for only there the amount is known.
//!
//! First with one label a node: the cheapest. Where a limit (fee, lock, hops, an edge's maximum) turned a label away that
//! might have been part of something cheaper, once more with all labels that no other beats in every respect.

mod queue;

use super::exclude::WhyNot;
use super::marks::{EXTRA, PEER};
use super::path::{Leg, Path, Via};
use super::price::Tariff;
use super::stage::{Crossing, Stage};
pub use queue::Queue;

/// The most labels that a node keeps in the thorough search.
const MOST_LABELS_A_NODE: usize = 24;
/// The most labels of a thorough search.
const MOST_LABELS: usize = 100_000;
/// In [`Label::via`]: an extra edge.
const IS_EXTRA: u32 = 1 << 31;
const NONE: u32 = u32::MAX;

/// What is searched.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// What has to arrive, in msat.
    pub amount: u64,
    /// The most fees, in msat.
    pub max_fee: u64,
    /// The longest lock of the first HTLC, in blocks.
    pub max_blocks: u32,
    /// The most HTLCs.
    pub max_hops: u32,
    /// What things cost.
    pub tariff: Tariff,
}

/// A way from a node to the payee that may become part of the answer.
#[derive(Clone, Copy, Debug)]
struct Label {
    cost: u64,
    /// What arrives at the node.
    amount: u64,
    node: u32,
    /// The label that this one leads to.
    parent: u32,
    /// The edge to the parent's node.
    via: u32,
    /// The node's next label, in the thorough search.
    next: u32,
    /// The lock of the HTLC that arrives.
    blocks: u32,
    /// How many HTLCs follow.
    hops: u16,
    is_beaten: bool,
}

/// A node's place: which label is its best, in which search.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    cost: u64,
    generation: u32,
    head: u32,
}

/// Memory between searches, so that none allocates.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    slots: Vec<Slot>,
    labels: Vec<Label>,
    queue: Queue,
    generation: u32,
}

impl Scratch {
    fn begin(&mut self, nodes: usize) {
        if self.generation == u32::MAX {
            self.slots.clear();
            self.generation = 0;
        }
        self.generation += 1;
        if self.slots.len() < nodes {
            self.slots.resize(nodes, Slot::default());
        }
        self.labels.clear();
        self.queue.clear();
    }

    /// The cost from the node to the payee that the last search found, if it got there.
    pub fn cost(&self, node: u32) -> Option<u64> {
        self.slots.get(node as usize).filter(|slot| slot.generation == self.generation).map(|slot| slot.cost)
    }
}

/// The cheapest way, if there is one within the limits.
pub fn find(stage: &Stage<'_>, scratch: &mut Scratch, ask: &Ask) -> Option<Path> {
    let mut quick = Run::new(stage, scratch, ask);
    let path = quick.search::<false>();
    if path.as_ref().map_or(u64::MAX, |path| path.cost) <= quick.turned_away {
        return path;
    }
    let thorough = Run::new(stage, scratch, ask).search::<true>();
    match (path, thorough) {
        (Some(one), Some(two)) => Some(if one.cost <= two.cost { one } else { two }),
        (one, two) => one.or(two),
    }
}

/// The same without the thorough search: it may miss a way that just keeps a limit.
pub fn find_quickly(stage: &Stage<'_>, scratch: &mut Scratch, ask: &Ask) -> Option<Path> {
    Run::new(stage, scratch, ask).search::<false>()
}

/// Finds the cost to the payee from each node that is on no way dearer than `stretch` hundredths of the cheapest; they stay in
/// `scratch`. The greatest cost of a way that this allows, or `None` where there is no way at all.
pub fn explore(stage: &Stage<'_>, scratch: &mut Scratch, ask: &Ask, stretch: u64) -> Option<u64> {
    let mut run = Run { everywhere: Some(stretch), ..Run::new(stage, scratch, ask) };
    run.search::<false>();
    (run.limit < u64::MAX).then_some(run.limit)
}

struct Run<'r, 's> {
    stage: &'r Stage<'s>,
    scratch: &'r mut Scratch,
    ask: &'r Ask,
    /// The least cost of a label that was turned away by a limit.
    turned_away: u64,
    /// Goes on beyond the first way, until ways cost so many hundredths of it.
    everywhere: Option<u64>,
    /// The greatest cost that is looked at.
    limit: u64,
}

impl<'r, 's> Run<'r, 's> {
    fn new(stage: &'r Stage<'s>, scratch: &'r mut Scratch, ask: &'r Ask) -> Run<'r, 's> {
        Run { stage, scratch, ask, turned_away: u64::MAX, everywhere: None, limit: u64::MAX }
    }

    fn search<const THOROUGH: bool>(&mut self) -> Option<Path> {
        self.scratch.begin(self.stage.node_bound());
        self.push::<THOROUGH>(Label {
            cost: 0,
            amount: self.ask.amount,
            node: self.stage.goal,
            parent: NONE,
            via: NONE,
            next: NONE,
            blocks: self.stage.query.final_cltv_delta,
            hops: 0,
            is_beaten: false,
        });
        while let Some((cost, id)) = self.scratch.queue.pop() {
            if cost > self.limit {
                break;
            }
            let label = self.scratch.labels[id as usize];
            let is_old = if THOROUGH { label.is_beaten } else { self.scratch.slots[label.node as usize].head != id };
            if is_old {
                continue;
            }
            let marks = self.stage.marks.node(label.node);
            if marks & PEER != 0
                && self.limit == u64::MAX
                && let Some(own) = self.begin_at(&label)
            {
                let Some(stretch) = self.everywhere else { return Some(self.path(id, own)) };
                self.limit = label.cost.saturating_add(self.ask.tariff.hop).saturating_mul(stretch) / 100;
            }
            // An own channel has to lead to whoever is before this node.
            if u32::from(label.hops) + 2 > self.ask.max_hops {
                self.turned_away = self.turned_away.min(label.cost);
                continue;
            }
            self.expand::<THOROUGH>(id, &label);
            if marks & EXTRA != 0 {
                self.expand_extra::<THOROUGH>(id, &label);
            }
            if THOROUGH && self.scratch.labels.len() > MOST_LABELS {
                break;
            }
        }
        None
    }

    /// The own channel that begins a way from there.
    fn begin_at(&mut self, label: &Label) -> Option<usize> {
        if u32::from(label.hops) + 1 > self.ask.max_hops {
            self.turned_away = self.turned_away.min(label.cost);
            return None;
        }
        match self.stage.own_channel(label.node, label.amount) {
            Ok(own) => Some(own),
            Err(most) => {
                if most >= self.ask.amount {
                    self.turned_away = self.turned_away.min(label.cost);
                }
                None
            }
        }
    }

    #[inline]
    fn expand<const THOROUGH: bool>(&mut self, id: u32, label: &Label) {
        let least = label.cost + self.ask.tariff.hop;
        for (at, edge) in self.stage.edges_into(label.node).iter().enumerate() {
            let slot = &self.scratch.slots[edge.source.at()];
            if !THOROUGH && slot.generation == self.scratch.generation && slot.cost <= least {
                continue;
            }
            match self.stage.cross(edge, label.amount) {
                Ok(crossing) => self.relax::<THOROUGH>(id, label, at as u32, &crossing),
                Err(why) => self.note(why, label.cost),
            }
        }
    }

    fn expand_extra<const THOROUGH: bool>(&mut self, id: u32, label: &Label) {
        let stage = self.stage;
        for (at, extra) in stage.extra_edges.iter().enumerate().filter(|(_, extra)| extra.target == label.node) {
            match stage.cross_extra(extra, label.amount) {
                Ok(crossing) => self.relax::<THOROUGH>(id, label, at as u32 | IS_EXTRA, &crossing),
                Err(why) => self.note(why, label.cost),
            }
        }
    }

    /// An edge that less would have crossed: a way with lower fees might.
    #[inline]
    fn note(&mut self, why: WhyNot, cost: u64) {
        let might = match why {
            WhyNot::AboveMaximum { maximum } => self.ask.amount <= maximum.msat(),
            WhyNot::InFlight { left } => self.ask.amount <= left.msat(),
            WhyNot::Excluded { from } => self.ask.amount < from.msat(),
            _ => false,
        };
        if might {
            self.turned_away = self.turned_away.min(cost);
        }
    }

    #[inline]
    fn relax<const THOROUGH: bool>(&mut self, id: u32, label: &Label, via: u32, crossing: &Crossing) {
        let cost = label.cost.saturating_add(self.ask.tariff.cost(crossing.fee, crossing.doubt, crossing.blocks));
        let slot = &self.scratch.slots[crossing.source as usize];
        if !THOROUGH && slot.generation == self.scratch.generation && slot.cost <= cost {
            return;
        }
        // Neither sum overflows: amounts are at most all money, fees at most 2^64 / 10^6 and a base of 32 bits.
        let amount = label.amount.saturating_add(crossing.fee);
        let blocks = label.blocks.saturating_add(crossing.blocks);
        if amount - self.ask.amount > self.ask.max_fee || blocks > self.ask.max_blocks {
            self.turned_away = self.turned_away.min(cost);
            return;
        }
        self.push::<THOROUGH>(Label {
            cost,
            amount,
            node: crossing.source,
            parent: id,
            via,
            next: NONE,
            blocks,
            hops: label.hops + 1,
            is_beaten: false,
        });
    }

    #[inline]
    fn push<const THOROUGH: bool>(&mut self, mut label: Label) {
        if THOROUGH {
            match self.unbeaten(&label) {
                Some(next) => label.next = next,
                None => return,
            }
        }
        let id = self.scratch.labels.len() as u32;
        let generation = self.scratch.generation;
        self.scratch.slots[label.node as usize] = Slot { cost: label.cost, generation, head: id };
        self.scratch.queue.push(label.cost, id);
        self.scratch.labels.push(label);
    }

    /// Takes the labels that the new one beats off its node's list; the rest of the list, or `None` where the new one is
    /// beaten or too many are better.
    fn unbeaten(&mut self, new: &Label) -> Option<u32> {
        let slot = self.scratch.slots[new.node as usize];
        if slot.generation != self.scratch.generation {
            return Some(NONE);
        }
        // A way that crosses the node twice is beaten by its own earlier label.
        let (mut head, mut last, mut at, mut count) = (slot.head, NONE, slot.head, 0);
        while at != NONE {
            let old = self.scratch.labels[at as usize];
            if beats(&old, new) {
                return None;
            }
            if beats(new, &old) {
                self.scratch.labels[at as usize].is_beaten = true;
                match last {
                    NONE => head = old.next,
                    last => self.scratch.labels[last as usize].next = old.next,
                }
            } else {
                count += 1;
                last = at;
            }
            at = old.next;
        }
        (count < MOST_LABELS_A_NODE).then_some(head)
    }

    fn path(&self, id: u32, own: usize) -> Path {
        let mut label = self.scratch.labels[id as usize];
        let cost = label.cost;
        let leg = |label: &Label, via| Leg { node: label.node, via, amount: label.amount, blocks: label.blocks };
        let mut legs = vec![leg(&label, Via::Own(own))];
        while label.parent != NONE {
            let via = match label.via & IS_EXTRA {
                0 => Via::Graph(label.via),
                _ => Via::Extra(label.via & !IS_EXTRA),
            };
            label = self.scratch.labels[label.parent as usize];
            legs.push(leg(&label, via));
        }
        Path { legs, amount: self.ask.amount, cost }
    }
}

fn beats(one: &Label, two: &Label) -> bool {
    one.cost <= two.cost && one.amount <= two.amount && one.blocks <= two.blocks && one.hops <= two.hops
}
