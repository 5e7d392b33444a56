//! What the next turn would do for one object, for people who ask. Nothing is changed.

use jiff::Timestamp;

use super::{Hands, Stop, Turn, Turned, unhindered};
use crate::{
    execute::roles::look,
    model::{
        role::{FaultKind, RoleFault, plan},
        service_account_role::{DeletionPolicy, Ready, Reason, View, left_out},
    },
};

/// What would be done, in order, and what would then be in the way.
#[derive(Debug, Default)]
pub struct Preview {
    /// Parts of one sentence about the object.
    pub actions: Vec<String>,
    /// `None` where nothing is.
    pub fault: Option<RoleFault>,
}

/// Looks at the role of one object, and at what is known of its accounts.
pub async fn preview(hands: &Hands, view: &View, now: Timestamp) -> Preview {
    let (turned, given) = (Turned::default(), Vec::new());
    let turn = Turn { hands, view, contested: 0, now, may_act: &|| false, turned, arn: None, given };
    let mut actions = Vec::new();
    let outcome = match view.object.is_deleted {
        true => turn.goes(&mut actions),
        false => turn.comes(&mut actions).await,
    };
    Preview { actions, fault: outcome.err().and_then(|stop| fault(&view.object.name, stop)) }
}

fn fault(object: &str, stop: Stop) -> Option<RoleFault> {
    match stop {
        Stop::Fault(Ready { reason, message }, kind) => {
            Some(RoleFault { kind, reason: reason.as_str(), sentence: format!("{object}: {message}") })
        }
        // Nothing was to be changed.
        Stop::Again | Stop::NotLeader => None,
    }
}

impl Turn<'_> {
    async fn comes(&self, actions: &mut Vec<String>) -> Result<(), Stop> {
        let wanted = self.wanted()?;
        self.check_accounts()?;
        let seen = look(&self.hands.iam, &wanted).await?;
        let changes = plan(&wanted, &seen).map_err(RoleFault::from)?;
        if !changes.is_empty() {
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            actions.push(format!("role {}: {}", wanted.name, changes.join(", ")));
        }
        let (steps, hindrances) = self.steps(Some(&wanted.arn));
        actions.extend(steps.iter().map(ToString::to_string));
        unhindered(&hindrances)
    }

    fn goes(&self, actions: &mut Vec<String>) -> Result<(), Stop> {
        let object = &self.view.object;
        if !object.is_held() {
            return Ok(());
        }
        let spec = object.spec.as_ref();
        let spec = spec.map_err(|why| Stop::Fault(Ready::new(Reason::Invalid, why), FaultKind::Person))?;
        if object.deletion_policy() != DeletionPolicy::Keep {
            let steps = left_out(object, &self.view.marked, |name| self.view.accounts.get(name).cloned());
            actions.extend(steps.iter().map(ToString::to_string));
            actions.push(format!("remove role {}, where it is this object's", spec.role_name));
        }
        actions.push("let the object go".to_owned());
        Ok(())
    }
}
