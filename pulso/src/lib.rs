//! The one program: its command line, its configuration, the client commands, and the wiring of the
//! stages.
//!
//! - [`exit`]: the table of exit codes.
//! - [`config`]: settings from defaults, file, environment and flags.
//! - [`output`]: answers as table, JSON, JSON lines or CSV.
//! - [`client`]: connections to a server, trusted and with a credential, and the sender of pulses.
//! - [`cli`]: the flags of every command.
//! - [`ingest`]: files of usage, read row by row into batches.
//! - [`serve`]: what each serving command does.
//! - [`commands`]: the command line, and what each client command does.

pub mod exit;

pub mod config;

pub mod output;

pub mod client;

pub mod cli;

pub mod ingest;

pub mod serve;

pub mod commands;
