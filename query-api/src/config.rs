//! What an operator, or the wiring, sets about reads. Everything else is a constant beside its use.

use std::{collections::BTreeMap, time::Duration};

use edge::{Compute, paging::TokenKey};

/// Limits and identity of the query stage.
#[derive(Clone, Debug)]
pub struct QueryConfig {
    /// Rows asked of the store at a time, at least 1. Default 4,096. Fewer cost more round trips,
    /// more cost memory (about 300 bytes a row for each query under way).
    pub store_page_rows: usize,
    /// How long one page of an answer may take. Default 30 s. Too short refuses honest questions; too long
    /// lets one question keep a core and the store busy.
    pub timeout: Duration,
    /// Key that page tokens are sealed with. Replicas that answer for one another need the same;
    /// a new one makes the tokens given out before it worthless, and their holders start again.
    pub page_token_key: TokenKey,
    /// Where rows are grouped, and how many questions may be worked on. Shared with the other stages
    /// of a process.
    pub compute: Compute,
    /// Component and version, for example `pulso`, `log_format`, `store_format`; shown by status.
    pub versions: BTreeMap<String, String>,
}

impl QueryConfig {
    /// The defaults, with a key drawn at random by the caller.
    #[must_use]
    pub fn new(page_token_key: TokenKey) -> Self {
        Self {
            store_page_rows: 4_096,
            timeout: Duration::from_secs(30),
            page_token_key,
            compute: Compute::default(),
            versions: BTreeMap::new(),
        }
    }
}
