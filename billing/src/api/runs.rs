//! Runs: started, listed, shown, continued, cancelled.

use domain::{BillingStore, BlockStore, PulseLog, Tenant};
use edge::{Problem, access::Change};
use proto::v1;

use super::{
    BillingApi, messages, problems,
    requests::{check_request_id, month},
};
use crate::{
    books::runs::{Run, RunRequest},
    threshold::Threshold,
};

/// Failures, and tenants with blocked periods, that the list of all runs has of each.
const WORDS_LISTED_MAX: usize = 3;
/// Tenants of a month that are listed as due; the others are counted.
const DUE_LISTED_MAX: usize = 100;

impl<U: BlockStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// Opens a run and works on it in the background.
    pub(crate) async fn start(
        &self,
        request: v1::StartRunRequest,
        change: &Change,
    ) -> Result<v1::Run, Problem> {
        let month = month(&request.period)?;
        check_request_id(&request.request_id)?;
        let mut tenants = request.tenants;
        for (index, tenant) in tenants.iter().enumerate() {
            let field = format!("tenants[{index}]");
            Tenant::new(tenant).map_err(|error| problems::of_name(&field, error))?;
        }
        tenants.sort();
        tenants.dedup();
        let (deltas, request_id) = (request.deltas, request.request_id);
        let threshold = Threshold::default();
        let request = RunRequest { month, tenants, deltas, threshold, request_id };
        let run = self.parts.driver.open(request).await.map_err(problems::of_billing)?;
        change.about(&run.number.to_string());
        Ok(self.taken_up(&run))
    }

    /// The run with a number, and how far this process is with it.
    pub(crate) async fn run(&self, number: u64) -> Result<v1::Run, Problem> {
        let run = self.parts.books.runs.get(number).await.map_err(problems::of_billing)?;
        Ok(messages::run(&run, self.parts.driver.progress(number)))
    }

    /// All runs, newest first, each with the first few of the tenants that it did not bill: many runs with
    /// all of them would be a long answer.
    pub(crate) async fn runs(&self) -> Result<v1::ListRunsResponse, Problem> {
        let books = &self.parts.books;
        let runs = books.runs.all().await.map_err(problems::of_billing)?;
        let listed = runs.iter().map(|run| {
            let mut run = messages::run(run, self.parts.driver.progress(run.number));
            run.failures.truncate(WORDS_LISTED_MAX);
            run.blocked.truncate(WORDS_LISTED_MAX);
            run
        });
        Ok(v1::ListRunsResponse { runs: listed.collect() })
    }

    /// What is over and not billed.
    pub(crate) async fn due(&self) -> Result<v1::ListDuePeriodsResponse, Problem> {
        let due = self.parts.looker.look().await.map_err(problems::of_billing)?;
        Ok(messages::due(&due, DUE_LISTED_MAX))
    }

    /// Continues a run in the background, where it is open.
    pub(crate) async fn resume(&self, number: u64, change: &Change) -> Result<v1::Run, Problem> {
        change.about(&number.to_string());
        let run = self.parts.books.runs.get(number).await.map_err(problems::of_billing)?;
        Ok(self.taken_up(&run))
    }

    /// Cancels a run: its drafts are discarded, what is final stays.
    pub(crate) async fn cancel(&self, number: u64, change: &Change) -> Result<v1::Run, Problem> {
        change.about(&number.to_string());
        let run = self.parts.driver.cancel(number).await.map_err(problems::of_billing)?;
        Ok(messages::run(&run, self.parts.driver.progress(number)))
    }

    /// Continues a run, where it is open, and describes it.
    fn taken_up(&self, run: &Run) -> v1::Run {
        if run.ended.is_none() {
            self.parts.tasks.work_on(run.number);
        }
        messages::run(run, self.parts.driver.progress(run.number))
    }
}
