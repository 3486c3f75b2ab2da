//! The configuration written out: as a commented file of defaults, and as a list of what is in
//! effect.

use std::fmt::Write;

use super::keys::{Config, KEYS, Key, SECTIONS};

/// A commented TOML file in which every key stands with its default.
#[must_use]
pub fn default_file() -> String {
    let mut file = String::from(
        "# Configuration of Pulso. Every key stands here with its default.\n\
         # A variable PULSO_SECTION__KEY overrides the file, a flag overrides both.\n",
    );
    let config = Config::default();
    let mut section = "";
    for key in KEYS {
        let (of, name) = key.path.split_once('.').unwrap_or(("", key.path));
        if of != section {
            section = of;
            write_section(&mut file, section);
        }
        write_key(&mut file, key, name, &config);
    }
    file
}

fn write_section(file: &mut String, section: &str) {
    let docs = SECTIONS.iter().find(|(name, _)| *name == section).map_or(&[][..], |(_, docs)| docs);
    file.push('\n');
    write_docs(file, docs);
    // Writing to a String cannot fail.
    let _ = writeln!(file, "[{section}]");
}

fn write_key(file: &mut String, key: &Key, name: &str, config: &Config) {
    file.push('\n');
    write_docs(file, key.docs);
    let text = (key.text)(config);
    let _ = match text.parse::<u64>() {
        Ok(number) => writeln!(file, "{name} = {number}"),
        Err(_) => writeln!(file, "{name} = {text:?}"),
    };
}

fn write_docs(file: &mut String, docs: &[&str]) {
    for line in docs {
        let _ = writeln!(file, "#{line}");
    }
}
