//! Where a process is: for people as a table on stderr, for scripts as a file.

use std::{fs, io::Write, path::Path};

use serde_json::json;

use super::{
    first_key::{self, FirstKey},
    process::Process,
};
use crate::{
    config::{Config, access_mode::AccessMode},
    exit::Failure,
};

/// Writes `{"grpc": "127.0.0.1:41234", "http": "...", "pid": 4242}`, whole or not at all: a script
/// that waits for the file never reads half of it.
///
/// # Errors
/// When the file cannot be written.
pub fn write(process: &Process, path: &Path) -> Result<(), Failure> {
    let addresses = json!({
        "grpc": process.grpc.to_string(),
        "http": process.http.to_string(),
        "pid": std::process::id(),
    });
    let beside = path.with_added_extension("part");
    fs::write(&beside, format!("{addresses}\n"))
        .and_then(|()| fs::rename(&beside, path))
        .map_err(|error| Failure::file("write", path, &error))
}

/// Prints addresses, what is kept where, a key that was made now, and what to type next.
pub(super) fn print_table(process: &Process, config: &Config, key: &FirstKey) {
    let (grpc, http, scheme) = (process.grpc, process.http, config.listen.scheme());
    let [(log, log_at), (totals, totals_at)] = &process.backends.kept;
    let server = if config.listen.grpc.port() == 7070 && scheme == "http" {
        String::new()
    } else {
        format!(" --server {scheme}://{grpc}")
    };
    let reach = match config.access.mode {
        AccessMode::Required => "",
        AccessMode::Off | AccessMode::Open => ": loopback only, no credentials",
    };
    let text = format!(
        "
  pulso {version}                              not for production{reach}

  gRPC       {scheme}://{grpc}      health and reflection included
  HTTP       {scheme}://{http}      /openapi.json describes it
  usage      {scheme}://{http}/v1/usage
  readiness  {scheme}://{http}/readyz?verbose
  metrics    {scheme}://{http}/metrics

  {log:<20} {log_at}
  {totals:<20} {totals_at}
  totals are {schedule}

{key}  In another terminal:
{export}    pulso catalog import --format focus samples/focus-1.0-sample-1000.csv > catalogue.yaml
    pulso catalog publish catalogue.yaml{server}
    pulso ingest samples/focus-1.0-sample-1000.csv --format focus --backfill sample{server}
    pulso status --wait-drained 30s{server}
    pulso query usage --from 2024-09 --to 2024-10 --window P1M{server}

  Ctrl-C ends it in order; again ends it at once.

",
        version = env!("CARGO_PKG_VERSION"),
        key = key_lines(config.access.mode, key),
        export = export_line(config.access.mode, key),
        schedule = match &config.consumer.schedule {
            crate::config::value::Schedule::Follow =>
                format!("drained every {}", config.consumer.follow_interval),
            cron => format!("drained at {cron} (UTC)"),
        },
    );
    // Nothing is left to do when stderr itself is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// What there is to say of keys: a paragraph, or nothing. A key's text is nowhere else, and never in the
/// log.
fn key_lines(mode: AccessMode, key: &FirstKey) -> String {
    let name = first_key::NAME;
    let when = match mode {
        AccessMode::Required => "every request has to have a key",
        AccessMode::Off | AccessMode::Open => "needed once access.mode is `required`",
    };
    match (key, mode) {
        (FirstKey::Made(key), _) => format!(
            "  The key `{name}`, an admin for all tenants, is shown this once; {when}:
    {}

",
            key.reveal()
        ),
        (FirstKey::Known, AccessMode::Required) => format!(
            "  Keys are shown once, when they are made; {when}. To make one while this is stopped:
    pulso key create NAME --role admin --tenant '*' --local

"
        ),
        _ => String::new(),
    }
}

/// How the commands come by a key, where they need one.
fn export_line(mode: AccessMode, key: &FirstKey) -> String {
    match (mode, key) {
        (AccessMode::Required, FirstKey::Made(key)) => {
            format!("    export PULSO_KEY={}\n", key.reveal())
        }
        (AccessMode::Required, _) => "    export PULSO_KEY=pulso_...\n".to_owned(),
        (AccessMode::Off | AccessMode::Open, _) => String::new(),
    }
}
