//! Hand-computed bills: every file of `tests/cases` is a catalogue that carries its own tests, each
//! named after its arithmetic, so that an accountant can check them without reading Rust.

use std::path::Path;

#[test]
fn every_bill_worked_by_hand_comes_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let file = match pricing::file::parse(&name, &std::fs::read(&path).unwrap()) {
            Ok(file) => file,
            Err(error) => panic!("{error}"),
        };
        for result in pricing::examples::run(&file) {
            count += 1;
            if !result.ok {
                wrong.push(format!(
                    "{name}: {}: {} expected, {} got",
                    result.name, result.expect, result.got
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 170, "only {count} cases were found");
}
