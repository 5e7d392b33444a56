//! When to look at which role next: at once after a change, later and later after a fault, seldom where all is well.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::FaultKind;

/// Wait after the first fault that may pass by itself; it doubles with each one after that.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Longest wait after a fault.
const LONGEST_WAIT: Duration = Duration::from_secs(900);

/// Where in a period something of that name has its place, from 0 to 1: the same each time, and others elsewhere.
pub fn place_in_period(name: &str) -> f64 {
    let digest = Sha256::digest(name);
    f64::from(u16::from_be_bytes([digest[0], digest[1]])) / f64::from(u16::MAX)
}

/// What is due when, by a key: the name of a role, or what asks for it.
#[derive(Debug, Clone)]
pub struct Schedule<K> {
    entries: BTreeMap<K, Entry>,
    /// The same in the order in which they are due.
    queue: BTreeSet<(Timestamp, K)>,
    /// Time within which each is looked at once where all is well.
    period: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    due: Timestamp,
    faults: u32,
}

impl<K: Ord + Clone> Schedule<K> {
    /// Nothing is in it yet; where all is well each is looked at once in a `period`.
    pub fn new(period: Duration) -> Self {
        Self { entries: BTreeMap::new(), queue: BTreeSet::new(), period }
    }

    /// Puts `key` in, or brings it forward: it is due at once. Faults of it are forgotten.
    pub fn hurry(&mut self, key: K, now: Timestamp) {
        self.forget(&key);
        self.put_in(key, now);
    }

    /// As [`Schedule::hurry`], but its faults count on: should it fail again, the next wait is longer still.
    pub fn bring_forward(&mut self, key: K, now: Timestamp) {
        let faults = self.entries.get(&key).map_or(0, |entry| entry.faults);
        self.put_in(key.clone(), now);
        self.set(&key, now, Duration::ZERO, faults);
    }

    /// Puts `key` in where it is not, due at that time.
    pub fn put_in(&mut self, key: K, due: Timestamp) {
        if !self.entries.contains_key(&key) {
            self.queue.insert((due, key.clone()));
            self.entries.insert(key, Entry { due, faults: 0 });
        }
    }

    /// Keeps `keys` and no others; what is new is due at once.
    pub fn keep_only(&mut self, keys: impl IntoIterator<Item = K>, now: Timestamp) {
        let keys: BTreeSet<K> = keys.into_iter().collect();
        self.entries.retain(|key, _| keys.contains(key));
        self.queue.retain(|(_, key)| keys.contains(key));
        keys.into_iter().for_each(|key| self.put_in(key, now));
    }

    /// Takes `key` out.
    pub fn forget(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.queue.remove(&(entry.due, key.clone()));
        }
    }

    /// The one that has been due for longest at `now`.
    pub fn next(&self, now: Timestamp) -> Option<K> {
        self.queue.first().filter(|(due, _)| *due <= now).map(|(_, key)| key.clone())
    }

    /// Those that are due at `now`, the one that has been so for longest first, at most `most` of them.
    pub fn all_due(&self, now: Timestamp, most: usize) -> Vec<K> {
        self.queue.iter().take_while(|(due, _)| *due <= now).take(most).map(|(_, key)| key.clone()).collect()
    }

    /// When the first one is due; `None` where nothing is in it.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// All is well with `key`: it is due again after about a period. `spread`, from 0 to 1, says where within the last half of the period, so that
    /// those that were looked at together do not stay together.
    pub fn is_well(&mut self, key: &K, now: Timestamp, spread: f64) {
        let wait = self.period.mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0);
        self.set(key, now, wait, 0);
    }

    /// `key` has a fault: it is due again after a wait that doubles each time, for a person's fault after the longest one.
    pub fn has_fault(&mut self, key: &K, kind: FaultKind, now: Timestamp) {
        let faults = self.entries.get(key).map_or(0, |entry| entry.faults);
        let wait = match kind {
            FaultKind::Person => LONGEST_WAIT,
            FaultKind::Wait | FaultKind::Throttled => FIRST_WAIT.saturating_mul(1 << faults.min(10)).min(LONGEST_WAIT),
        };
        self.set(key, now, wait, faults.saturating_add(1));
    }

    fn set(&mut self, key: &K, now: Timestamp, wait: Duration, faults: u32) {
        let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
        let due = now.checked_add(wait).unwrap_or(Timestamp::MAX);
        if let Some(entry) = self.entries.get_mut(key) {
            self.queue.remove(&(entry.due, key.clone()));
            *entry = Entry { due, faults };
            self.queue.insert((due, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_brought_forward_waits_as_long_as_ever_after_its_next_fault() {
        let waits = |again: fn(&mut Schedule<&'static str>)| {
            let mut schedule = Schedule::new(Duration::from_secs(3600));
            schedule.hurry("a", Timestamp::UNIX_EPOCH);
            for _ in 0..3 {
                schedule.has_fault(&"a", FaultKind::Wait, Timestamp::UNIX_EPOCH);
            }
            again(&mut schedule);
            let is_due = schedule.next(Timestamp::UNIX_EPOCH) == Some("a");
            schedule.has_fault(&"a", FaultKind::Wait, Timestamp::UNIX_EPOCH);
            (is_due, schedule.next_due().map(Timestamp::as_second))
        };
        assert_eq!(waits(|schedule| schedule.bring_forward("a", Timestamp::UNIX_EPOCH)), (true, Some(40)));
        assert_eq!(waits(|schedule| schedule.hurry("a", Timestamp::UNIX_EPOCH)), (true, Some(5)));
        assert_eq!(waits(|_| ()), (false, Some(40)));
    }
}
