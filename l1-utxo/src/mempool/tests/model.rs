//! The mempool beside a naive one: a list that is searched from end to end for every question.

use super::*;

/// The transactions in the order in which they came, with their fees.
#[derive(Default)]
struct Naive(Vec<(Transaction, i64)>);

impl Naive {
    fn position(&self, txid: &Txid) -> Option<usize> {
        self.0.iter().position(|(transaction, _)| transaction.compute_txid() == *txid)
    }

    fn parents(&self, index: usize) -> Vec<usize> {
        let inputs = self.0[index].0.input.iter();
        let mut parents: Vec<usize> = inputs.filter_map(|input| self.position(&input.previous_output.txid)).collect();
        parents.sort_unstable();
        parents.dedup();
        parents
    }

    fn children(&self, index: usize) -> Vec<usize> {
        (0..self.0.len()).filter(|other| self.parents(*other).contains(&index)).collect()
    }

    fn reach(&self, from: usize, next: impl Fn(&Self, usize) -> Vec<usize>) -> Vec<usize> {
        let mut found = vec![from];
        let mut at = 0;
        while at < found.len() {
            for other in next(self, found[at]) {
                if !found.contains(&other) {
                    found.push(other);
                }
            }
            at += 1;
        }
        found.sort_unstable();
        found
    }

    fn sums(&self, set: &[usize]) -> Family {
        set.iter().fold(Family::default(), |sum, index| Family {
            count: sum.count + 1,
            vsize: sum.vsize + self.0[*index].0.vsize() as u64,
            fees: sum.fees + self.0[*index].1,
        })
    }

    /// Everything that hangs together with it.
    fn cluster(&self, index: usize) -> Vec<usize> {
        self.reach(index, |naive, at| [naive.parents(at), naive.children(at)].concat())
    }

    fn spender(&self, outpoint: &OutPoint) -> Option<usize> {
        self.0
            .iter()
            .position(|(transaction, _)| transaction.input.iter().any(|input| input.previous_output == *outpoint))
    }

    /// The best feerate that any ancestor set of a cluster has must not be above the first chunk's.
    fn check_cluster(&self, mempool: &Mempool, index: usize) {
        let entry = mempool.entry(&self.0[index].0.compute_txid()).unwrap();
        let chunks = mempool.cluster(entry);
        let cluster = self.cluster(index);
        assert_eq!(chunks.iter().map(|chunk| chunk.entries.len()).sum::<usize>(), cluster.len());
        for member in &cluster {
            let set = self.reach(*member, Self::parents);
            let size = set.iter().fold(FeeSize::default(), |sum, at| {
                sum.plus(FeeSize { fee: self.0[*at].1, weight: self.0[*at].0.weight().to_wu() })
            });
            assert_ne!(size.compare_feerate(chunks[0].size), std::cmp::Ordering::Greater);
        }
        let mut seen: Vec<Txid> = Vec::new();
        for entry in chunks.iter().flat_map(|chunk| &chunk.entries) {
            let index = self.position(&entry.txid).unwrap();
            assert!(self.parents(index).iter().all(|parent| seen.contains(&self.0[*parent].0.compute_txid())));
            seen.push(entry.txid);
        }
    }

    fn compare(&self, mempool: &Mempool) {
        assert_eq!(mempool.len(), self.0.len());
        assert_eq!(mempool.vsize(), self.0.iter().map(|(transaction, _)| transaction.vsize() as u64).sum::<u64>());
        for (index, (transaction, fee)) in self.0.iter().enumerate() {
            let entry = mempool.entry(&transaction.compute_txid()).unwrap();
            assert_eq!(entry.modified_fee(), *fee);
            assert_eq!(mempool.ancestors(entry), self.sums(&self.reach(index, Self::parents)));
            assert_eq!(mempool.descendants(entry), self.sums(&self.reach(index, Self::children)));
            assert!(self.cluster(index).len() <= MAX_CLUSTER_COUNT);
            self.check_cluster(mempool, index);
        }
    }

    fn remove(&mut self, gone: &[Txid]) {
        self.0.retain(|(transaction, _)| !gone.contains(&transaction.compute_txid()));
    }
}

/// What may happen.
#[derive(Debug, Clone)]
enum Step {
    Send { inputs: Vec<usize>, outputs: usize, fee: u64 },
    Package { inputs: Vec<usize>, fee: u64 },
    Prioritise { which: usize, delta: i64 },
    Mine { chunks: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let send = (prop::collection::vec(any::<usize>(), 1..4), 1usize..4, 0..30_000u64);
    let package = (prop::collection::vec(any::<usize>(), 1..3), 0..30_000u64);
    let step = prop_oneof![
        12 => send.prop_map(|(inputs, outputs, fee)| Step::Send { inputs, outputs, fee }),
        3 => package.prop_map(|(inputs, fee)| Step::Package { inputs, fee }),
        2 => (any::<usize>(), -20_000..20_000i64).prop_map(|(which, delta)| Step::Prioritise { which, delta }),
        1 => (0usize..4).prop_map(|chunks| Step::Mine { chunks }),
    ];
    prop::collection::vec(step, 1..40)
}

/// Both mempools, and the outputs that may be spent.
struct Pair {
    world: World,
    naive: Naive,
    known: Vec<(OutPoint, u64)>,
}

impl Pair {
    fn pick(&self, inputs: &[usize]) -> (Vec<OutPoint>, u64) {
        let mut from: Vec<(OutPoint, u64)> = inputs.iter().map(|index| self.known[index % self.known.len()]).collect();
        from.sort_unstable();
        from.dedup();
        (from.iter().map(|(outpoint, _)| *outpoint).collect(), from.iter().map(|(_, value)| value).sum())
    }

    fn came(&mut self, transaction: &Transaction, fee: u64, replaced: &[Txid]) {
        // What was replaced is what conflicts, with its descendants: the naive one finds the same.
        let conflicts: Vec<usize> =
            transaction.input.iter().filter_map(|input| self.naive.spender(&input.previous_output)).collect();
        let mut gone: Vec<Txid> = conflicts
            .iter()
            .flat_map(|index| self.naive.reach(*index, Naive::children))
            .map(|index| self.naive.0[index].0.compute_txid())
            .collect();
        gone.sort_unstable();
        gone.dedup();
        let mut said = replaced.to_vec();
        said.sort_unstable();
        assert_eq!(gone, said);
        self.naive.remove(&gone);
        self.naive.0.push((transaction.clone(), i64::try_from(fee).unwrap()));
        let value = transaction.output[0].value.to_sat();
        let outputs = (0u32..).take(transaction.output.len());
        self.known.extend(outputs.map(|vout| (output(transaction, vout), value)));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Send { inputs, outputs, fee } => {
                let (from, total) = self.pick(&inputs);
                let value = total.saturating_sub(fee) / outputs as u64;
                let transaction = spend(&from, outputs, value);
                if let Ok(accepted) = self.world.accept(&transaction) {
                    self.came(&transaction, accepted.fee.to_sat(), &accepted.replaced_txids());
                }
            }
            Step::Package { inputs, fee } => self.package(&inputs, fee),
            Step::Prioritise { which, delta } => {
                let Some(index) = which.checked_rem(self.naive.0.len()) else { return };
                let txid = self.naive.0[index].0.compute_txid();
                self.world.with(|mempool, _| mempool.prioritise(txid, delta)).unwrap();
                self.naive.0[index].1 += delta;
            }
            Step::Mine { chunks } => {
                let best = self.world.mempool.chunks().take(chunks).flat_map(|chunk| chunk.entries);
                let mined: Vec<Transaction> = best.map(|entry| Transaction::clone(&entry.transaction)).collect();
                self.world.connect(&mined.iter().collect::<Vec<_>>());
                let gone: Vec<Txid> = mined.iter().map(Transaction::compute_txid).collect();
                self.naive.remove(&gone);
            }
        }
    }

    /// A free parent with a child that pays.
    fn package(&mut self, inputs: &[usize], fee: u64) {
        let (from, total) = self.pick(inputs);
        let parent = spend(&from, 1, total);
        let child = spend(&[output(&parent, 0)], 1, total.saturating_sub(fee));
        let package = vec![Arc::new(parent.clone()), Arc::new(child.clone())];
        let report = self.world.with(|mempool, cx| mempool.submit_package(&package, None, cx));
        for transaction in [&parent, &child] {
            if let Some(PackageResult::Accepted(accepted)) = report.results.get(&transaction.compute_wtxid()) {
                self.came(transaction, accepted.fee.to_sat(), &accepted.replaced_txids());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_mempool_agrees_with_a_naive_one(steps in steps()) {
        let mut world = World::new(Policy::default());
        let known = (0..8).map(|number| (world.coin(number), COIN)).collect();
        let mut pair = Pair { world, naive: Naive::default(), known };
        for step in steps {
            pair.take(step);
            pair.naive.compare(&pair.world.mempool);
        }
    }
}
