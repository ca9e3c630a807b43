//! After any operations the graph is what a few maps say that it is.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::graph::{Snapshot, VerifiedChannel, VerifiedUpdate};
use crate::units::NodeId;

#[derive(Clone, Debug)]
enum Operation {
    Announce { number: u32, nodes: (u8, u8) },
    Update { number: u32, end: u8, timestamp: u32, fee: u32, disabled: bool },
    Spend { number: u32, height: u32 },
    Prune { height: u32 },
    Publish,
    Reload,
}

fn operation() -> impl Strategy<Value = Operation> {
    let number = 1..40_u32;
    prop_oneof![
        6 => (number.clone(), 0..12_u8, 0..12_u8)
            .prop_map(|(number, one, other)| Operation::Announce { number, nodes: (one, other) }),
        8 => (number.clone(), 0..2_u8, NOW - 50..NOW, any::<u32>(), any::<bool>())
            .prop_map(|(number, end, timestamp, fee, disabled)| Operation::Update { number, end, timestamp, fee, disabled }),
        2 => (number, 1..300_u32).prop_map(|(number, height)| Operation::Spend { number, height }),
        1 => (0..400_u32).prop_map(|height| Operation::Prune { height }),
        1 => Just(Operation::Publish),
        1 => Just(Operation::Reload),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelChannel {
    nodes: [u8; 2],
    /// Time, fee, disabled.
    updates: [Option<(u32, u32, bool)>; 2],
    spent_at: Option<u32>,
}

#[derive(Clone, Debug, Default)]
struct Model {
    channels: BTreeMap<u32, ModelChannel>,
    closed: BTreeSet<u32>,
}

impl Model {
    fn announce(&mut self, number: u32, nodes: [u8; 2]) -> bool {
        if self.closed.contains(&number) || self.channels.contains_key(&number) {
            return false;
        }
        self.channels.insert(number, ModelChannel { nodes, updates: [None; 2], spent_at: None });
        true
    }

    fn update(&mut self, number: u32, end: u8, update: (u32, u32, bool)) -> bool {
        let Some(channel) = self.channels.get_mut(&number) else { return false };
        let slot = &mut channel.updates[usize::from(end)];
        if slot.is_some_and(|(time, _, _)| time >= update.0) || (channel.spent_at.is_some() && !update.2) {
            return false;
        }
        *slot = Some(update);
        true
    }

    fn prune(&mut self, height: u32) {
        let gone = |channel: &ModelChannel| channel.spent_at.is_some_and(|spent| spent + 71 <= height);
        self.closed.extend(self.channels.iter().filter(|(_, channel)| gone(channel)).map(|(number, _)| *number));
        self.channels.retain(|_, channel| !gone(channel));
    }
}

fn scid_of(number: u32) -> ShortChannelId {
    scid(1_000 + number, 1)
}

/// The same network seen through every way to read a snapshot.
fn compare(view: &Snapshot, model: &Model) {
    let numbers: Vec<u32> = view.channels_in_blocks(0, u32::MAX).map(|(scid, _)| scid.block() - 1_000).collect();
    assert!(numbers.iter().eq(model.channels.keys()));
    assert_eq!(view.channel_count(), model.channels.len());
    let nodes: BTreeSet<u8> = model.channels.values().flat_map(|channel| channel.nodes).collect();
    assert_eq!(view.node_count(), nodes.len());
    assert_eq!(
        view.nodes().map(|node| view.node_id(node)).collect::<Vec<_>>(),
        nodes.iter().map(|number| Some(NodeId(id(*number)))).collect::<Vec<_>>()
    );
    let mut edges = 0;
    for (number, channel) in &model.channels {
        let index = view.channel_index(scid_of(*number)).expect("the model has it");
        let found = view.channel(index).expect("it is there");
        assert_eq!(found.spent_at, channel.spent_at);
        let places = channel.nodes.map(|number| view.node_index(&NodeId(id(number))).expect("it has a channel"));
        assert_eq!([found.node_1, found.node_2], places);
        for (end, direction) in ENDS.into_iter().enumerate() {
            let policy = view.policy(index, direction);
            let update = policy.map(|policy| (policy.timestamp, policy.fee_base_msat, policy.disabled));
            assert_eq!(update, channel.updates[end]);
            let Some(edge) = view.edge(index, direction) else { continue };
            edges += 1;
            assert_eq!((edge.source, edge.channel, edge.direction()), (places[end], index, direction));
            assert_eq!(edge.is_spent(), channel.spent_at.is_some());
            assert!(view.edges_into(places[1 - end]).contains(edge));
        }
    }
    let all: usize =
        (0..view.node_bound()).map(|node| view.edges_into(crate::graph::NodeIndex(node as u32)).len()).sum();
    assert_eq!(all, edges, "no edge is left behind");
}

fn play(operations: Vec<Operation>) {
    let (mut graph, mut model) = (Graph::new(chain()), Model::default());
    let mut published = Vec::new();
    for operation in operations {
        match operation {
            Operation::Announce { number, nodes: (one, other) } if one != other => {
                let nodes = [one.min(other), one.max(other)];
                // Another pair of nodes for one output would blacklist them.
                let nodes = model.channels.get(&number).map_or(nodes, |channel| channel.nodes);
                let announcement = announcement_of(channel(scid_of(number), nodes).into());
                let channel = VerifiedChannel::assume_signed(announcement).expect("it is one");
                let taken = graph.apply_channel(&channel, &output(scid_of(number)), now()).is_ok();
                assert_eq!(taken, model.announce(number, nodes));
            }
            Operation::Announce { .. } => {}
            Operation::Update { number, end, timestamp, fee, disabled } => {
                let mut update = update(scid_of(number), end, timestamp);
                update.fee_base_msat = fee;
                update.channel_flags |= if disabled { 2 } else { 0 };
                let signer = model.channels.get(&number).map_or(0, |channel| channel.nodes[usize::from(end)]);
                let update =
                    VerifiedUpdate::assume_signed(announcement_of(update.into()), &id(signer)).expect("it is one");
                assert_eq!(
                    graph.apply_update(&update, now()).is_ok(),
                    model.update(number, end, (timestamp, fee, disabled))
                );
            }
            Operation::Spend { number, height: at } => {
                assert_eq!(graph.funding_spent(scid_of(number), height(at)), model.channels.contains_key(&number));
                model.channels.entry(number).and_modify(|channel| channel.spent_at = Some(at));
            }
            Operation::Prune { height: at } => {
                graph.prune(now(), height(at));
                model.prune(at);
            }
            Operation::Publish => published.push((graph.snapshot(), model.clone())),
            Operation::Reload => graph = Graph::decode(&graph.encode(), chain()).expect("it reads what it writes"),
        }
    }
    compare(graph.view(), &model);
    published.iter().for_each(|(view, model)| compare(view, model));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_graph_is_what_a_naive_model_says(operations in proptest::collection::vec(operation(), 0..150)) {
        play(operations);
    }
}
