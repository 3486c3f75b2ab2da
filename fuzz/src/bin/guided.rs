//! The guided run: libFuzzer, which sees what code an input reaches, on the target that
//! `PULSO_FUZZ_TARGET` names. `make fuzz` builds and runs it.

#![no_main]

use std::sync::OnceLock;

use fuzz::{
    Target,
    mutate::{Random, mutate},
    targets,
};

fn target() -> &'static Target {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("PULSO_FUZZ_TARGET").unwrap_or_default();
        let names = || fuzz::TARGETS.iter().map(|target| target.name).collect::<Vec<_>>();
        targets::find(&name)
            .unwrap_or_else(|| panic!("PULSO_FUZZ_TARGET={name} is not one of {:?}", names()))
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target().run(bytes));

// Of each two mutations one is libFuzzer's own, which knows what comparisons an input failed.
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(u64::from(seed));
    if random.below(2) == 0 {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let mut input = data[..size].to_vec();
    mutate(&mut input, &mut random, target().words, &[]);
    input.truncate(max_size);
    data[..input.len()].copy_from_slice(&input);
    input.len()
});
