//! What an observation found: there, not there, or could not be asked.

use std::error::Error;

/// An error and its causes in one line, as [`Probe::Unknown`] has it.
pub fn sentence(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Outcome of asking the world for one thing.
///
/// The three must never be mixed up: what could not be read is [`Probe::Unknown`], never [`Probe::Absent`], and nothing
/// is overwritten or removed on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe<T> {
    /// It is there.
    Present(T),
    /// It was asked for and is certainly not there.
    Absent,
    /// It could not be asked; the text says why, for a person.
    Unknown(String),
}

impl<T> Probe<T> {
    /// The value, where there is one.
    pub fn present(&self) -> Option<&T> {
        match self {
            Probe::Present(value) => Some(value),
            Probe::Absent | Probe::Unknown(_) => None,
        }
    }

    /// The same outcome with a reference to the value.
    pub fn as_ref(&self) -> Probe<&T> {
        match self {
            Probe::Present(value) => Probe::Present(value),
            Probe::Absent => Probe::Absent,
            Probe::Unknown(why) => Probe::Unknown(why.clone()),
        }
    }

    /// Why it could not be asked, where that is so.
    pub fn unknown(&self) -> Option<&str> {
        match self {
            Probe::Unknown(why) => Some(why),
            Probe::Present(_) | Probe::Absent => None,
        }
    }

    /// The same outcome with the value changed by `change`.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Probe<U> {
        match self {
            Probe::Present(value) => Probe::Present(change(value)),
            Probe::Absent => Probe::Absent,
            Probe::Unknown(why) => Probe::Unknown(why),
        }
    }
}
