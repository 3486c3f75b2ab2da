//! The seeded simulation: ingest and consumer over the memory adapters, in a world of crashes,
//! zombies, growth, replays, wrong clocks and failing stores that one seed decides.
//!
//! This crate ships nothing. It is a crate of its own because the test drives both stages, which
//! know nothing of one another, and because it is built again for every planted bug.
//! `tests/simulation/main.rs` is where to begin.
