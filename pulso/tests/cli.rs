//! The built program without a server: usage errors, exit codes, configuration, and local commands.

use std::{
    path::Path,
    process::{Command, Output},
};

fn pulso(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments).output().unwrap()
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PULSO_")) {
        command.env_remove(name);
    }
    command.current_dir(directory).args(arguments);
    command
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn a_flag_that_a_variable_gives_is_not_shown_as_required() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path(), &["bill", "preview", "--tenant", "a"]);
    let output = command.env("PULSO_SERVER", "http://a:1").env("PULSO_OUTPUT", "json").output();
    let output = output.unwrap();
    let words = stderr(&output);
    assert!(words.contains("Usage: pulso bill preview --tenant <TENANT> --period"), "{words}");
    assert!(!words.contains("--server") && !words.contains("--output"), "{words}");
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn mistakes_on_the_command_line_exit_with_64_and_say_so_on_stderr() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, needed) in [
        (&["nonsense"][..], "unrecognized subcommand"),
        (&["query", "usage", "--from", "2024-09"], "--to"),
        (&["query", "usage", "--from", "x", "--to", "2024-10", "--window", "P1D"], "RFC 3339"),
        (&["query", "usage", "--from", "2024-09", "--to", "2024-10", "--window", "P1W"], "PT1H"),
        (&["ingest", "x.csv"], "--format"),
        (&["ingest", "missing.csv", "--format", "csv"], "missing.csv"),
        (&["ingest", ".", "--format", "csv"], "directory"),
        (&["status", "-o", "yaml"], "jsonl"),
        (&["status", "--wait-drained", "30"], "has no unit"),
        (&["status", "--server", "kafka://a:1"], "not an http:// or https:// address"),
        (&["status", "--cert", "a.pem"], "--cert and --cert-key belong together"),
        (&["status", "--server", "https://a:1", "--ca", "no.pem"], "cannot read no.pem"),
        (&["consume", "--once", "--follow"], "cannot be used with"),
        (&["completions", "tcl"], "zsh"),
    ] {
        let output = pulso(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(needed), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn a_server_that_does_not_answer_exits_with_69_and_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    // A port that was free a moment ago and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = format!("http://127.0.0.1:{port}");
    let output = pulso(directory.path(), &["status", "--server", &server]);
    assert_eq!(output.status.code(), Some(69));
    assert!(stderr(&output).contains(&format!("cannot reach {server}")), "{}", stderr(&output));
    assert!(stderr(&output).contains("Is `pulso dev` running?"), "{}", stderr(&output));
}

#[test]
fn help_version_completions_and_the_manual_go_to_stdout() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, needed) in [
        (&["--help"][..], "Exit codes"),
        (&["--version"], "pulso "),
        (&["ingest", "--help"], "Examples:"),
        (&["completions", "bash"], "_pulso()"),
        (&["completions", "zsh"], "#compdef pulso"),
        (&["completions", "fish"], "complete -c pulso"),
        (&["man"], ".TH pulso"),
        (&["openapi"], "\"openapi\": \"3.1.0\""),
    ] {
        let output = pulso(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(stdout(&output).contains(needed), "{arguments:?}: {}", stdout(&output));
    }
}

#[test]
fn every_command_has_help_with_an_example_or_is_plain() {
    let directory = tempfile::tempdir().unwrap();
    for command in [
        "dev",
        "demo",
        "serve",
        "consume",
        "ingest",
        "query usage",
        "status",
        "bill preview",
        "bill run",
        "bill explain",
        "bill simulate",
        "contract amend",
        "contract apply",
        "catalog diff",
        "catalog import",
        "catalog publish",
        "dlq list",
        "dlq show",
        "audit",
        "audit-log",
        "doctor",
        "bench pipeline",
        "config show",
        "config init",
        "completions",
    ] {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let output = pulso(directory.path(), &arguments);
        assert!(stdout(&output).contains("Examples:\n  pulso"), "{command}: {}", stdout(&output));
    }
}

#[test]
fn config_init_check_and_show_agree() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| pulso(directory.path(), arguments);
    assert_eq!(run(&["config", "init"]).status.code(), Some(0));
    let again = run(&["config", "init"]);
    assert_eq!(again.status.code(), Some(64), "an existing file is left alone");
    let checked = run(&["config", "check", "-o", "json"]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    let shown = run(&["config", "show", "--origin", "-o", "json", "--log", "memory:"]);
    let shown: serde_json::Value = serde_json::from_str(stdout(&shown)).unwrap();
    let setting = |key: &str| {
        let settings = shown["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["key"] == key).unwrap().clone()
    };
    assert_eq!(setting("log.url")["origin"], "--log");
    assert_eq!(setting("log.url")["value"], "memory:");
    let origin = setting("store.url")["origin"].as_str().unwrap().to_owned();
    assert!(origin.starts_with("pulso.toml:"), "{origin}");
}

#[test]
fn a_wrong_configuration_exits_with_78_and_lists_every_mistake() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("pulso.toml"), "lanes = 3\n[log]\npartitions = 0\n")
        .unwrap();
    let output = pulso(directory.path(), &["config", "check", "--store", "scylla://a"]);
    assert_eq!(output.status.code(), Some(78));
    for needed in [
        "3 mistake(s)",
        "pulso.toml:1: unknown key `lanes`; did you mean `consumer.lanes`?",
        "pulso.toml:3: log.partitions = `0`",
        "--store: store.url = `scylla://a`: `a` is not HOST:PORT",
    ] {
        assert!(stderr(&output).contains(needed), "{}", stderr(&output));
    }
    let serving = pulso(directory.path(), &["dev"]);
    assert_eq!(serving.status.code(), Some(78), "{}", stderr(&serving));
}

#[test]
fn a_catalogue_is_imported_checked_and_tested_without_a_server() {
    let directory = tempfile::tempdir().unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/focus-1.0-sample-1000.csv");
    let sample = sample.to_str().unwrap();
    let run = |arguments: &[&str]| pulso(directory.path(), arguments);
    let imported = run(&["catalog", "import", "--format", "focus", sample]);
    assert_eq!(imported.status.code(), Some(0), "{}", stderr(&imported));
    std::fs::write(directory.path().join("catalogue.yaml"), &imported.stdout).unwrap();
    let checked = run(&["catalog", "check", "catalogue.yaml"]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    let tested = run(&["catalog", "test", "catalogue.yaml", "-o", "json"]);
    assert_eq!(tested.status.code(), Some(0), "{}", stderr(&tested));
    let results: serde_json::Value = serde_json::from_str(stdout(&tested)).unwrap();
    assert_eq!(results["failed"], 0);
    assert!(results["passed"].as_u64().unwrap() > 0);

    let text = std::fs::read_to_string(directory.path().join("catalogue.yaml")).unwrap();
    let (head, tail) = text.rsplit_once("expect: \"").unwrap();
    std::fs::write(directory.path().join("wrong.yaml"), format!("{head}expect: \"9{tail}"))
        .unwrap();
    let failed = run(&["catalog", "test", "wrong.yaml"]);
    assert_eq!(failed.status.code(), Some(1), "{}{}", stdout(&failed), stderr(&failed));
    std::fs::write(directory.path().join("broken.yaml"), "catalogue: \"x\"\ncurency: BRL\n")
        .unwrap();
    let broken = run(&["catalog", "check", "broken.yaml"]);
    assert_eq!(broken.status.code(), Some(65));
    assert!(stderr(&broken).contains("broken.yaml:2"), "{}", stderr(&broken));
}
