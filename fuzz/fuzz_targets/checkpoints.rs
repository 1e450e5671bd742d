//! See [`highwater::fuzzing::checkpoints`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| highwater::fuzzing::checkpoints(data));
