//! How many reviews were answered how, and how long that took. Counting never waits and cannot fail.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// What became of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The pod was changed.
    Patched,
    /// The pod has no role, or needs no change.
    Unchanged,
    /// The request is none that can be answered.
    Refused,
    /// The API server was told to ask again.
    Unavailable,
    /// The pod's service account could not be asked for.
    Failed,
}

impl Outcome {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Patched, Self::Unchanged, Self::Refused, Self::Unavailable, Self::Failed];

    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Patched => "patched",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
        }
    }
}

/// Upper bounds of the classes of latency, in seconds; one more class has none. The API server waits 10 s.
const BOUNDS_SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Numbers since the process began.
#[derive(Debug, Default)]
pub struct Stats {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    classes: [AtomicU64; BOUNDS_SECONDS.len() + 1],
    total_microseconds: AtomicU64,
}

/// [`Stats`] at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// Reviews by what became of them.
    pub outcomes: Vec<(Outcome, u64)>,
    /// Reviews by class of latency: upper bound in seconds, number in this class alone. The last bound is infinite.
    pub classes: Vec<(f64, u64)>,
    /// Time of all reviews.
    pub total: Duration,
}

impl Stats {
    /// A review was answered.
    pub fn count(&self, outcome: Outcome, took: Duration) {
        let class = BOUNDS_SECONDS.iter().take_while(|bound| took.as_secs_f64() > **bound).count();
        let places = [self.outcomes.get(outcome as usize), self.classes.get(class)];
        places.into_iter().flatten().for_each(|number| {
            number.fetch_add(1, Ordering::Relaxed);
        });
        self.total_microseconds.fetch_add(took.as_micros().try_into().unwrap_or(0), Ordering::Relaxed);
    }

    /// The numbers so far.
    pub fn counted(&self) -> Counted {
        let number = |place: &AtomicU64| place.load(Ordering::Relaxed);
        let bounds = BOUNDS_SECONDS.into_iter().chain([f64::INFINITY]);
        Counted {
            outcomes: Outcome::ALL.into_iter().zip(self.outcomes.iter().map(number)).collect(),
            classes: bounds.zip(self.classes.iter().map(number)).collect(),
            total: Duration::from_micros(number(&self.total_microseconds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn review_is_counted_in_one_class_of_latency_and_by_its_outcome() {
        let stats = Stats::default();
        stats.count(Outcome::Patched, Duration::from_micros(500));
        stats.count(Outcome::Patched, Duration::from_micros(501));
        stats.count(Outcome::Failed, Duration::from_secs(7));
        let counted = stats.counted();
        let met: Vec<_> = counted.outcomes.into_iter().filter(|(_, number)| *number > 0).collect();
        assert_eq!(met, [(Outcome::Patched, 2), (Outcome::Failed, 1)]);
        let met: Vec<_> = counted.classes.into_iter().filter(|(_, number)| *number > 0).collect();
        assert_eq!(met, [(0.0005, 1), (0.001, 1), (f64::INFINITY, 1)]);
        assert_eq!(counted.total, Duration::from_micros(7_001_001));
    }
}
