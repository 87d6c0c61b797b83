//! Zigzag numbers of variable length, as in protocol buffers.
//!
//! Why: lengths and differences inside a record are small, and most of them fit one byte.
//!
//! ```text
//!   zigzag: 0 -1 1 -2 2 ..  ->  0 1 2 3 4 ..      (n << 1) ^ (n >> 31 or 63)
//!   byte:   c bbbbbbb       c = 1: more bytes follow; the lowest seven bits come first
//! ```
//!
//! Invariants
//! * At most 5 bytes for 32 bits and 10 for 64; a longer or larger number is an error.
//!
//! Reference: Kafka `ByteUtils`.

use super::DecodeError;

/// The bytes that `value` takes as a varint.
#[must_use]
pub fn varint_len(value: i32) -> usize {
    unsigned_len(u64::from(zigzag32(value)))
}

/// The bytes that `value` takes as a varlong.
#[must_use]
pub fn varlong_len(value: i64) -> usize {
    unsigned_len(zigzag64(value))
}

/// Appends `value` as a varint.
pub fn write_varint(out: &mut Vec<u8>, value: i32) {
    write_unsigned(out, u64::from(zigzag32(value)));
}

/// Appends `value` as a varlong.
pub fn write_varlong(out: &mut Vec<u8>, value: i64) {
    write_unsigned(out, zigzag64(value));
}

/// Takes a varint from the front of `input`.
///
/// # Errors
///
/// [`DecodeError::InvalidVarint`]: it does not end, or does not fit 32 bits.
#[inline]
pub fn read_varint(input: &mut &[u8]) -> Result<i32, DecodeError> {
    let raw = u32::try_from(read_unsigned(input)?).map_err(|_large| DecodeError::InvalidVarint)?;
    Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// Takes a varlong from the front of `input`.
///
/// # Errors
///
/// [`DecodeError::InvalidVarint`]: it does not end, or does not fit 64 bits.
#[inline]
pub fn read_varlong(input: &mut &[u8]) -> Result<i64, DecodeError> {
    let raw = read_unsigned(input)?;
    Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

const fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)).cast_unsigned()
}

const fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unsigned_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[inline]
fn write_unsigned(out: &mut Vec<u8>, mut value: u64) {
    if value < 0x80 {
        out.push((value & 0x7f) as u8);
        return;
    }
    if value < 0x4000 {
        out.extend_from_slice(&[(value & 0x7f) as u8 | 0x80, ((value >> 7) & 0x7f) as u8]);
        return;
    }
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Nearly all numbers of a record take one or two bytes.
#[inline]
fn read_unsigned(input: &mut &[u8]) -> Result<u64, DecodeError> {
    match **input {
        [a, ref rest @ ..] if a < 0x80 => {
            *input = rest;
            Ok(u64::from(a))
        }
        [a, b, ref rest @ ..] if b < 0x80 => {
            *input = rest;
            Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
        }
        _ => read_long(input),
    }
}

fn read_long(input: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0;
    let mut shift = 0;
    for (index, &byte) in input.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte < 0x80 {
            *input = &input[index + 1..];
            return Ok(value);
        }
        shift += 7;
        if shift > 63 {
            break;
        }
    }
    Err(DecodeError::InvalidVarint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_that_do_not_end_or_do_not_fit_are_refused() {
        let endless = [0xff; 11];
        for bytes in [&[][..], &[0x80], &[0xff; 5], &[0xff, 0xff, 0xff, 0xff, 0x1f], &endless] {
            assert_eq!(read_varint(&mut &*bytes), Err(DecodeError::InvalidVarint), "{bytes:x?}");
        }
        for bytes in [&[][..], &[0x80], &endless, &[0xff; 10]] {
            assert_eq!(read_varlong(&mut &*bytes), Err(DecodeError::InvalidVarint), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn every_number_comes_back(small: i32, large: i64) {
            let mut out = Vec::new();
            write_varint(&mut out, small);
            write_varlong(&mut out, large);
            prop_assert_eq!(out.len(), varint_len(small) + varlong_len(large));
            let mut input = out.as_slice();
            prop_assert_eq!(read_varint(&mut input), Ok(small));
            prop_assert_eq!(read_varlong(&mut input), Ok(large));
            prop_assert!(input.is_empty());
        }
    }
}
