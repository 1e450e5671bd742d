//! See [`highwater::fuzzing::web_requests`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| highwater::fuzzing::web_requests(data));
