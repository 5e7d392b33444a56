//! One pod, for a person who asks.

use super::Irsad;
use crate::{
    model::{plan::Facts, pod::PodName, pod_check::PodLook},
    observe::look_at_pod,
};

impl Irsad {
    /// Looks at one pod and at everything that its credentials hang on, beside what was observed as `facts`.
    pub async fn look_at_pod(&mut self, facts: &Facts, name: &PodName) -> PodLook {
        look_at_pod(&mut self.world, facts, name).await
    }
}
