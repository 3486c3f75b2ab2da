//! Tests of the program as its users meet it: processes, files, addresses, and real servers where
//! there are some. One program, so that tests which wait for a server's session run side by side.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests too; the lint only knows functions.

mod harness;
mod support;

mod access;
mod attacks;
mod audit_log;
mod bad_input;
mod billing;
mod billing_http;
mod billing_kill;
mod billing_periods;
mod billing_refunds;
mod billing_runs;
mod billing_zones;
mod certificates;
mod cli;
mod clock_jumps;
mod cluster;
mod cluster_faults;
mod commands;
mod dated;
mod demo;
mod description;
mod doors;
mod first_key;
mod growing;
mod idle;
mod ingest;
mod injection;
mod issuer;
mod kill;
mod late;
mod names;
mod pipeline;
mod published_totals;
mod quotas;
mod replay;
mod starts_and_ends;
mod tidy;
mod tls;
mod topic_made_again;
mod wide_sums;
mod wrong_clock;
