//! Fuzzes `core_log::conformance::fuzz::topics`, whose documentation says what it reads.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| core_log::conformance::fuzz::topics(bytes));
