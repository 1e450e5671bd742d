//! See [`highwater::fuzzing::config`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| highwater::fuzzing::config(data));
