//! The words of the business and the ports, in reading order.
//!
//! Nothing here does IO, reads a clock, spawns, or knows a wire format: every type is a value, every
//! function is pure, and the ports say what the stages need from the outside. A module imports only
//! those above it.

pub mod hash;
pub mod codec;
pub mod time;

pub mod name;
pub mod quantity;
pub mod dimensions;
pub mod aggregate;

pub mod generation;
pub mod log;
pub mod limits;

pub mod segment;
pub mod dead_letter;
pub mod rebase;
pub mod epochs;

pub mod usage;
pub mod log_windows;
pub mod blocks;
pub mod store;
pub mod block_store;
pub mod usage_cursor;
pub mod totals;
pub mod outlet;
pub mod refold;

pub mod catalogue;
pub mod contract;
pub mod amendment;
pub mod billing;

pub mod suggest;

pub use aggregate::{Aggregate, Total};
pub use billing::BillingStore;
pub use block_store::BlockStore;
pub use dead_letter::{
    DeadLetter, DeadLetterGroup, DeadLetterKey, DeadLetterReason, DeadLetterSample,
};
pub use dimensions::Dimensions;
pub use epochs::View;
pub use generation::{Epoch, LogId, Offset, Partition};
pub use limits::FoldLimits;
pub use log::PulseLog;
pub use log_windows::LogWindows;
pub use name::{Name, Sku, Tenant, Unit};
pub use outlet::Outlet;
pub use quantity::Quantity;
pub use segment::{Conservation, Manifest, SegmentId, SegmentRule};
pub use store::UsageStore;
pub use time::{Clock, TimeTextError, Timestamp, Window, WindowLength};
pub use totals::{NoFeed, TotalsFeed};
pub use usage::{Cell, ResourceKey, RowKey, UsageRow};
pub use usage_cursor::UsageCursor;
