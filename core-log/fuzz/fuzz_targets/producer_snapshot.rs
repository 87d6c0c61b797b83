//! Fuzzes `core_log::conformance::fuzz::producer_snapshot`, whose documentation says what it reads.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| core_log::conformance::fuzz::producer_snapshot(bytes));
