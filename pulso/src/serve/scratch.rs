//! Scratch: what may be kept in memory, and where the rest goes.

use std::path::PathBuf;

use ingestor_consumer::{blocks::SortRoom, fold::IdsMemory};

use crate::config::Config;

/// How much memory the ids of the horizon may take, and where those go that have no room.
pub(crate) fn ids_memory(config: &Config) -> IdsMemory {
    let named = config.consumer.scratch_dir.get().map(PathBuf::from);
    let scratch = named.unwrap_or_else(|| config.data_dir.0.join("scratch"));
    IdsMemory { bytes_max: config.consumer.ids_memory.as_usize(), scratch: scratch.into() }
}

/// What sorting may take, of blocks that are made, audited or compared.
pub(crate) fn sort_room(config: &Config) -> SortRoom {
    let scratch = ids_memory(config).scratch;
    SortRoom { bytes_max: config.blocks.memory.as_usize(), scratch }
}
