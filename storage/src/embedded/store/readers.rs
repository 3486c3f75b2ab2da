//! Threads that read, each with a connection of its own.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use domain::store::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::failure::Failure;
use crate::embedded::{
    queue::{PushError, Pusher, Taker, bounded},
    snapshots::ReadLimit,
};

type Work = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct Readers {
    work: Pusher<Work>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    pub(super) fn start(
        connections: Vec<(Connection, ReadLimit)>,
        queued_max: usize,
    ) -> io::Result<Self> {
        let (work, taker) = bounded(queued_max, usize::MAX);
        let taker = Arc::new(taker);
        let start = |(number, (connection, limit)): (usize, (Connection, ReadLimit))| {
            let taker = taker.clone();
            std::thread::Builder::new()
                .name(format!("store-reader-{number}"))
                .spawn(move || run(&connection, &limit, &taker))
        };
        let threads = connections.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
        Ok(Self { work, threads: Mutex::new(threads) })
    }

    /// Runs one read on a free thread.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            // Whoever asked may have gone away, then nobody needs the work.
            if !answer.is_closed() {
                let _ = answer.send(read(connection).map_err(StoreError::from));
            }
        });
        self.work.push(work, 0).map_err(|error| match error {
            PushError::Full(_) => StoreError::Unavailable("too many reads wait".to_owned()),
            PushError::Closed(_) => closed(),
        })?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Does what is queued and joins the threads. Nothing the second time.
    pub(super) fn close(&self) {
        self.work.close();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a reader of the store panicked");
            }
        }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store was closed".to_owned())
}

fn run(connection: &Connection, limit: &ReadLimit, work: &Taker<Work>) {
    while let Some(read) = work.take_one() {
        limit.begin();
        read(connection);
    }
}
