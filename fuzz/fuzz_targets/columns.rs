//! See [`highwater::fuzzing::columns`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| highwater::fuzzing::columns(data));
