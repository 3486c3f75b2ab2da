//! The one program: its command line, its configuration, the client commands, and the wiring of the
//! stages.
//!
//! - [`exit`]: the table of exit codes.
//! - [`config`]: settings from defaults, file, environment and flags.
//! - [`cli`]: what can be typed.
//! - [`output`]: answers as table, JSON, JSON lines or CSV.
//! - [`client`]: connections to a server, and the sender of pulses.
//! - [`ingest`]: files of usage, read row by row into batches.
//! - [`commands`]: what each client command does.
//! - [`serve`]: what each serving command does.

pub mod exit;

pub mod config;

pub mod cli;

pub mod output;

pub mod client;

pub mod ingest;

pub mod commands;

pub mod serve;
