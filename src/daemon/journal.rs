//! What the journal hears of actions.

use crate::model::plan::Action;

/// Says that the cluster's state was changed, by us.
pub(super) fn announce(action: &Action) {
    match action {
        Action::MakeKeyPair { .. }
        | Action::KeepPrivateKey { .. }
        | Action::FoundKeyring { .. }
        | Action::WriteKeyring { .. }
        | Action::AddStandby { .. }
        | Action::ReplaceVerifyingKeys { .. }
        | Action::ReplaceSigningKey { .. }
        | Action::WriteVerifyingKeys { .. }
        | Action::CreateBucket { .. }
        | Action::SetPublicAccessBlock { .. }
        | Action::SetBucketPolicy { .. }
        | Action::EnableVersioning { .. }
        | Action::SetKeyringBucketPolicy { .. }
        | Action::Publish { .. }
        | Action::CreateProvider { .. }
        | Action::AddProviderAudience { .. }
        | Action::ReplaceManifest { .. }
        | Action::PersistToKubeadm { .. }
        | Action::ApplyObject { .. }
        | Action::ReplaceObject { .. }
        | Action::DeleteObject { .. }
        | Action::MakeWebhookCertificate { .. }
        | Action::UseNextWebhookCertificate { .. }
        | Action::DeleteProvider { .. }
        | Action::DeleteDocument { .. }
        | Action::CloseBucket { .. }
        | Action::RemoveRole { .. }
        | Action::LetGoOfRoleObject(_)
        | Action::DeleteBucket { .. }
        | Action::DeleteKeyring { .. }
        | Action::RememberTornDown(_)
        | Action::ConfirmChange => tracing::info!(action = action.name(), "{action}"),
        Action::RememberPublishedKeys(_)
        | Action::Acknowledge { .. }
        | Action::RememberKeyring { .. }
        | Action::ForgetStandbyKey
        | Action::SaveLastGood { .. }
        | Action::BeginChange(_)
        | Action::RememberProven { .. }
        | Action::ForgetProven(_)
        | Action::ForgetTornDown
        | Action::ForgetChange => {
            tracing::debug!(action = action.name(), "{action}");
        }
        Action::TellOfMissedPods { .. } => tracing::warn!(action = action.name(), "{action}"),
        Action::RefuseChange(refused) => {
            tracing::error!(action = action.name(), applied = refused.applied, "{action}: {}", refused.reason);
        }
    }
}
