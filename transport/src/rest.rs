//! Streams that are not read for a while, since their sender asks for more than it is given: flow control then stalls it,
//! and what it sends costs nothing here.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::mutex::lock;

/// Until when streams are not read; shared by whoever reads one and whoever says so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rest(Arc<Mutex<Option<Instant>>>);

impl Rest {
    /// The stream rests longer by `time`, and not longer than `most` from now.
    pub(crate) fn extend(&self, time: Duration, most: Duration) {
        let now = Instant::now();
        let mut until = lock(&self.0);
        let begins = until.map_or(now, |until| until.max(now));
        *until = Some((begins + time).min(now + most));
    }

    /// Whether nothing has to be waited for.
    pub(crate) fn is_over(&self) -> bool {
        lock(&self.0).is_none_or(|until| until <= Instant::now())
    }

    /// Waits until it is over. Returns whether there was anything to wait for.
    pub(crate) async fn wait(&self) -> bool {
        let mut waited = false;
        loop {
            let until = *lock(&self.0);
            let Some(until) = until.filter(|until| *until > Instant::now()) else { return waited };
            waited = true;
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rest_adds_up_to_its_most() {
        let rest = Rest::default();
        assert!(!rest.wait().await);
        let (began, most) = (Instant::now(), Duration::from_millis(100));
        rest.extend(Duration::from_millis(20), most);
        rest.extend(Duration::from_millis(20), most);
        assert!(rest.wait().await && began.elapsed() >= Duration::from_millis(40));
        assert!(!rest.wait().await, "it is over");
        rest.extend(Duration::from_hours(1), most);
        let until = (*lock(&rest.0)).expect("it rests");
        assert!(until <= Instant::now() + most);
        assert!(rest.wait().await);
    }
}
