//! Whether a connection is of use.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// When a connection was last of use.
#[derive(Debug)]
pub(super) struct Activity(Mutex<(usize, Instant)>);

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new((0, Instant::now())))
    }
}

impl Activity {
    /// A request is under way until the value is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = state.0.saturating_add(1);
        Busy(Arc::clone(self))
    }

    /// When to look again; `None` where nothing was asked for `limit`.
    pub fn idle_until(&self, limit: Duration) -> Option<Instant> {
        let (under_way, last) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let from = if under_way > 0 { now } else { last };
        from.checked_add(limit).filter(|until| *until > now)
    }
}

/// A request is under way.
pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (state.0.saturating_sub(1), Instant::now());
    }
}
