//! The rules of the house that no compiler checks: which crate may name which, that metrics and
//! crash points are those of their tables, and the form of source files.

mod maps;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use runtime::{fault::POINTS, telemetry::METRICS};
use toml::de::{DeTable, DeValue};

/// Lines of a source file, beyond which it is more than one thing.
const LINES_MAX: usize = 500;
/// The same for a file of tests.
const TEST_LINES_MAX: usize = 600;

/// What each crate may name of the others: in its code, and beside that in its tests.
const ARROWS: &[(&str, &[&str], &[&str])] = &[
    ("domain", &[], &[]),
    ("proto", &["domain"], &[]),
    ("runtime", &["domain"], &[]),
    ("edge", &["domain", "runtime"], &["storage"]),
    ("storage", &["domain", "proto", "runtime"], &["storage"]),
    ("ingestor-api", &["domain", "proto", "runtime", "edge"], &["storage"]),
    ("ingestor-consumer", &["domain", "proto", "runtime", "edge"], &["storage"]),
    ("pricing", &["domain"], &[]),
    ("billing", &["domain", "proto", "runtime", "edge", "pricing"], &["storage"]),
    ("query-api", &["domain", "proto", "runtime", "edge"], &["storage"]),
    (
        "pulso",
        &[
            "domain",
            "proto",
            "runtime",
            "edge",
            "storage",
            "ingestor-api",
            "ingestor-consumer",
            "pricing",
            "billing",
            "query-api",
        ],
        &[],
    ),
    // Beside the program, not under it: its targets read what every stage reads, and the long runs need a
    // program of their own. Nothing names it.
    (
        "fuzz",
        &[
            "domain",
            "proto",
            "runtime",
            "edge",
            "ingestor-consumer",
            "pricing",
            "query-api",
            "pulso",
        ],
        &[],
    ),
    (
        "simulation",
        &[],
        &["domain", "proto", "runtime", "edge", "storage", "ingestor-api", "ingestor-consumer"],
    ),
    ("example-client", &["proto"], &[]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A table of a manifest, by the path of its name.
fn table<'t, 'a>(mut table: &'t DeTable<'a>, path: &[&str]) -> Option<&'t DeTable<'a>> {
    for name in path {
        let (_, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
        let DeValue::Table(inner) = value.get_ref() else { return None };
        table = inner;
    }
    Some(table)
}

fn text<'t>(table: &'t DeTable<'_>, name: &str) -> Option<&'t str> {
    match table.iter().find(|(key, _)| key.get_ref() == name)?.1.get_ref() {
        DeValue::String(text) => Some(text),
        _ => None,
    }
}

/// Directories of the workspace's members.
fn members() -> Vec<PathBuf> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest = DeTable::parse(&manifest).unwrap();
    let workspace = table(manifest.get_ref(), &["workspace"]).unwrap();
    let (_, members) = workspace.iter().find(|(key, _)| key.get_ref() == "members").unwrap();
    let DeValue::Array(members) = members.get_ref() else { panic!("members is a list") };
    let members = members.iter().map(|member| match member.get_ref() {
        DeValue::String(member) => root().join(member.as_ref()),
        other => panic!("{other:?} is no member"),
    });
    members.collect()
}

#[test]
fn no_crate_names_one_that_it_may_not() {
    let crates: BTreeSet<&str> = ARROWS.iter().map(|(name, ..)| *name).collect();
    let mut seen = BTreeSet::new();
    let mut forbidden = Vec::new();
    for member in members() {
        let manifest = fs::read_to_string(member.join("Cargo.toml")).unwrap();
        let manifest = DeTable::parse(&manifest).unwrap();
        let manifest = manifest.get_ref();
        let name = text(table(manifest, &["package"]).unwrap(), "name").unwrap().to_owned();
        let allowed = ARROWS.iter().find(|(known, ..)| *known == name);
        let (_, code, tests) = allowed.unwrap_or_else(|| panic!("{name} has no entry in ARROWS"));
        for (section, also) in
            [("dependencies", &[][..]), ("build-dependencies", &[]), ("dev-dependencies", tests)]
        {
            let Some(named) = table(manifest, &[section]) else { continue };
            let named = named.iter().map(|(key, _)| key.get_ref().as_ref());
            let named = named.filter(|other| crates.contains(other));
            let wrong = named.filter(|other| !code.contains(other) && !also.contains(other));
            forbidden.extend(wrong.map(|other| format!("{name} -> {other} in [{section}]")));
        }
        assert!(table(manifest, &["target"]).is_none(), "{name}: look at [target] tables here too");
        seen.insert(name);
    }
    assert!(forbidden.is_empty(), "forbidden arrows: {forbidden:#?}");
    assert!(seen.iter().map(String::as_str).eq(crates), "ARROWS names crates that are gone");
}

/// Every Rust file of the members, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut waiting = members();
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 100, "the sources were not found");
    found.sort();
    found
}

/// Whether a file holds nothing but tests.
fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

/// The part of a file that ships.
fn shipped(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod tests {").map_or(text, |(code, _)| code)
}

/// String literals that begin with `prefix`, and who writes them.
fn literals(prefix: &str, but_in: &str) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for (path, text) in sources() {
        if is_test(&path) || path == Path::new(but_in) {
            continue;
        }
        let mut rest = shipped(&text);
        while let Some((_, after)) = rest.split_once(&format!("\"{prefix}")) {
            let (literal, after) = after.split_once('"').unwrap();
            found.insert(format!("{prefix}{literal}"), path.clone());
            rest = after;
        }
    }
    found
}

#[test]
fn every_metric_is_in_the_table_and_every_entry_of_the_table_is_measured() {
    let table: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let mut used = literals("pulso_", "runtime/src/telemetry/recorder.rs");
    // API keys begin with it too; a metric's name has more, of letters alone.
    let is_metric = |name: &str| {
        name != "pulso_" && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    used.retain(|name, _| is_metric(name));
    for (name, path) in &used {
        assert!(table.contains(name.as_str()), "{name} in {} is not in METRICS", path.display());
    }
    for name in table {
        assert!(used.contains_key(name), "{name} is in METRICS and nobody measures it");
    }
}

#[test]
fn every_crash_point_is_in_the_list_and_every_entry_of_the_list_is_passed() {
    let mut passed = BTreeSet::new();
    for (path, text) in sources() {
        // The points of its own tests are not passed by the program.
        if is_test(&path) || path == Path::new("runtime/src/fault.rs") {
            continue;
        }
        for (place, _) in text.match_indices("fault::point(\"") {
            let name = text[place..].split('"').nth(1).unwrap().to_owned();
            assert!(POINTS.contains(&name.as_str()), "{name} in {} is not listed", path.display());
            passed.insert(name);
        }
    }
    for point in POINTS {
        assert!(passed.contains(*point), "{point} is listed and nothing passes it");
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_short_enough_to_be_one_thing() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let (lines, lines_max) = match is_test(&path) {
            true => (text.lines().count(), TEST_LINES_MAX),
            false => (shipped(&text).lines().count(), LINES_MAX),
        };
        if lines > lines_max {
            wrong.push(format!("{}: {lines} lines, at most {lines_max}", path.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}: does not begin with a //! header", path.display()));
        }
        if path.ends_with("mod.rs") && !is_test(&path) {
            wrong.push(format!("{}: `foo.rs` beside `foo/` instead of mod.rs", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_of_tests_is_a_part_of_the_one_program() {
    let listed = fs::read_to_string(root().join("pulso/tests/main.rs")).unwrap();
    for entry in fs::read_dir(root().join("pulso/tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            name == "main" || listed.contains(&format!("\nmod {name};\n")),
            "{name} is not in main.rs, so its tests do not run"
        );
    }
}

#[test]
fn the_image_gets_every_member_of_the_workspace() {
    let allowed = fs::read_to_string(root().join(".dockerignore")).unwrap();
    for member in members() {
        let member = member.strip_prefix(root()).unwrap().to_str().unwrap();
        let is_allowed = |line: &str| {
            let line = line.strip_prefix('!');
            line.is_some_and(|path| path == member || path.starts_with(&format!("{member}/")))
        };
        assert!(allowed.lines().any(is_allowed), ".dockerignore keeps {member} from the image");
    }
}

#[test]
fn the_compiler_that_rustup_installs_is_the_one_that_the_manifest_asks_for() {
    let [toolchain, manifest] = ["rust-toolchain.toml", "Cargo.toml"]
        .map(|name| fs::read_to_string(root().join(name)).unwrap());
    let [toolchain, manifest] = [&toolchain, &manifest].map(|text| DeTable::parse(text).unwrap());
    let package = table(manifest.get_ref(), &["workspace", "package"]).unwrap();
    let version = text(package, "rust-version").unwrap();
    let channel = text(table(toolchain.get_ref(), &["toolchain"]).unwrap(), "channel").unwrap();
    assert!(channel.starts_with(version), "{channel} is no {version}");
}

#[test]
fn every_link_between_documents_leads_to_a_file() {
    let listed = |directory: PathBuf| fs::read_dir(directory).unwrap().map(|it| it.unwrap().path());
    let directories = ["", "docs", "reports"].map(|name| root().join(name));
    let mut links = 0;
    for document in directories.into_iter().flat_map(listed) {
        if document.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&document).unwrap();
        for after in text.split("](").skip(1) {
            let target = after.split([')', '#']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = document.parent().unwrap().join(target);
            assert!(path.exists(), "{} names {target}, which is gone", document.display());
            links += 1;
        }
    }
    assert!(links > 50, "the links were not found: {links}");
}

#[test]
fn prose_says_catalogue_and_only_code_says_catalog() {
    let listed = |directory: PathBuf| fs::read_dir(directory).unwrap().map(|it| it.unwrap().path());
    let documents = ["", "docs"].into_iter().flat_map(|name| listed(root().join(name)));
    let documents = documents.filter(|path| path.extension().is_some_and(|it| it == "md"));
    let documents = documents.map(|path| (fs::read_to_string(&path).unwrap(), path));
    let comments = sources().into_iter().map(|(path, text)| {
        let is_comment = |line: &&str| line.starts_with("//");
        let lines = text.lines().map(str::trim_start).filter(is_comment);
        (lines.collect::<Vec<_>>().join("\n"), path)
    });
    for (text, path) in documents.chain(comments) {
        // Every second part is between backticks; a fence of three is one, too.
        for prose in text.split('`').step_by(2) {
            let prose = prose.to_lowercase().replace("catalogue", "");
            assert!(!prose.contains("catalog"), "{}: {prose}", path.display());
        }
    }
}

#[test]
fn no_doc_comment_only_repeats_its_item() {
    let says_nothing = |line: &str| {
        let words = line.trim().strip_prefix("/// ").and_then(|line| line.strip_suffix('.'));
        words.is_some_and(|words| match words.split(' ').collect::<Vec<_>>()[..] {
            [word] => ["It", "They", "Why"].contains(&word),
            ["The", word] => word.chars().all(|character| character.is_ascii_lowercase()),
            _ => false,
        })
    };
    let mut empty = Vec::new();
    // Pricing's are still to be mended.
    for (path, text) in sources().iter().filter(|(path, _)| !path.starts_with("pricing")) {
        let lines = text.lines().enumerate().filter(|(_, line)| says_nothing(line));
        empty.extend(lines.map(|(at, line)| format!("{}:{}: {line}", path.display(), at + 1)));
    }
    assert!(empty.is_empty(), "say what the name does not: {empty:#?}");
}
