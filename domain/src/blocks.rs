//! Blocks: the rows of many segments, merged across partitions into one cell for each resource and
//! window.
//!
//! A block holds what a stretch of every partition of a log adds up to, in one epoch. It is a pure
//! function of the log, the stretch and the edges in it: whoever makes it again gets the same bytes, by
//! whatever blocks in between. A map says which blocks stand for which stretches, so that each record of
//! the log is counted in one place: in a block, or in the rows of its segment behind the last block.
//!
//! Sums below a moment of the log are asked for later, by a bill's cut and by an epoch that begins there.
//! Such a moment is an edge. A cell never holds usage from both sides of one: a block with edges in it
//! has parts, and a cell for each part.

pub mod varint;
pub mod cell;
pub mod manifest;
pub mod entry;
pub mod page;
pub mod map;

pub use cell::{BlockCell, SegmentRun, Sources};
pub use entry::{Entry, EntryKey, Series, cells_of};
pub use manifest::{BlockManifest, BlockStretch};
pub use map::{Block, BlockMap, EpochBlocks, Level, Plan};
pub use page::{Page, PageWriter};

/// Number of a block, never used for another one.
pub type BlockNumber = u64;
