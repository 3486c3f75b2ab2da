//! Configuration: a file, and variables of the environment.

use std::{cell::RefCell, io::Write};

use pulso::config::{Config, ConfigError, ConfigErrors, KEYS, Loaded, Origin, Sources, load::load};

thread_local! {
    /// One file for all inputs, because making a file costs more than reading one.
    static FILE: RefCell<tempfile::NamedTempFile> =
        RefCell::new(tempfile::NamedTempFile::new().expect("the temporary directory takes a file"));
}

fn load_file(bytes: &[u8]) -> Result<Loaded, ConfigErrors> {
    FILE.with_borrow_mut(|file| {
        let path = file.path().to_owned();
        std::fs::File::create(&path).and_then(|mut file| file.write_all(bytes)).unwrap();
        load(&Sources { file: Some(path), ..Sources::default() })
    })
}

/// A file's mistakes have words and a line of the file; a key that is not known refuses it; what loads
/// is shown as text that means the same.
pub(super) fn file(bytes: &[u8]) {
    let loaded = load_file(bytes);
    let unknown = [&b"no_such_key_zzz = 1\n"[..], bytes].concat();
    let refused = load_file(&unknown).expect_err("a key that is not known");
    match loaded {
        Ok(loaded) => {
            shown_and_read(&loaded.config);
            let text = refused.to_string();
            assert!(text.contains("no_such_key_zzz"), "{text}");
        }
        Err(errors) => check_errors(bytes, &errors),
    }
    check_errors(&unknown, &refused);
}

fn check_errors(bytes: &[u8], errors: &ConfigErrors) {
    assert!(!errors.listed.is_empty());
    let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
    for error in &errors.listed {
        let text = error.to_string();
        assert!(!text.is_empty());
        use ConfigError::{Syntax, Together, Twice, Unknown, Unreadable, Value};
        let origin = match error {
            Unreadable { origin, .. } | Syntax { origin, .. } | Unknown { origin, .. } => origin,
            Value { origin, .. } | Together { origin, .. } => origin,
            Twice { .. } => continue,
        };
        if let Origin::File(_, line) = origin {
            assert!(*line <= lines, "{text}: of {lines} lines");
        }
    }
}

/// Each value, shown as text, is read as the same value. A secret is not shown.
fn shown_and_read(config: &Config) {
    let mut again = config.clone();
    for key in KEYS {
        let text = (key.text)(config);
        if text != "(hidden)" {
            (key.set)(&mut again, &text)
                .unwrap_or_else(|problem| panic!("{} = {text}: {problem}", key.path));
        }
    }
    assert_eq!(&again, config);
}

/// Variables, one a line: those with our prefix that are no setting are refused, others are not ours.
pub(super) fn environment(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // Fewer than are listed, so that the one below is.
    let variables = text.lines().take(50).filter_map(|line| line.split_once('='));
    // `_FILE` reads a file of the machine.
    let ours = variables.filter(|(name, _)| !name.ends_with("_FILE"));
    let environment: Vec<_> =
        ours.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut sources = Sources { environment, ..Sources::default() };
    match load(&sources) {
        Ok(loaded) => shown_and_read(&loaded.config),
        Err(errors) => assert!(errors.listed.iter().all(|error| !error.to_string().is_empty())),
    }
    sources.environment.push(("PULSO_NO_SUCH_KEY_ZZZ".to_owned(), String::new()));
    let refused = load(&sources).expect_err("a variable that is no setting").to_string();
    assert!(refused.contains("PULSO_NO_SUCH_KEY_ZZZ"), "{refused}");
}
