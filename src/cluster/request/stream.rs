//! Answers in another media type, whole or for as long as the server goes on.

use std::{error::Error, time::Duration};

use http_body_util::BodyExt;
use tracing::{Dispatch, instrument::WithSubscriber};

use super::{Answer, LARGEST_ANSWER_BYTES, NoAnswer, Question, failure};
use crate::cluster::ApiServer;

impl ApiServer {
    /// The answer to GET in this media type, with a body of up to `limit_bytes`.
    pub(in crate::cluster) async fn get_as(
        &self,
        path: &str,
        accept: &'static str,
        limit_bytes: usize,
    ) -> Result<Answer, NoAnswer> {
        let mut body = Vec::new();
        let question = Question { accept, ..Question::get(path) };
        let status = self.exchange(question, limit_bytes, |_, part| body.extend_from_slice(part)).await?;
        Ok(Answer { url: self.url(path), status, body })
    }

    /// The answer to GET part by part as it comes, for as long as the server goes on; it may be silent for `silence` at most. `opened`
    /// is called where it has begun with a success.
    pub(in crate::cluster) async fn stream(
        &self,
        path: &str,
        accept: &'static str,
        silence: Duration,
        opened: impl FnOnce(),
        take: impl FnMut(&[u8]) -> Result<(), NoAnswer>,
    ) -> Result<(), NoAnswer> {
        let question = Question { accept, ..Question::get(path) };
        self.unlimited_stream(question, silence, opened, take).with_subscriber(Dispatch::none()).await
    }

    async fn unlimited_stream(
        &self,
        question: Question<'_>,
        silence: Duration,
        opened: impl FnOnce(),
        mut take: impl FnMut(&[u8]) -> Result<(), NoAnswer>,
    ) -> Result<(), NoAnswer> {
        let url = self.url(question.path);
        let failed = |error: Box<dyn Error + Send + Sync>| failure(url.clone(), error);
        let late = |limit| NoAnswer::TimedOut { url: url.clone(), limit };
        let request = question.request().map_err(|error| failed(error.into()))?;
        let answer = tokio::time::timeout(self.answer_limit, self.client.send(request)).await;
        let mut response = answer.map_err(|_| late(self.answer_limit))?.map_err(|error| failed(error.into()))?;
        let status = response.status();
        let mut refusal = Vec::new();
        if status.is_success() {
            opened();
        }
        loop {
            let frame = tokio::time::timeout(silence, response.body_mut().frame()).await;
            let Some(frame) = frame.map_err(|_| late(silence))? else { break };
            let frame = frame.map_err(|error| failed(error.into()))?;
            let Some(part) = frame.data_ref() else { continue };
            if status.is_success() {
                take(part)?;
            } else if refusal.len() + part.len() <= LARGEST_ANSWER_BYTES {
                refusal.extend_from_slice(part);
            }
        }
        Answer { url, status, body: refusal }.success().map(drop)
    }
}
