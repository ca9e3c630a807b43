//! Places for connections: as many as are served at once. When all are taken and somebody new comes, whoever has been
//! silent for longest goes, so that clients without a request, or with half of one, keep nobody waiting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How long a connection may be silent in any case: its last answer may still be on its way.
const GRACE: Duration = Duration::from_secs(1);
/// How often is looked for a silent one.
const PAUSE: Duration = Duration::from_millis(100);

/// All places.
pub struct Places {
    free: Arc<Semaphore>,
    silent: Mutex<Silent>,
}

/// Who has no request that is being answered, in the order in which they became so.
#[derive(Default)]
struct Silent {
    next: u64,
    by_turn: BTreeMap<u64, (Instant, Arc<Notify>)>,
}

impl Places {
    /// So many.
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(count)), silent: Mutex::default() })
    }

    /// A place for a connection, once there is one.
    pub async fn take(self: &Arc<Self>) -> Place {
        let permit = loop {
            let free = Arc::clone(&self.free).acquire_owned();
            match tokio::time::timeout(PAUSE, free).await {
                Ok(permit) => break permit,
                // Each time anew: somebody else may have got the place that was made before.
                Err(_) => self.dismiss_one(),
            }
        };
        let permit = permit.expect("the semaphore is never closed");
        let place = Place { places: Arc::clone(self), leave: Arc::default(), turn: Mutex::default(), _permit: permit };
        place.fall_silent();
        place
    }

    fn dismiss_one(&self) {
        let mut silent = self.silent();
        if let Some(first) = silent.by_turn.first_entry()
            && first.get().0.elapsed() >= GRACE
        {
            first.remove().1.notify_one();
        }
    }

    fn silent(&self) -> MutexGuard<'_, Silent> {
        self.silent.lock().expect("nobody panics while the list is held")
    }
}

/// The place of one connection, free again when dropped.
pub struct Place {
    places: Arc<Places>,
    leave: Arc<Notify>,
    turn: Mutex<Option<u64>>,
    /// Held, not used.
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// A request is being answered: nobody takes the place.
    pub fn speak(&self) {
        let turn = self.turn().take();
        if let Some(turn) = turn {
            self.places.silent().by_turn.remove(&turn);
        }
    }

    /// It was answered.
    pub fn fall_silent(&self) {
        self.speak();
        let mut silent = self.places.silent();
        let turn = silent.next;
        silent.next += 1;
        silent.by_turn.insert(turn, (Instant::now(), Arc::clone(&self.leave)));
        drop(silent);
        *self.turn() = Some(turn);
    }

    /// Until the place is needed for somebody else.
    pub async fn needed(&self) {
        self.leave.notified().await;
    }

    fn turn(&self) -> MutexGuard<'_, Option<u64>> {
        self.turn.lock().expect("nobody panics while the turn is held")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.speak();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_silent_for_longest_goes_and_who_speaks_stays() {
        let places = Places::new(3);
        let (first, second, third) = (places.take().await, places.take().await, places.take().await);
        first.speak();
        second.fall_silent();
        let fourth = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await }
        });
        third.needed().await;
        assert!(!fourth.is_finished(), "it has no place before the third has left");
        drop(third);
        let fourth = fourth.await.unwrap();
        drop((first, fourth));
        drop(second);
        assert_eq!(places.free.available_permits(), 3);
    }
}
