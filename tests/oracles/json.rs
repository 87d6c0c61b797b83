//! Fields of a file that may hold anything: what is not as expected is a reason, never a panic.

use serde_json::Value;

use crate::report::{Outcome, unsupported};

fn malformed<T>(value: Option<T>, name: &str, kind: &str) -> Outcome<T> {
    value.ok_or_else(|| unsupported(format!("format: `{name}` is missing or not {kind}")))
}

pub(crate) fn text<'a>(value: &'a Value, name: &str) -> Outcome<&'a str> {
    malformed(value[name].as_str(), name, "a text")
}

pub(crate) fn list<'a>(value: &'a Value, name: &str) -> Outcome<&'a [Value]> {
    malformed(value[name].as_array().map(Vec::as_slice), name, "a list")
}

pub(crate) fn number(value: &Value, name: &str) -> Outcome<i64> {
    malformed(optional_number(value, name), name, "a number")
}

/// A number, also one that is written as a text, as Kafka's settings are.
pub(crate) fn optional_number(value: &Value, name: &str) -> Option<i64> {
    value[name].as_i64().or_else(|| value[name].as_str()?.parse().ok())
}

/// A number of another type.
pub(crate) fn narrow<T: TryFrom<i64>>(value: &Value, name: &str) -> Outcome<T> {
    malformed(number(value, name)?.try_into().ok(), name, "in range")
}

pub(crate) fn optional_narrow<T: TryFrom<i64>>(value: &Value, name: &str, or: T) -> Outcome<T> {
    if value[name].is_null() { Ok(or) } else { narrow(value, name) }
}

/// Bytes from hex digits.
pub(crate) fn bytes(hex: &str) -> Outcome<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    malformed(digits.filter(|_| hex.len().is_multiple_of(2)), "hex", "a row of hex digits")
}

/// Hex digits from bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
