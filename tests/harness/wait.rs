//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How long anything may take on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often one looks.
const LOOK: Duration = Duration::from_millis(15);

/// Asks again and again until there is an answer.
///
/// # Panics
/// Where there is none within [`PATIENCE`]; `what` says what was waited for.
pub async fn until<T>(what: &str, mut question: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {} s for {what}", PATIENCE.as_secs());
    }
}

/// Waits for a future.
///
/// # Panics
/// Where it is not done within [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("waited {} s for {what}", PATIENCE.as_secs()),
    }
}
