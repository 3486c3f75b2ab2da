//! The smoke run: every target over its corpus, and over mutations of it by a seed.
//!
//! `PULSO_FUZZ_SEED` gives another seed, `PULSO_FUZZ_CASES` more cases, `PULSO_FUZZ_TARGET` one target.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    env, fs,
    panic::{self, AssertUnwindSafe},
    time::Instant,
};

use fuzz::{
    TARGETS, Target, corpus,
    mutate::{Random, mutate},
};

/// Mutations of each target in every test run.
const CASES: u64 = 300;
const SEED: u64 = 1;

fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

fn targets() -> impl Iterator<Item = &'static Target> {
    let wanted = env::var("PULSO_FUZZ_TARGET").ok();
    TARGETS.iter().filter(move |target| wanted.as_ref().is_none_or(|name| name == target.name))
}

/// Runs one input, and keeps it where a law does not hold.
fn run(target: &Target, origin: &str, input: &[u8]) {
    let result = panic::catch_unwind(AssertUnwindSafe(|| target.run(input)));
    if let Err(cause) = result {
        let path = env::temp_dir().join(format!("pulso-fuzz-{}", target.name));
        fs::write(&path, input).unwrap();
        println!("{}: {origin} breaks a law; the input is in {}", target.name, path.display());
        panic::resume_unwind(cause);
    }
}

#[test]
fn every_input_of_the_corpus_keeps_the_laws() {
    let mut bytes = 0;
    for target in targets() {
        let inputs = corpus::inputs(target.name).unwrap();
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for (name, input) in inputs {
            bytes += input.len();
            run(target, &format!("corpus/{}/{name}", target.name), &input);
        }
    }
    assert!(bytes < 300 << 10, "{bytes} bytes of corpus are more than a repository should carry");
}

#[test]
fn mutations_by_a_seed_keep_the_laws() {
    let (seed, cases) = (number("PULSO_FUZZ_SEED", SEED), number("PULSO_FUZZ_CASES", CASES));
    for target in targets() {
        let start = Instant::now();
        let inputs = corpus::inputs(target.name).unwrap();
        let inputs: Vec<Vec<u8>> = inputs.into_iter().map(|(_, input)| input).collect();
        for case in 0..cases {
            // Each case has a seed of its own, so that one can be run again without those before it.
            let case_seed = seed.wrapping_add(case);
            let mut random = Random::new(case_seed);
            let mut input = random.one_of(&inputs).cloned().unwrap();
            mutate(&mut input, &mut random, target.words, &inputs);
            let again = format!(
                "PULSO_FUZZ_TARGET={} PULSO_FUZZ_SEED={case_seed} PULSO_FUZZ_CASES=1",
                target.name
            );
            run(target, &again, &input);
        }
        println!("{}: {cases} cases from seed {seed} in {:?}", target.name, start.elapsed());
    }
}
