//! How long nothing is asked of IAM after it was asked too often: it counts the calls of the whole account.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// First pause; it doubles each time.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// Longest pause.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(300);

/// The pause of everything that asks IAM about roles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    until: Option<Timestamp>,
    pauses: u32,
}

impl Pace {
    /// IAM was asked too often: all others wait too, each time for longer.
    pub fn slow_down(&mut self, now: Timestamp) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(10)).min(LONGEST_PAUSE);
        self.until = now.checked_add(pause).ok();
        self.pauses = self.pauses.saturating_add(1);
    }

    /// IAM has answered: the next pause is the first one again. One that has begun goes on.
    pub fn is_well(&mut self) {
        self.pauses = 0;
    }

    /// What is left of the pause; nothing where a clock that was set back would make it longer than any.
    pub fn left(&self, now: Timestamp) -> Duration {
        let left = self.until.map_or(SignedDuration::ZERO, |until| until.duration_since(now));
        if left > LONGEST_PAUSE { Duration::ZERO } else { Duration::try_from(left).unwrap_or_default() }
    }

    /// Whether nothing is to be asked.
    pub fn is_paused(&self, now: Timestamp) -> bool {
        !self.left(now).is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Result<Timestamp, jiff::Error> {
        Timestamp::from_second(second)
    }

    #[test]
    fn pause_doubles_up_to_its_limit_until_iam_answers() -> Result<(), jiff::Error> {
        let mut pace = Pace::default();
        let mut pauses = || {
            pace.slow_down(Timestamp::UNIX_EPOCH);
            pace.left(Timestamp::UNIX_EPOCH).as_secs()
        };
        assert_eq!([(); 8].map(|()| pauses()), [5, 10, 20, 40, 80, 160, 300, 300]);
        pace.is_well();
        assert!(pace.is_paused(second(299)?) && !pace.is_paused(second(300)?));
        pace.slow_down(second(1000)?);
        assert_eq!(pace.left(second(1000)?).as_secs(), 5);
        Ok(())
    }

    #[test]
    fn clock_that_is_set_back_does_not_make_a_pause_of_hours() -> Result<(), jiff::Error> {
        let mut pace = Pace::default();
        pace.slow_down(second(10_000)?);
        assert!(pace.is_paused(second(9_999)?) && !pace.is_paused(second(1_000)?));
        Ok(())
    }
}
