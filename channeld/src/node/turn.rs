//! The turn machine: what leaves, and when.
//!
//! One turn at a time is open and takes changes and effects; at most one is being flushed. Nothing leaves before the turn
//! that it was computed in, and so every earlier one, is durable; all leaves in the order in which it was made. A turn
//! that changed nothing needs no flush of its own, and leaves at once when none is under way.

/// Turns and the effects that wait for them. `E` is an effect.
#[derive(Debug)]
pub struct Turns<E> {
    open: Vec<E>,
    flushing: Option<Vec<E>>,
}

impl<E> Default for Turns<E> {
    fn default() -> Turns<E> {
        Turns { open: Vec::new(), flushing: None }
    }
}

impl<E> Turns<E> {
    /// Adds an effect to the open turn.
    pub fn push(&mut self, effect: E) {
        self.open.push(effect);
    }

    /// Whether no flush is under way: the open turn may be sealed.
    pub fn is_store_free(&self) -> bool {
        self.flushing.is_none()
    }

    /// Whether the open turn holds effects.
    pub fn has_effects(&self) -> bool {
        !self.open.is_empty()
    }

    /// Closes the open turn. Where it changed something it must be flushed now, and what it made waits; where it did
    /// not, what it made is given back to leave at once.
    ///
    /// # Panics
    /// While a flush is under way.
    #[must_use]
    pub fn seal(&mut self, changed: bool) -> Vec<E> {
        assert!(self.is_store_free(), "one record is in flight at a time");
        let effects = std::mem::take(&mut self.open);
        if !changed {
            return effects;
        }
        self.flushing = Some(effects);
        Vec::new()
    }

    /// The turn that was sealed last is durable: what it made leaves now.
    ///
    /// # Panics
    /// Where no flush is under way.
    #[must_use]
    pub fn flushed(&mut self) -> Vec<E> {
        self.flushing.take().expect("a flush was under way")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Effect,
        Change,
        Flushed,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![Just(Step::Effect), Just(Step::Change), Just(Step::Flushed)]
    }

    proptest! {
        /// An effect is made at a number of changes; it leaves only when that many are durable, and in order.
        #[test]
        fn no_effect_before_its_record_and_none_out_of_order(steps in prop::collection::vec(step(), 1..200)) {
            let mut turns = Turns::default();
            let (mut made, mut changes, mut in_flight, mut durable) = (0u64, 0u64, 0u64, 0u64);
            let mut next_out = 0;
            let mut open_changes = 0u64;
            for step in steps {
                let mut out: Vec<(u64, u64)> = Vec::new();
                match step {
                    Step::Effect => {
                        turns.push((made, changes));
                        made += 1;
                    }
                    Step::Change => {
                        changes += 1;
                        open_changes += 1;
                    }
                    Step::Flushed if !turns.is_store_free() => {
                        durable = in_flight;
                        out.extend(turns.flushed());
                    }
                    Step::Flushed => {}
                }
                if turns.is_store_free() {
                    let changed = open_changes > 0;
                    if changed {
                        in_flight = changes;
                    }
                    open_changes = 0;
                    out.extend(turns.seal(changed));
                }
                for (number, rests_on) in out {
                    prop_assert_eq!(number, next_out);
                    prop_assert!(rests_on <= durable);
                    next_out += 1;
                }
            }
        }
    }

    #[test]
    fn with_nothing_changed_nothing_waits() {
        let mut turns = Turns::default();
        turns.push('a');
        assert_eq!(turns.seal(false), vec!['a']);
        assert!(turns.is_store_free());
    }
}
