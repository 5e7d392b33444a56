//! What `irsad verify` looks at while a cluster goes back to the issuer of before, and after it.

use jiff::Timestamp;

use super::{Check, Outcome, api_server, documents, trusted};
use crate::model::{
    plan::{Desired, Facts, Shared, torn_down, torn_down_contradiction},
    request::teardown_progress,
    rotation::Stage,
};

/// The checks of a cluster that is torn down, or on its way; `None` where no teardown was asked for. What the teardown has removed, or what
/// is removed with it, is not looked for.
pub fn teardown(desired: &Desired, facts: &Facts, now: Timestamp) -> Option<Vec<Check>> {
    let line = |statement: String| Check { statement, outcome: Outcome::Holds };
    if let Some(done) = facts.node.torn_down.present() {
        let said = torn_down(done, now).into_iter().next().unwrap_or_default();
        // The keyring of before, which a restore of etcd has brought back.
        let stays = torn_down_contradiction(facts).map(|why| Check {
            statement: "nothing wants the issuer back that was torn down".to_owned(),
            outcome: Outcome::Fails(why),
        });
        let lines = std::iter::once(line(said)).chain(stays);
        return Some(lines.chain(api_server(facts, &done.issuer)).collect());
    }
    let Shared::Seen(shared) = &facts.shared else { return None };
    let keyring = &shared.keyring.present()?.keyring;
    let (teardown, policy) = (keyring.teardown.as_ref()?, desired.policy());
    let progress = teardown_progress(keyring, &shared.acks, &policy, now);
    let mut checks = vec![line(format!("a teardown is under way, {progress}"))];
    let stage = teardown.stage(&policy, now);
    // Tokens of ours live as long: who verifies them needs documents and provider.
    if matches!(stage, Stage::Rolling | Stage::Waiting(_)) {
        checks.extend(documents(desired, facts));
        checks.push(trusted(desired, facts));
    }
    let signs_as = match stage {
        // One API server after the other comes to sign as it.
        Stage::Rolling => facts.node.manifest.present().and_then(|(manifest, _)| manifest.issuers().first()),
        Stage::Waiting(_) | Stage::Removing | Stage::Ended => None,
    };
    checks.extend(api_server(facts, signs_as.unwrap_or(&teardown.issuer)));
    Some(checks)
}
