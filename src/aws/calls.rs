//! Counts every call to AWS by its end, in one place for all clients. It must not know what the calls are for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_sts::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{BeforeSerializationInterceptorContextRef, FinalizerInterceptorContextRef},
    },
    error::BoxError,
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::config_bag::{Storable, StoreReplace};

use crate::model::metrics::aws::{AwsCall, CallResult};

/// Longest beginning of an answer's body in which its error code is looked for, in bytes.
const CODE_WITHIN_BYTES: usize = 4 << 10;

/// How many calls have ended how. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<BTreeMap<AwsCall, u64>>>);

impl Calls {
    /// The numbers so far.
    pub fn counted(&self) -> BTreeMap<AwsCall, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts one more.
    pub fn add(&self, call: AwsCall) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = counted.entry(call).or_default();
        *number = number.saturating_add(1);
    }
}

/// A call that is under way. It is counted when it is dropped: a call that runs out of time is dropped without another word.
#[derive(Debug)]
struct Open {
    calls: Calls,
    service: String,
    operation: String,
    result: Mutex<CallResult>,
}

impl Storable for Open {
    type Storer = StoreReplace<Self>;
}

impl Drop for Open {
    fn drop(&mut self) {
        let result = *self.result.lock().unwrap_or_else(PoisonError::into_inner);
        let (service, operation) = (std::mem::take(&mut self.service), std::mem::take(&mut self.operation));
        self.calls.add(AwsCall { service, operation, result });
    }
}

impl Intercept for Calls {
    fn name(&self) -> &'static str {
        "Calls"
    }

    // Not before the execution: there an interceptor of the whole client does not know the operation yet.
    fn read_before_serialization(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(metadata) = config.load::<Metadata>() {
            let (service, operation) = (metadata.service().to_owned(), metadata.name().to_owned());
            let result = Mutex::new(CallResult::NoAnswer);
            config.interceptor_state().store_put(Open { calls: self.clone(), service, operation, result });
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let status = context.response().map(|response| response.status().as_u16());
        let is_understood = context.output_or_error().is_some_and(|outcome| outcome.is_ok());
        // The body of a document that was read is none of ours.
        let body = context.response().filter(|_| !is_understood).and_then(|response| response.body().bytes());
        let body = body.map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(CODE_WITHIN_BYTES)]));
        if let Some(open) = config.load::<Open>() {
            let result = CallResult::of(status, body.as_deref().unwrap_or_default(), is_understood);
            *open.result.lock().unwrap_or_else(PoisonError::into_inner) = result;
        }
        Ok(())
    }
}
