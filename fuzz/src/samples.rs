//! Samples: what the corpus is made of, out of the repository's own files and of values encoded here.
//!
//! `cargo test -p fuzz --test corpus -- --ignored` writes them to `corpus/`. Crashes are added there by
//! hand and stay.

mod binary;
mod text;

/// The samples of a target by file name.
#[must_use]
pub fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    let samples = match target {
        "wire_pulse" => binary::pulses(),
        "wire_batch" => binary::batches(),
        "record" => binary::records(),
        "fold" => binary::logs(),
        "fold_state" => binary::states(),
        "run_of_ids" => binary::runs(),
        "stored" => binary::stored(),
        "page_token" => binary::positions(),
        "catalogue" => return text::catalogues(),
        "contract" => return text::contracts(),
        "amendment" => return text::amendments(),
        "config_file" => text::config_files(),
        "config_environment" => text::environments(),
        "access_token" => text::claims(),
        "access_key_set" => text::key_sets(),
        "access_texts" => text::access_texts(),
        "cron" => text::expressions(),
        "rows_jsonl" => text::json_lines(),
        "rows_csv" => text::csv(),
        "rows_cloudevents" => text::cloud_events(),
        "price_list" | "rows_focus" => text::focus(),
        _ => Vec::new(),
    };
    let named = samples.into_iter().enumerate();
    named.map(|(number, bytes)| (format!("sample-{number:02}"), bytes)).collect()
}
