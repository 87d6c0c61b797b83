//! Hex digits, as the golden tests of this crate spell bytes.

/// Hex digits from bytes.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
