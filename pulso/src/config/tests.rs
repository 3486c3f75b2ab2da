//! Sources of configuration together: what wins, and how every mistake is named.

use std::{fs, path::PathBuf};

use super::{
    LISTED_MAX, Loaded, Origin, Sources,
    keys::{Config, KEYS},
    load::load,
    urls::{Place, StoreUrl},
    value::{ByteSize, Lanes, Setting, Span},
    write::default_file,
};

/// A directory with one file in it.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pulso.toml");
    fs::write(&path, text).unwrap();
    (directory, path)
}

fn from_file(text: &str) -> Result<Loaded, String> {
    let (directory, path) = file(text);
    let loaded = load(&Sources { file: Some(path), ..Sources::default() });
    loaded.map_err(|errors| errors.to_string().replace(directory.path().to_str().unwrap(), ""))
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Loaded, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment = variables.iter().map(owned).collect();
    load(&Sources { environment, ..Sources::default() }).map_err(|errors| errors.to_string())
}

#[test]
fn the_written_file_parses_to_the_defaults() {
    let text = default_file();
    assert_eq!(from_file(&text).unwrap().config, Config::default());
    for key in KEYS {
        let name = key.path.rsplit('.').next().unwrap();
        assert!(text.contains(&format!("\n{name} = ")), "{} is not written", key.path);
    }
}

#[test]
fn every_default_reads_back_as_it_prints() {
    let config = Config::default();
    for key in KEYS {
        let mut other = config.clone();
        (key.set)(&mut other, &(key.text)(&config)).unwrap();
        assert_eq!(other, config, "{}", key.path);
        assert!(!key.docs.is_empty() && !(key.expects)().is_empty(), "{}", key.path);
    }
}

#[test]
fn a_password_is_never_printed() {
    let loaded = from_file("[scylla]\nusername = \"me\"\npassword = \"hunter2\"\n").unwrap();
    let key = KEYS.iter().find(|key| key.path == "scylla.password").unwrap();
    assert_eq!((key.text)(&loaded.config), "(hidden)");
    assert!(!format!("{loaded:?}").contains("hunter2"));
    assert_eq!(loaded.config.scylla.password.reveal(), Some("hunter2"));
}

#[test]
fn the_later_source_wins_and_is_remembered() {
    let (_directory, path) = file(
        "[log]\npartitions = 8\nqueue_bytes_max = \"1 MiB\"\n[listen]\ngrpc = \"127.0.0.1:1\"\n",
    );
    let loaded = load(&Sources {
        file: Some(path.clone()),
        environment: vec![
            ("PULSO_LOG__PARTITIONS".to_owned(), "16".to_owned()),
            ("PULSO_LISTEN__GRPC".to_owned(), "127.0.0.1:2".to_owned()),
            ("PULSO_SERVER".to_owned(), "http://elsewhere:1".to_owned()),
            ("PULSO_TEST_REQUIRE".to_owned(), "services".to_owned()),
            ("HOME".to_owned(), "/root".to_owned()),
        ],
        flags: vec![("--grpc-listen", "listen.grpc", "127.0.0.1:3".to_owned())],
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(loaded.config.log.partitions.get(), 16);
    assert_eq!(loaded.config.log.queue_bytes_max.bytes(), 1 << 20);
    assert_eq!(loaded.config.listen.grpc.port(), 3);
    for (key, origin) in [
        ("log.queue_bytes_max", Origin::File(path, 3)),
        ("log.partitions", Origin::Variable("PULSO_LOG__PARTITIONS".to_owned())),
        ("listen.grpc", Origin::Flag("--grpc-listen")),
        ("listen.http", Origin::Default),
    ] {
        assert_eq!(loaded.origin(key), origin, "{key}");
    }
}

#[test]
fn a_mistake_in_a_file_names_line_key_value_and_remedy() {
    for (text, needed) in [
        (
            "[log]\npartitons = 4\n",
            "/pulso.toml:2: unknown key `log.partitons`; did you mean `log.partitions`?",
        ),
        ("[lgo]\npartitions = 4\n", "/pulso.toml:1: unknown key `lgo`"),
        ("grpc_listen = \"127.0.0.1:1\"\n", "/pulso.toml:1: unknown key `grpc_listen`"),
        ("grpc = \"127.0.0.1:1\"\n", "did you mean `listen.grpc`?"),
        (
            "[log]\npartitions = 0\n",
            "/pulso.toml:2: log.partitions = `0`: out of range; needs a whole number from 1 to 1024",
        ),
        ("[log]\npartitions = 2.5\n", "log.partitions = `2.5`: not a whole number; needs"),
        ("[log]\npartitions = [4]\n", "log.partitions = `[...]`: not one value; needs"),
        (
            "[log]\nurl = \"kafka://localhost\"\n",
            "log.url = `kafka://localhost`: `localhost` is not HOST:PORT; needs `file:DIRECTORY`",
        ),
        ("[store]\nurl = \"kafka://localhost:9092\"\n", "a log, not a store"),
        ("[log]\nurl = \"kafka://user:word@a:9092\"\n", "log.url = `kafka:***@a:9092`: user and"),
        ("[log]\nurl = \"kafka:user:word@a:9092\"\n", "log.url = `kafka:***@a:9092`: user and"),
        ("[store]\nurl = \"scylla://u:wo?rd@a:1\"\n", "store.url = `scylla:***@a:1`: user and"),
        (
            "[log]\nurl = \"kafka://localhost:9092\"\n[store]\nurl = \"memory:\"\n",
            "store.url = `memory:` (/pulso.toml:4): the log outlives this process",
        ),
        (
            "[consumer]\npartitions = \"0-3\"\n",
            "consumer.partitions = `0,1,2,3` (/pulso.toml:2): an embedded log has one consumer",
        ),
        (
            "[kafka]\nreplication = 1\n",
            "kafka.min_insync_replicas = `2` (default): more copies than kafka.replication makes",
        ),
        (
            "[kafka]\nsecurity_protocol = \"sasl_ssl\"\nusername = \"me\"\n",
            "needs kafka.username and kafka.password (or PULSO_KAFKA__PASSWORD_FILE)",
        ),
        ("[kafka]\nusername = \"me\"\n", "kafka.username = `me` (/pulso.toml:2): is not sent"),
        ("[scylla]\npassword = \"x\"\n", "a password a user: set both or none"),
        ("[store]\nurl = \"./data\"\n", "store.url = `./data`: has no scheme; needs"),
        (
            "[shutdown]\ntimeout = 30\n",
            "shutdown.timeout = `30`: has no unit (ms, s, m, h); needs a length of time from 1s to 1h",
        ),
        ("[shutdown]\ntimeout = \"-3s\"\n", "is negative"),
        (
            "[ingest]\nmessage_bytes_max = \"4 parsecs\"\n",
            "`parsecs` is not a unit of size; needs a size from 1 KiB to 2 GiB",
        ),
        (
            "[consumer]\nschedule = \"* * * * *\"\n",
            "has 5 fields; needs `follow` or a cron expression of six fields",
        ),
        (
            "[listen]\ngrpc = \"localhost\"\n",
            "listen.grpc = `localhost`: not an address and a port; needs",
        ),
        (
            "[shutdown]\ntimeout = \"5s\"\n",
            "shutdown.calls_timeout = `5s` (default): shutdown.timeout is 5s: give less",
        ),
        (
            "[log]\nlateness = \"26h\"\n",
            "log.lateness = `26h` (/pulso.toml:2): lateness + future tolerance must not pass",
        ),
        (
            "[log]\nsegment_span = \"7m\"\n",
            "log.segment_span = `7m` (/pulso.toml:2): segment_span is outside",
        ),
        ("[listen]\nhttp = \"127.0.0.1:7070\"\n", "listen.grpc has the same address"),
        (
            "[ingest]\npulse_bytes_max = \"8 MiB\"\n",
            "ingest.pulse_bytes_max = `8 MiB` (/pulso.toml:2): give 1024 to 4194304",
        ),
        ("[log\n", "/pulso.toml:1: not TOML"),
    ] {
        let errors = from_file(text).unwrap_err();
        assert!(errors.contains(needed), "{text}gave: {errors}\nneeded: {needed}");
    }
}

#[test]
fn a_mistake_in_the_environment_names_the_variable_that_was_meant() {
    for (name, value, needed) in [
        (
            "PULSO_LOG__PARTITON",
            "4",
            "PULSO_LOG__PARTITON: unknown key `log.partiton`; did you mean `PULSO_LOG__PARTITIONS`?",
        ),
        ("PULSO_GRPC_LISTEN", "127.0.0.1:1", "did you mean `PULSO_LISTEN__GRPC`?"),
        ("PULSO_LOG", "file:./data", "did you mean `PULSO_LOG__URL`?"),
        ("PULSO_LOG", "pulso=loud", "telemetry.filter = `pulso=loud`: is no log filter"),
        ("PULSO_INGEST__NOPE", "1", "unknown key `ingest.nope`; `pulso config show` lists"),
        (
            "PULSO_LOG__PARTITIONS",
            "many",
            "PULSO_LOG__PARTITIONS: log.partitions = `many`: not a whole number",
        ),
        (
            "PULSO_STORE__URL_FILE",
            "/nowhere/at/all",
            "PULSO_STORE__URL_FILE: cannot be read: /nowhere/at/all",
        ),
    ] {
        let errors = from_environment(&[(name, value)]).unwrap_err();
        assert!(errors.contains(needed), "{name} gave: {errors}\nneeded: {needed}");
    }
}

#[test]
fn pulso_log_filters_what_is_logged_unless_the_setting_itself_is_given() {
    for (environment, filter, origin) in [
        (&[("PULSO_LOG", "warn")][..], "warn", "PULSO_LOG"),
        (
            &[("PULSO_TELEMETRY__FILTER", "debug"), ("PULSO_LOG", "warn")],
            "debug",
            "PULSO_TELEMETRY__FILTER",
        ),
    ] {
        let loaded = from_environment(environment).unwrap();
        assert_eq!(loaded.config.telemetry.filter.as_str(), filter);
        assert_eq!(loaded.origin("telemetry.filter"), Origin::Variable(origin.to_owned()));
    }
    let unset = from_environment(&[("PULSO_LOG", "")]).unwrap();
    assert_eq!(unset.origin("telemetry.filter"), Origin::Default);
}

#[test]
fn every_mistake_is_shown_at_once() {
    let errors =
        from_file("nonsense = 1\n[log]\npartitions = 0\n[store]\nurl = \"x\"\n").unwrap_err();
    assert!(errors.contains("3 mistake(s)"), "{errors}");
}

#[test]
fn a_flood_of_mistakes_is_listed_in_part_in_the_order_of_the_file_and_counted() {
    let keys = |count: usize| (0..count).map(|at| format!("z{at:03} = 1\n")).collect::<String>();
    let all = from_file(&keys(LISTED_MAX)).unwrap_err();
    assert!(all.starts_with("the configuration has 100 mistake(s):"), "{all}");
    assert!(all.contains("`z099`") && !all.contains("more"), "{all}");
    let some = from_file(&(keys(LISTED_MAX) + "a1 = 1\na2 = 1\n")).unwrap_err();
    assert!(some.starts_with("the configuration has 102 mistake(s):"), "{some}");
    assert!(some.contains("`z099`") && some.ends_with("\n  ... and 2 more"), "{some}");
    assert!(!some.contains("`a1`"), "{some}");
}

#[test]
fn a_value_may_stand_in_a_file_of_its_own() {
    let (_directory, path) = file("memory:\n");
    let path = path.to_str().unwrap();
    let loaded = from_environment(&[("PULSO_STORE__URL_FILE", path)]).unwrap();
    assert_eq!(loaded.config.store.url, StoreUrl::Embedded(Place::Memory));
    assert_eq!(loaded.origin("store.url").to_string(), "PULSO_STORE__URL_FILE");
    let both = from_environment(&[("PULSO_STORE__URL_FILE", path), ("PULSO_STORE__URL", "file:")]);
    assert!(both.unwrap_err().contains("are both set: unset one of them"));
}

#[test]
fn a_named_file_must_exist_and_a_default_one_need_not() {
    let nowhere = PathBuf::from("/nowhere/pulso.toml");
    let named = Sources { file: Some(nowhere.clone()), ..Sources::default() };
    assert!(load(&named).unwrap_err().to_string().contains("/nowhere/pulso.toml: cannot be read"));
    let optional = Sources { file_if_present: Some(nowhere), ..Sources::default() };
    assert_eq!(load(&optional).unwrap().config, Config::default());
}

#[test]
fn sizes_and_durations_carry_units() {
    type Size = ByteSize<0, { u64::MAX }>;
    for (text, bytes, printed) in [
        ("64 MiB", 64 << 20, "64 MiB"),
        ("64mib", 64 << 20, "64 MiB"),
        ("1 kB", 1_000, "1 kB"),
        ("1001 B", 1_001, "1001 B"),
        ("1024 B", 1_024, "1 KiB"),
        ("0 B", 0, "0 B"),
    ] {
        let size = Size::parse(text).unwrap();
        assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, printed), "{text}");
    }
    for text in ["", "64", "MiB", "1.5 GiB", "-1 B", "99999999999 TiB"] {
        assert!(Size::parse(text).is_err(), "{text}");
    }
    type Time = Span<0, 100_000_000_000>;
    for (text, millis, printed) in [
        ("30s", 30_000, "30s"),
        ("1h30m", 5_400_000, "1h 30m"),
        ("250 ms", 250, "250ms"),
        ("24h", 86_400_000, "24h"),
    ] {
        let span = Time::parse(text).unwrap();
        assert_eq!((span.duration().as_millis(), span.to_string().as_str()), (millis, printed));
        assert_eq!(Time::parse(&span.to_string()), Ok(span));
    }
    assert_eq!(
        Lanes::parse("auto").map(|lanes| (lanes.on(0, 4), lanes.on(2, 4), lanes.on(8, 4))),
        Ok((1, 2, 4))
    );
}

#[test]
fn the_defaults_are_those_of_the_stages() {
    let loaded = load(&Sources::default()).unwrap();
    assert_eq!(loaded.limits(), ingestor_api::Limits::default());
    assert_eq!(loaded.edge_limits(usize::MAX).unwrap(), edge::listen::EdgeLimits::default());
    let four = domain::generation::Generation::new(domain::LogId([0; 16]), 4, 0);
    assert_eq!(loaded.generation(), four);
}

/// `PULSO_TEST_WRITE_DOCS=1` writes the table anew.
#[test]
fn the_table_of_settings_in_the_docs_is_that_of_the_keys() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/interfaces.md");
    let docs = fs::read_to_string(&path).unwrap();
    let start = docs.find("| key | default | what it does |").unwrap();
    let end = start + docs[start..].find("\n\n").map_or(docs.len() - start, |at| at + 1);
    let table = table_of_settings();
    if std::env::var_os("PULSO_TEST_WRITE_DOCS").is_some() {
        fs::write(&path, format!("{}{table}{}", &docs[..start], &docs[end..])).unwrap();
    } else {
        let rows = docs[start..end].lines().zip(table.lines());
        rows.for_each(|(found, expected)| assert_eq!(found, expected));
        assert_eq!(docs[start..end].lines().count(), table.lines().count());
    }
}

fn table_of_settings() -> String {
    let words = |docs: &[&str]| docs.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let mut table = "| key | default | what it does |\n| --- | --- | --- |\n".to_owned();
    let mut section = "";
    for key in KEYS {
        let of = key.path.split_once('.').map_or("", |(of, _)| of);
        if of != section {
            section = of;
            let (_, docs) = super::keys::SECTIONS.iter().find(|(name, _)| *name == of).unwrap();
            table += &format!("| **`{of}`** | | {} |\n", words(docs));
        }
        let default =
            if key.default.is_empty() { " ".to_owned() } else { format!(" `{}` ", key.default) };
        table += &format!("| `{}` |{default}| {} |\n", key.path, words(key.docs));
    }
    table
}
