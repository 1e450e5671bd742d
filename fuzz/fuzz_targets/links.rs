//! See [`highwater::fuzzing::links`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| highwater::fuzzing::links(data));
