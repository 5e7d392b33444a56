//! What an attempt that was refused gives back: pods that had permissions keep them until a person has acted.

use super::{FoundRole, INLINE_POLICY_NAME, RoleAction};

/// What undoes the policies of those of `actions` before the one at place `refused`, last one first, for a role that was `found` so.
///
/// Empty where nothing was taken, where only the taking was left to do, and once the trust policy is another: what was taken then was
/// not for those who are trusted now. Boundary, session and tags stay: they permit nothing.
pub fn put_back(actions: &[RoleAction], refused: usize, found: &FoundRole) -> Vec<RoleAction> {
    let (done, left) = actions.split_at(refused.min(actions.len()));
    let is_for_others = done.iter().any(|action| matches!(action, RoleAction::SetTrustPolicy(_)));
    if is_for_others || !done.iter().any(takes) || left.iter().all(takes) {
        return Vec::new();
    }
    done.iter().rev().filter_map(|action| opposite(action, found)).collect()
}

fn takes(action: &RoleAction) -> bool {
    matches!(action, RoleAction::Detach(_) | RoleAction::DeleteInline(_))
}

fn opposite(action: &RoleAction, found: &FoundRole) -> Option<RoleAction> {
    let inline = |name: &str| {
        let policy = found.inline.get(name)?.clone();
        Some(RoleAction::PutBackInline { name: name.to_owned(), policy })
    };
    match action {
        RoleAction::Detach(arn) => Some(RoleAction::PutBackManaged(arn.clone())),
        RoleAction::DeleteInline(name) => inline(name),
        RoleAction::PutInline(_) => {
            let delete = || RoleAction::DeleteInline(INLINE_POLICY_NAME.to_owned());
            Some(inline(INLINE_POLICY_NAME).unwrap_or_else(delete))
        }
        RoleAction::Attach(arn) => Some(RoleAction::Detach(arn.to_string())),
        RoleAction::Create(_)
        | RoleAction::SetBoundary(_)
        | RoleAction::SetTrustPolicy(_)
        | RoleAction::SetMaxSession(_)
        | RoleAction::Tag(_)
        | RoleAction::PutBackManaged(_)
        | RoleAction::PutBackInline { .. }
        | RoleAction::Delete => None,
    }
}
