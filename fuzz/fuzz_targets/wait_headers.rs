//! See [`highwater::fuzzing::wait_headers`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| highwater::fuzzing::wait_headers(data));
