//! See [`highwater::fuzzing::page_body`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| highwater::fuzzing::page_body(data));
