//! Targets: the table of everything that reads bytes others wrote.

mod access;
mod config;
mod cron;
mod price_files;
mod record;
mod log;
mod fold;
mod rows;
mod state;
mod stored;
mod token;
mod wire;
mod words;

pub(crate) use fold::{fold_one, partition};
pub(crate) use log::of as log_of;
pub(crate) use record::generation;
pub(crate) use state::manifest;

use crate::Target;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Every target. Its bounds on memory are about twice the most that was seen.
pub const TARGETS: &[Target] = &[
    Target {
        name: "wire_pulse",
        check: wire::pulse,
        words: &[],
        bytes_base: 64 * KIB,
        bytes_per_byte: 64,
    },
    Target {
        name: "wire_batch",
        check: wire::batch,
        words: &[],
        bytes_base: 64 * KIB,
        bytes_per_byte: 400,
    },
    Target {
        name: "record",
        check: record::check,
        words: &["log of the fuzz!"],
        bytes_base: 64 * KIB,
        bytes_per_byte: 400,
    },
    Target {
        name: "fold",
        check: fold::check,
        words: &[],
        bytes_base: 16 * MIB,
        bytes_per_byte: 400,
    },
    Target {
        name: "fold_state",
        check: state::check,
        words: &[],
        bytes_base: 16 * MIB,
        bytes_per_byte: 400,
    },
    Target {
        name: "run_of_ids",
        check: state::run,
        words: &[],
        bytes_base: MIB,
        bytes_per_byte: 64,
    },
    Target {
        name: "stored",
        check: stored::check,
        words: &[],
        bytes_base: 64 * KIB,
        bytes_per_byte: 64,
    },
    Target {
        name: "catalogue",
        check: price_files::catalogue,
        words: words::CATALOGUE,
        bytes_base: 2 * MIB,
        bytes_per_byte: 1_000,
    },
    Target {
        name: "contract",
        check: price_files::contract,
        words: words::CONTRACT,
        bytes_base: 2 * MIB,
        bytes_per_byte: 1_000,
    },
    Target {
        name: "amendment",
        check: price_files::amendment,
        words: words::AMENDMENT,
        bytes_base: 2 * MIB,
        bytes_per_byte: 1_000,
    },
    Target {
        name: "price_list",
        check: price_files::price_list,
        words: words::FOCUS,
        bytes_base: 2 * MIB,
        bytes_per_byte: 400,
    },
    Target {
        name: "config_file",
        check: config::file,
        words: words::CONFIG,
        bytes_base: MIB,
        bytes_per_byte: 1_000,
    },
    Target {
        name: "config_environment",
        check: config::environment,
        words: words::ENVIRONMENT,
        bytes_base: MIB,
        bytes_per_byte: 400,
    },
    Target {
        name: "page_token",
        check: token::check,
        words: &["AA", "_-", "=", "\0\0\0\0"],
        bytes_base: 64 * KIB,
        bytes_per_byte: 64,
    },
    Target {
        name: "access_token",
        check: access::token,
        words: words::TOKEN,
        bytes_base: MIB,
        bytes_per_byte: 400,
    },
    Target {
        name: "access_key_set",
        check: access::key_set,
        words: words::KEY_SET,
        bytes_base: 256 * KIB,
        bytes_per_byte: 1_000,
    },
    Target {
        name: "access_texts",
        check: access::texts,
        words: &["pulso_", "82f2dcfe", "https://", "2026-01/", "uri:", "dns:", "cn:"],
        bytes_base: 64 * KIB,
        bytes_per_byte: 64,
    },
    Target {
        name: "cron",
        check: cron::check,
        words: words::CRON,
        bytes_base: 256 * KIB,
        bytes_per_byte: 64,
    },
    Target {
        name: "rows_jsonl",
        check: rows::json_lines,
        words: words::JSON,
        bytes_base: MIB,
        bytes_per_byte: 1_000,
    },
    Target {
        name: "rows_csv",
        check: rows::csv,
        words: words::CSV,
        bytes_base: MIB,
        bytes_per_byte: 1_000,
    },
    Target {
        name: "rows_cloudevents",
        check: rows::cloud_events,
        words: words::JSON,
        bytes_base: MIB,
        bytes_per_byte: 1_000,
    },
    Target {
        name: "rows_focus",
        check: rows::focus_rows,
        words: words::FOCUS,
        bytes_base: MIB,
        bytes_per_byte: 1_000,
    },
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
