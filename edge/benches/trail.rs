//! What the audit trail adds to a write, on the embedded store: time beside one bare append, and bytes
//! on the disk. `cargo bench -p edge --bench trail`.

#![expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{BillingStore as _, Clock as _};
use edge::{
    CorrelationId,
    access::{
        Change, Principal,
        trail::{Begun, Trail},
    },
};
use futures_util::{StreamExt as _, stream};
use runtime::clock;
use storage::embedded::{
    DataDirectory, EmbeddedBillingStore, EmbeddedStore, FatalHook, OpenOptions, StoreOptions,
};

const ONE_BY_ONE: u32 = 500;
const AT_ONCE: usize = 64;
const TOGETHER: u32 = 10_000;

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = DataDirectory::open(directory.path(), OpenOptions::default()).expect("it is ours");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let store = open(&data);
    runtime.block_on(one_by_one(store.billing()));
    // A closed store has all in its one file.
    store.close();
    let before = bytes(directory.path());
    let store = open(&data);
    runtime.block_on(together(store.billing()));
    store.close();
    let grown = bytes(directory.path()).saturating_sub(before);
    println!("{} bytes on the disk a write without texts", grown / u64::from(TOGETHER));
}

fn open(data: &DataDirectory) -> EmbeddedStore {
    let fatal = FatalHook::new(|message| panic!("{message}"));
    EmbeddedStore::open(data, &StoreOptions::new(fatal)).expect("it is ours")
}

async fn one_by_one(store: EmbeddedBillingStore) {
    let start = Instant::now();
    for place in 0..u64::from(ONE_BY_ONE) {
        store.append_entry("bare", place, &[b'x'; 300]).await.expect("a new place");
    }
    report("one bare append, one by one", start.elapsed(), ONE_BY_ONE);
    let trail = Trail::new(Arc::new(store), Arc::new(clock::system()));
    let start = Instant::now();
    for _ in 0..ONE_BY_ONE {
        write(&trail).await;
    }
    report("both entries of a write, one by one", start.elapsed(), ONE_BY_ONE);
}

async fn together(store: EmbeddedBillingStore) {
    let trail = Trail::new(Arc::new(store), Arc::new(clock::system()));
    let start = Instant::now();
    let writes = stream::iter(0..TOGETHER).map(|_| write(&trail));
    writes.buffer_unordered(AT_ONCE).for_each(async |()| {}).await;
    report("both entries of a write, 64 at once", start.elapsed(), TOGETHER);
}

async fn write(trail: &Trail<EmbeddedBillingStore>) {
    let method = "/pulso.v1.BillingService/ApplyContract";
    let now = clock::system().now();
    let begun = Begun::new(now, &Principal::local(), method, &CorrelationId::mint());
    let place = trail.begin(&begun).await.expect("the store is there");
    let change = Change::default();
    change.about("acme-1");
    trail.end(place, &change.ended(now, None)).await.expect("the store is there");
}

fn report(what: &str, took: Duration, of: u32) {
    println!("{what:<40} {:>10.2?}", took / of);
}

fn bytes(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).expect("it is ours").flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}
