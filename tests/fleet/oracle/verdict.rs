//! What the oracle has seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// A token and where it came from. Its text is not for a report.
#[derive(Clone, Debug)]
pub struct Token {
    /// The node whose API server minted it.
    pub minter: String,
    pub kid: String,
    pub issuer: String,
    pub is_for_sts: bool,
    /// Since the oracle began.
    pub at: Duration,
    pub text: String,
}

impl Token {
    /// What its fate can depend on.
    pub fn class(&self) -> (String, String, String) {
        (self.minter.clone(), self.kid.clone(), self.issuer.clone())
    }
}

/// A live token that somebody refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Who refused it.
    pub judge: String,
    pub token: Token,
    pub why: String,
    /// Since the oracle began.
    pub at: Duration,
}

/// Everything the oracle has seen; prints as a report.
#[derive(Debug, Default)]
pub struct Verdict {
    pub minted: usize,
    pub checks: usize,
    pub refused: Vec<Refusal>,
    /// Why an outsider had no document to judge by.
    pub unreadable: Vec<String>,
    /// Minter, kid and issuer of every token.
    pub classes: BTreeSet<(String, String, String)>,
    /// How many tokens that are no good were presented.
    pub controls: usize,
    /// Who took one of them.
    pub misled: Vec<String>,
}

impl Verdict {
    /// Notes what somebody said of a token that is no good.
    pub fn control(&mut self, judge: &str, taken: bool) {
        self.controls += 1;
        if taken {
            self.misled.push(judge.to_owned());
        }
    }

    /// # Panics
    /// With the report, when a live token was refused, or when there was nothing to see.
    pub fn assert_clean(&self) {
        self.assert_sound();
        assert!(self.refused.is_empty() && self.unreadable.is_empty(), "{self}");
    }

    /// # Panics
    /// When nothing was minted or checked, or when somebody took a token that is no good.
    pub fn assert_sound(&self) {
        let is_sound = self.minted > 0 && self.checks > self.minted && self.controls > 0 && self.misled.is_empty();
        assert!(is_sound, "the oracle itself is not to be trusted:\n{self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { minted, checks, controls, refused, unreadable, misled, .. } = self;
        writeln!(f, "{minted} tokens minted, {checks} checks, {controls} controls; {} refusals", refused.len())?;
        let mut groups: BTreeMap<_, Vec<&Refusal>> = BTreeMap::new();
        for refusal in refused {
            let kind = (&refusal.judge, refusal.token.class(), &refusal.why);
            groups.entry(kind).or_default().push(refusal);
        }
        for ((judge, (minter, kid, issuer), why), refusals) in groups {
            let at = |refusal: Option<&&Refusal>| refusal.map_or(0.0, |refusal| refusal.at.as_secs_f64());
            let minted = refusals.iter().map(|refusal| refusal.token.at).min().unwrap_or_default().as_secs_f64();
            let (first, last) = (at(refusals.first()), at(refusals.last()));
            let count = refusals.len();
            writeln!(
                f,
                "  {judge} refused {count} of {minter} (kid {kid}, iss {issuer}; the first minted at {minted:.1} s) from \
                 {first:.1} s to {last:.1} s: {why}"
            )?;
        }
        let reasons: BTreeSet<&String> = unreadable.iter().collect();
        reasons.iter().try_for_each(|why| writeln!(f, "  an outsider had no documents: {why}"))?;
        misled.iter().try_for_each(|who| writeln!(f, "  {who} took a token that is no good"))
    }
}
