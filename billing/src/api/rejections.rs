//! Rejections: messages that a consumer could not take, and their replay.

use domain::{BillingStore, BlockStore, PulseLog};
use edge::{Problem, access::Change};
use proto::v1;

use super::{
    BillingApi, messages, problems,
    requests::{CONSUMER_BYTES_MAX, REASON_BYTES_MAX, check_words, page},
};

impl<U: BlockStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// Notes that a consumer rejects a message.
    pub(crate) async fn reject(
        &self,
        request: v1::RejectMessageRequest,
        change: &Change,
    ) -> Result<v1::Rejection, Problem> {
        let v1::RejectMessageRequest { message, consumer, reason } = request;
        check_words("consumer", &consumer, CONSUMER_BYTES_MAX)?;
        check_words("reason", &reason, REASON_BYTES_MAX)?;
        let rejected = self.parts.books.rejections.reject(message, &consumer, &reason).await;
        let rejected = rejected.map_err(problems::of_billing)?;
        change.about(&rejected.number.to_string());
        Ok(messages::rejection(rejected))
    }

    /// A page of rejections, in the order of their numbers.
    pub(crate) async fn rejections(
        &self,
        request: &v1::ListRejectionsRequest,
    ) -> Result<v1::ListRejectionsResponse, Problem> {
        let (from, size) = page(request.page_size, &request.page_token)?;
        let found =
            self.parts.books.rejections.page(from, size).await.map_err(problems::of_billing)?;
        // A page that is not empty may be followed by another.
        let next = found.last().map_or_else(String::new, |last| (last.number + 1).to_string());
        let rejections = found.into_iter().map(messages::rejection).collect();
        Ok(v1::ListRejectionsResponse { rejections, next_page_token: next })
    }

    /// Puts the message of a rejection into the outbox again, once.
    pub(crate) async fn replay(
        &self,
        number: u64,
        change: &Change,
    ) -> Result<v1::Rejection, Problem> {
        change.about(&number.to_string());
        let replayed = self.parts.books.rejections.replay(number).await;
        replayed.map(messages::rejection).map_err(problems::of_billing)
    }
}
