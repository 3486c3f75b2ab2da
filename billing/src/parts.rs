//! Parts: what this stage is made of, each with just the ports that it needs.

use std::sync::Arc;

use domain::{BillingStore, BlockStore, Clock, PulseLog, refold::Refold};
use edge::Compute;

use crate::{
    books::Books,
    config::BillingConfig,
    credit_notes::CreditNotes,
    cut::Cutter,
    derive::Deriver,
    due::Looker,
    evidence::LogReader,
    explain::Explainer,
    issue::Issuer,
    preview::Previews,
    publish::Publisher,
    rater::Rater,
    run::{Driver, tasks::RunTasks},
    saga::Saga,
    usage::UsageReader,
    voids::Voids,
    windows::Windows,
};

/// The ports of the stage.
pub(crate) struct Ports<U, B, L> {
    pub(crate) usage: Arc<U>,
    pub(crate) store: Arc<B>,
    pub(crate) log: Arc<L>,
    pub(crate) refold: Arc<dyn Refold>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The parts of the stage.
pub(crate) struct Parts<U, B, L> {
    pub(crate) books: Arc<Books<B>>,
    pub(crate) driver: Arc<Driver<U, B, L>>,
    pub(crate) looker: Arc<Looker<U, B>>,
    pub(crate) tasks: RunTasks<U, B, L>,
    pub(crate) credit_notes: CreditNotes<B>,
    pub(crate) voids: Voids<B>,
    pub(crate) explainer: Explainer<U, B>,
    pub(crate) previews: Previews<U, B>,
    pub(crate) publisher: Publisher<U, B, L>,
    pub(crate) windows: Arc<Windows<U>>,
}

impl<U: BlockStore, B: BillingStore, L: PulseLog> Parts<U, B, L> {
    /// Makes all parts of these ports. Calls compute on this pool; runs on one of their own, whose bound
    /// is `tenants_at_once`, so that no call waits behind them.
    pub(crate) fn new(ports: Ports<U, B, L>, config: BillingConfig, compute: &Compute) -> Self {
        let Ports { usage, store, log, refold, clock } = ports;
        let (background, runs) = (Compute::background(), config.runs);
        let books = Arc::new(Books::new(&store, &clock, (compute, &background), config.documents));
        let reader = UsageReader::new(Arc::clone(&usage), runs.page_rows);
        let windows = Windows::new(Arc::clone(&usage), *log.generation(), runs.page_rows);
        let windows = Arc::new(windows);
        let rater = Rater::new(reader.clone(), Arc::clone(&windows));
        let issuer = || Issuer::new(Arc::clone(&books), Arc::clone(&clock));
        let saga =
            Saga::new(Arc::clone(&books), rater.clone(), issuer(), background.clone(), runs.grace);
        let cutter = Cutter::new(Arc::clone(&usage), Arc::clone(&log), Arc::clone(&clock), runs);
        let recorded = || (Arc::clone(&books), Arc::clone(&clock));
        let driver = Arc::new(Driver::new(recorded(), (reader.clone(), cutter), saga, runs));
        let looker = Arc::new(Looker::new(recorded(), reader.clone(), runs, &config.schedule));
        let log_reader = LogReader::new(refold, reader.clone());
        let deriver = Deriver::new(Arc::clone(&books), rater.clone(), log_reader, compute.clone());
        Self {
            tasks: RunTasks::new(
                recorded(),
                Arc::clone(&driver),
                Arc::clone(&looker),
                config.schedule.clone(),
            ),
            looker,
            credit_notes: CreditNotes::new(Arc::clone(&books), issuer()),
            voids: Voids::new(Arc::clone(&books), issuer(), Arc::clone(&clock)),
            explainer: Explainer::new(Arc::clone(&books), deriver, compute.clone()),
            previews: Previews::new(Arc::clone(&books), rater.clone(), compute.clone()),
            publisher: Publisher::new((usage, store, log), compute.clone(), config),
            driver,
            books,
            windows,
        }
    }
}
