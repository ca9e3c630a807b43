//! Policies and questions that nobody means well with: no panic, and no route that a node would refuse.

use proptest::prelude::*;

use super::world::{NOW, Terms, World, node};
use crate::router::{BlindedPath, Exclusion, InFlight, RouteHint, RouteHintHop};
use crate::units::{CltvDelta, Msat, ShortChannelId};

fn figure() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(u64::from(u32::MAX)), 1_u64..1_000_000_000_000, any::<u64>()]
}

fn terms() -> impl Strategy<Value = Terms> {
    (figure(), figure(), any::<u16>(), figure(), figure(), any::<bool>()).prop_map(
        |(base, rate, delta, minimum, maximum, disabled)| Terms {
            base: base as u32,
            rate: rate as u32,
            delta,
            minimum,
            maximum,
            disabled,
        },
    )
}

fn world() -> impl Strategy<Value = World> {
    let capacity = prop_oneof![1_u64..1_000_000_000, Just(2_100_000_000_000_000)];
    proptest::collection::vec((0_usize..5, 0_usize..5, capacity, terms(), terms()), 1..12).prop_map(|lines| {
        let mut world = World::default();
        for (one, two, capacity, here, there) in lines {
            if one != two {
                world.line(one, two, capacity, [here, there]);
            }
        }
        world
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn nothing_panics(
        world in world(),
        figures in proptest::collection::vec(figure(), 8),
        payee in 0_usize..6,
        parts in 0_u32..40,
    ) {
        let mut query = world.query(payee, figures[0]);
        query.max_parts = parts;
        query.max_fee = Msat::new(figures[1]);
        query.max_cltv_delta = figures[2] as u32;
        query.final_cltv_delta = figures[3] as u32;
        query.max_hops = figures[4] as u32;
        query.final_payload_length = figures[5] as u32;
        for first in &mut query.first_hops {
            first.spendable = Msat::new(figures[6]);
        }
        let hop = RouteHintHop {
            node_id: node(1),
            short_channel_id: ShortChannelId::from_u64(figures[7]),
            fee_base_msat: figures[1] as u32,
            fee_proportional_millionths: figures[2] as u32,
            cltv_expiry_delta: CltvDelta::new(figures[3] as u16),
        };
        query.hints.push(RouteHint { hops: vec![hop, RouteHintHop { node_id: node(9), ..hop }] });
        query.hints.push(RouteHint { hops: vec![] });
        let channel = crate::graph::DirectedChannel {
            short_channel_id: ShortChannelId::from_u64(figures[7]),
            direction: crate::graph::Direction::FromNode2,
        };
        query.in_flight.push(InFlight { channel, amount: Msat::new(figures[6]) });
        query.exclusions.push(Exclusion::Amount { channel, from: Msat::new(figures[5]) });
        let mut router = world.router();
        let _ = router.find(&query, NOW);
        let _ = router.explain(&query, NOW, 100);
        query.blinded.push(BlindedPath {
            introduction_node: node(2),
            first_path_key: node(3).0,
            hops: vec![],
            fee_base_msat: figures[3] as u32,
            fee_proportional_millionths: figures[4] as u32,
            cltv_expiry_delta: CltvDelta::new(figures[5] as u16),
            htlc_minimum: Msat::new(figures[6]),
            htlc_maximum: Msat::new(figures[7]),
        });
        let _ = router.find(&query, NOW);
        let _ = router.explain(&query, NOW, 100);
    }

    #[test]
    fn what_is_found_is_forwarded(world in world(), amount in 1_u64..1_000_000_000_000, payee in 1_usize..5) {
        let query = world.query(payee, amount);
        if let Ok(routes) = world.router().find(&query, NOW) {
            let parts = world.checked(&query, &routes);
            prop_assert!(world.cost(&query, &parts).is_some());
        }
    }
}
