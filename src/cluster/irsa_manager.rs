//! Objects of irsa-manager, as a list each. It does not know what they mean.

use serde_json::Value;

use super::ApiServer;
use crate::model::probe::Probe;

const SETUPS: &str = "/apis/irsa-manager.kkb0318.github.io/v1alpha1/irsasetups";
const ROLES: &str = "/apis/irsa-manager.kkb0318.github.io/v1alpha1/irsas";

impl ApiServer {
    /// Its IRSASetup and IRSA objects. Absent where its definitions are not there.
    pub async fn irsa_manager(&self) -> Probe<[Value; 2]> {
        let setups: Probe<Value> = self.look_up(SETUPS, "a list of IRSASetup").await;
        let roles: Probe<Value> = self.look_up(ROLES, "a list of IRSA").await;
        match (setups, roles) {
            (Probe::Present(setups), Probe::Present(roles)) => Probe::Present([setups, roles]),
            (Probe::Unknown(why), _) | (_, Probe::Unknown(why)) => Probe::Unknown(why),
            (Probe::Absent, _) | (_, Probe::Absent) => Probe::Absent,
        }
    }
}
