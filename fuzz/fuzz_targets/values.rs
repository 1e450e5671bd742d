//! See [`highwater::fuzzing::values`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| highwater::fuzzing::values(data));
