//! The reads themselves, once: both doors call these and only dress what comes out.

mod verdicts;

use std::{sync::Arc, time::Duration};

use domain::{
    BlockStore, Clock, LogId, LogWindows, Offset, Partition, PulseLog, View,
    epochs::Journal,
    generation::Generation,
    log::LogBounds,
    refold::Refold,
    segment::Progress,
    store::{PartitionKey, StoreError},
};
use edge::{
    access::Principal,
    problem::{Problem, reasons},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use runtime::health::Health;

use crate::{
    config::QueryConfig,
    dead_letters::{DeadLettersPage, DeadLettersQuery, DeadLettersRequest},
    freshness::{self, Freshness, Standing},
    log_ends::LogEnds,
    log_reader::LogReader,
    status::{Found, Status},
    usage::{
        self, UsageError, UsageTotal,
        request::{FieldNames, Rules, UsageRequest},
    },
};
pub use verdicts::OutcomesRequest;

/// Partitions that are asked about together for an answer's freshness.
const PARTITIONS_AT_ONCE: usize = 16;

/// Reads of a log in all its generations and of the store it is folded into. Share it in an `Arc`.
pub struct QueryApi<U, L> {
    store: Arc<U>,
    /// Oldest first; the last one takes pulses now.
    generations: Vec<ReadGeneration<L>>,
    /// Folds the log again; `None` where the log is not read here.
    log_reader: Option<LogReader>,
    ends: LogEnds,
    health: Health,
    config: QueryConfig,
}

/// A generation of the log, and its records if they can be asked about here.
#[derive(Debug)]
pub struct ReadGeneration<L> {
    /// Its identity and fixed parameters.
    pub generation: Generation,
    /// Its log; `None` where its topic is gone.
    pub log: Option<Arc<L>>,
}

/// An answer to a question about usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageAnswer {
    /// Sorted by tenant, product_sku, use_unity, dimensions, window start.
    pub rows: Vec<UsageTotal>,
    /// How fresh and how final it is.
    pub freshness: Freshness,
    /// For the page after this; absent on the last.
    pub next_page_token: Option<String>,
}

impl<U: BlockStore, L: PulseLog> QueryApi<U, L> {
    /// Puts the reads together. Nothing is read yet.
    #[must_use]
    pub fn new(
        (store, log): (Arc<U>, Arc<L>),
        clock: Arc<dyn Clock>,
        health: Health,
        config: QueryConfig,
    ) -> Self {
        let newest = ReadGeneration { generation: *log.generation(), log: Some(log) };
        let ends = LogEnds::new(clock);
        Self { store, generations: vec![newest], log_reader: None, ends, health, config }
    }

    /// The same with the generations before the one that takes pulses now, oldest first.
    #[must_use]
    pub fn after(mut self, older: impl IntoIterator<Item = ReadGeneration<L>>) -> Self {
        self.generations.splice(..0, older);
        self
    }

    /// The same with the verdicts that this folds out of the log.
    #[must_use]
    pub fn folding_again(mut self, refold: Arc<dyn Refold>) -> Self {
        self.log_reader = Some(LogReader::new(refold));
        self
    }

    /// The parameters of every generation are the same but for its identity, its partitions, and longer
    /// windows in older ones.
    fn newest(&self) -> &Generation {
        &self.generations.last().expect("`new` made one").generation
    }

    fn windows(&self) -> LogWindows {
        LogWindows::of(self.newest(), self.generations.iter().map(|read| &read.generation))
    }

    /// Totals per group and window.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with all that is wrong with the question; FAILED_PRECONDITION when it
    /// cannot be answered exactly or costs too much; PERMISSION_DENIED for a tenant of others;
    /// UNAVAILABLE when the store does not answer.
    pub async fn usage(
        &self,
        request: &UsageRequest,
        fields: FieldNames,
        principal: &Principal,
    ) -> Result<UsageAnswer, Problem> {
        let _call = self.config.compute.admit()?;
        let (journal, view) = self.view().await?;
        let token_key = self.config.page_token_key.under(&view);
        let windows = self.windows();
        let rules = Rules { store_window: windows.newest(), token_key, fields };
        let mut query = request.parse(&rules)?;
        query.filter.tenant = principal.one_or_all(query.filter.tenant)?;
        // Before the rows: see `Freshness::of`.
        let freshness = self.freshness(&journal, &view).await?;
        let QueryConfig { compute, store_page_rows, timeout, .. } = &self.config;
        let page = usage::page(&*self.store, &view, (&query, windows), *store_page_rows, compute);
        let page = tokio::time::timeout(*timeout, page).await.map_err(|_| too_long(*timeout))?;
        let page = page.map_err(problem_of_usage)?;
        metrics::counter!("pulso_query_rows_read_total").increment(page.rows_read as u64);
        let next_page_token = page.next.map(|key| token_key.seal(query.fingerprint, &key.encode()));
        Ok(UsageAnswer { rows: page.rows, freshness, next_page_token })
    }

    /// How fresh an answer read from now on will be.
    ///
    /// # Errors
    /// UNAVAILABLE or INTERNAL from the store. A log that does not answer only leaves the
    /// freshness unknown, since the totals do not need it.
    ///
    /// A generation that has ended holds nothing back. While it has not, the next one may hold
    /// pulses that wait for it.
    async fn freshness(&self, journal: &Journal, view: &View) -> Result<Freshness, Problem> {
        let mut asked = Vec::new();
        for read in &self.generations {
            if journal.log(read.generation.log_id).sealed().is_some() {
                continue;
            }
            let partitions = read.generation.partitions();
            asked.extend(partitions.map(|partition| self.standing(view, read, partition)));
        }
        let standings: Vec<Standing> =
            stream::iter(asked).buffered(PARTITIONS_AT_ONCE).try_collect().await?;
        Ok(Freshness::of(&standings, self.newest()))
    }

    /// The totals that are the log's now, and all that its journal says.
    async fn view(&self) -> Result<(Journal, View), Problem> {
        let journal = self.store.journal().await?;
        let view = View::active(journal.clone());
        Ok((journal, view))
    }

    /// Where the partitions stand. Always answers; what cannot be asked is a problem in it.
    pub async fn status(&self) -> Status {
        let journal = self.store.journal().await;
        let view = journal.clone().map(View::active);
        let mut found = Vec::new();
        for (number, read) in (1..).zip(&self.generations) {
            let is_sealed = journal
                .as_ref()
                .is_ok_and(|journal| journal.log(read.generation.log_id).sealed().is_some());
            for partition in read.generation.partitions() {
                let standing = match &view {
                    Ok(view) => self.found(view, read, partition, is_sealed).await,
                    Err(error) => Err(error.to_string()),
                };
                found.push(Found { generation: number, partition, standing });
            }
        }
        Status::of(found, &self.health.report(), self.config.versions.clone())
    }

    /// Dead letters in groups, in the order of the log.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with all that is wrong with the question; UNAVAILABLE when the store does
    /// not answer.
    pub async fn dead_letters(
        &self,
        request: &DeadLettersRequest,
        principal: &Principal,
    ) -> Result<DeadLettersPage, Problem> {
        let (_, view) = self.view().await?;
        let key = self.config.page_token_key.under(&view);
        let log_id = self.generation(&request.generation)?.log_id;
        let DeadLettersQuery { filter, page_size, after } =
            request.parse(&key, log_id, principal)?;
        let after = after.as_ref();
        let groups = self.store.dead_letters(&view, log_id, &filter, after, page_size + 1);
        let groups = groups.await?;
        Ok(request.page(&key, page_size, groups))
    }

    /// The generation that was asked for.
    fn generation(&self, number: &str) -> Result<&Generation, Problem> {
        if number.is_empty() {
            return Ok(self.newest());
        }
        let place = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let found = place.and_then(|place| self.generations.get(place));
        found.map(|read| &read.generation).ok_or_else(|| {
            let newest = self.generations.len();
            let message = format!(
                "{number:?} is not a generation of the log: they are 1 to {newest}, and {newest} if left out"
            );
            let reason = reasons::PARAMETER_INVALID;
            Problem::invalid("generation", reason, message)
        })
    }

    async fn standing(
        &self,
        view: &View,
        read: &ReadGeneration<L>,
        partition: Partition,
    ) -> Result<Standing, Problem> {
        let log_id = read.generation.log_id;
        let progress = self.progress(view, log_id, partition).await;
        let progress = progress?;
        let key = PartitionKey { log_id, partition, epoch: view.epoch_of(log_id) };
        let whole_at = match (&read.log, &progress) {
            (Some(log), Some(known)) => self.ends.whole_at(&**log, key, known.folded_to).await,
            _ => None,
        };
        let noted = progress.and_then(|known| freshness::reached(&known, self.ends.now()));
        if let Some(reached) = whole_at.max(noted) {
            return Ok(Standing::Reached(reached));
        }
        let Some(log) = &read.log else { return Ok(Standing::Unknown) };
        match self.ends.end(&**log, partition).await {
            Some(Offset(0)) => Ok(Standing::Empty),
            _ => Ok(Standing::Unknown),
        }
    }

    async fn found(
        &self,
        view: &View,
        read: &ReadGeneration<L>,
        partition: Partition,
        is_sealed: bool,
    ) -> Result<(Option<LogBounds>, Option<Progress>), String> {
        // Progress first: the log only grows meanwhile, so the lag is never negative.
        let progress = self.progress(view, read.generation.log_id, partition).await;
        let progress = progress.map_err(|error| error.to_string())?;
        // What has ended may be deleted or expire at any time.
        let log = match &read.log {
            Some(log) if !is_sealed => log,
            _ => return Ok((None, progress)),
        };
        let bounds = log.bounds(partition).await.map_err(|error| error.to_string())?;
        Ok((Some(bounds), progress))
    }

    async fn progress(
        &self,
        view: &View,
        log_id: LogId,
        partition: Partition,
    ) -> Result<Option<Progress>, StoreError> {
        let key = PartitionKey { log_id, partition, epoch: view.epoch_of(log_id) };
        self.store.progress(key).await
    }
}

fn too_long(timeout: Duration) -> Problem {
    let message = format!(
        "the question takes longer than {} s; ask for a shorter range, or name a tenant, a SKU or a unit",
        timeout.as_secs_f32()
    );
    Problem::failed_precondition(reasons::RESULT_TOO_LARGE, message)
}

fn problem_of_usage(error: UsageError) -> Problem {
    let message = error.to_string();
    match error {
        UsageError::Store(error) => error.into(),
        UsageError::Compute(problem) => problem,
        UsageError::Across { .. } => {
            Problem::failed_precondition(reasons::WINDOWS_TOO_LONG, message)
        }
    }
}
