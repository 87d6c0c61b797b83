//! Bincode's standard layout, read straight from a slice.
//!
//! Why not with the crate that writes it: every record of a repartition topic and every row of a store is
//! decoded, and that crate counts each byte against a limit, zeroes each string before it is filled and
//! calls a function for each integer; here a small number is one comparison, a string is borrowed until
//! its owner copies it, and the limit is the length of the slice.
//!
//! ```text
//!   u16 .. u128, lengths, variants   0 .. 250 in one byte; 251, 252, 253, 254: 2, 4, 8, 16 bytes follow
//!   i16 .. i128                      zigzag, then as above
//!   u8, i8, bool, Option's tag       one byte            f32, f64   little-endian
//!   char                             its UTF-8           str        length, UTF-8
//!   seq, map                         length, items       struct, tuple   items
//!   enum                             variant (u32), then its content
//! ```
//!
//! Invariants
//! * a length that the bytes claim never sizes an allocation beyond what is there, and never counts more
//!   than `BINCODE_BYTES_MAX` items, even of items without bytes.
//! * what the crate refuses is refused: an integer that is longer than its type, a tag that is no tag.
//!
//! Reference: the specification of bincode 2, `config::standard()`.

use std::fmt::Display;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

use super::{BINCODE_BYTES_MAX, CodecError};

const TWO_BYTES: u8 = 251;
const FOUR_BYTES: u8 = 252;
const EIGHT_BYTES: u8 = 253;
const SIXTEEN_BYTES: u8 = 254;

/// One value of exactly these bytes.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut decoder = Decoder { rest: bytes };
    let value = T::deserialize(&mut decoder).map_err(|fault| fault.0)?;
    if decoder.rest.is_empty() {
        return Ok(value);
    }
    let left = decoder.rest.len();
    let end = bytes.len() - left;
    Err(CodecError::new(format!("{left} bytes follow the value, which ends at byte {end}")))
}

/// Why bytes did not decode, as serde wants to hear it.
#[derive(Debug)]
struct Fault(CodecError);

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: Display>(reason: T) -> Self {
        Self(CodecError::new(reason.to_string()))
    }
}

#[cold]
fn fault(reason: impl Display) -> Fault {
    serde::de::Error::custom(reason)
}

#[cold]
fn short(additional: usize) -> Fault {
    fault(format_args!("the bytes end {additional} short of a whole value"))
}

struct Decoder<'de> {
    rest: &'de [u8],
}

impl<'de> Decoder<'de> {
    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(short(N - self.rest.len()));
        };
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Fault> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    #[inline]
    fn slice(&mut self, length: usize) -> Result<&'de [u8], Fault> {
        let Some((head, rest)) = self.rest.split_at_checked(length) else {
            return Err(short(length - self.rest.len()));
        };
        self.rest = rest;
        Ok(head)
    }

    /// An integer whose first byte may be at most `longest`.
    #[inline]
    fn integer(&mut self, longest: u8) -> Result<u64, Fault> {
        let first = self.byte()?;
        if first < TWO_BYTES { Ok(u64::from(first)) } else { self.long_integer(first, longest) }
    }

    fn long_integer(&mut self, first: u8, longest: u8) -> Result<u64, Fault> {
        match first {
            TWO_BYTES => Ok(u64::from(u16::from_le_bytes(self.array()?))),
            FOUR_BYTES if longest >= FOUR_BYTES => Ok(u64::from(u32::from_le_bytes(self.array()?))),
            EIGHT_BYTES if longest >= EIGHT_BYTES => Ok(u64::from_le_bytes(self.array()?)),
            _ => Err(fault(format_args!("{first} begins no integer of this size"))),
        }
    }

    fn u16(&mut self) -> Result<u16, Fault> {
        u16::try_from(self.integer(TWO_BYTES)?).map_err(fault)
    }

    #[inline]
    fn u32(&mut self) -> Result<u32, Fault> {
        u32::try_from(self.integer(FOUR_BYTES)?).map_err(fault)
    }

    #[inline]
    fn u64(&mut self) -> Result<u64, Fault> {
        self.integer(EIGHT_BYTES)
    }

    fn u128(&mut self) -> Result<u128, Fault> {
        if self.rest.first() == Some(&SIXTEEN_BYTES) {
            self.byte()?;
            return Ok(u128::from_le_bytes(self.array()?));
        }
        self.u64().map(u128::from)
    }

    #[inline]
    fn i64(&mut self) -> Result<i64, Fault> {
        let zigzag = self.u64()?;
        let half = (zigzag >> 1).cast_signed();
        Ok(if zigzag & 1 == 0 { half } else { !half })
    }

    fn i128(&mut self) -> Result<i128, Fault> {
        let zigzag = self.u128()?;
        let half = (zigzag >> 1).cast_signed();
        Ok(if zigzag & 1 == 0 { half } else { !half })
    }

    #[inline]
    fn length(&mut self) -> Result<usize, Fault> {
        let claimed = self.u64()?;
        let length = usize::try_from(claimed).unwrap_or(usize::MAX);
        if length <= BINCODE_BYTES_MAX {
            return Ok(length);
        }
        Err(fault(format_args!("the bytes claim a value above the limit of {BINCODE_BYTES_MAX}")))
    }

    #[inline]
    fn text(&mut self) -> Result<&'de str, Fault> {
        let length = self.length()?;
        std::str::from_utf8(self.slice(length)?).map_err(fault)
    }

    fn character(&mut self) -> Result<char, Fault> {
        let first = *self.rest.first().ok_or_else(|| short(1))?;
        let length = match first {
            0..0x80 => 1,
            0x80..0xe0 => 2,
            0xe0..0xf0 => 3,
            _ => 4,
        };
        let text = std::str::from_utf8(self.slice(length)?).map_err(fault)?;
        text.chars().next().ok_or_else(|| fault("a character without bytes"))
    }

    /// Zero or one.
    #[inline]
    fn flag(&mut self, what: &str) -> Result<bool, Fault> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(fault(format_args!("{other} is no {what}"))),
        }
    }
}

/// A number by way of a wider one; beyond its type is refused.
macro_rules! numbers {
    ($($method:ident: $visit:ident by $read:ident as $kind:ty),* $(,)?) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit(<$kind>::try_from(self.$read()?).map_err(fault)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = Fault;

    numbers! {
        deserialize_u8: visit_u8 by byte as u8,
        deserialize_u16: visit_u16 by u16 as u16,
        deserialize_u32: visit_u32 by u32 as u32,
        deserialize_u64: visit_u64 by u64 as u64,
        deserialize_u128: visit_u128 by u128 as u128,
        deserialize_i64: visit_i64 by i64 as i64,
        deserialize_i128: visit_i128 by i128 as i128,
        deserialize_char: visit_char by character as char,
        deserialize_str: visit_borrowed_str by text as &'de str,
        deserialize_string: visit_borrowed_str by text as &'de str,
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i8(self.byte()?.cast_signed())
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let zigzag = self.u16()?;
        let half = (zigzag >> 1).cast_signed();
        visitor.visit_i16(if zigzag & 1 == 0 { half } else { !half })
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let zigzag = self.u32()?;
        let half = (zigzag >> 1).cast_signed();
        visitor.visit_i32(if zigzag & 1 == 0 { half } else { !half })
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_f32(f32::from_le_bytes(self.array()?))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_f64(f64::from_le_bytes(self.array()?))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bool(self.flag("truth value")?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let length = self.length()?;
        visitor.visit_borrowed_bytes(self.slice(length)?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.flag("tag of an optional value")? {
            visitor.visit_some(self)
        } else {
            visitor.visit_none()
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let left = self.length()?;
        visitor.visit_seq(Items { decoder: self, left })
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_seq(Items { decoder: self, left })
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_seq(Items { decoder: self, left })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let left = self.length()?;
        visitor.visit_map(Items { decoder: self, left })
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_seq(Items { decoder: self, left: fields.len() })
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(fault(
            "bincode does not say what its bytes are: a type that asks them has no place in it",
        ))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// What is left of a sequence, a map or a struct.
struct Items<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl Items<'_, '_> {
    #[inline]
    fn take_one(&mut self) -> bool {
        let is_there = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_there
    }

    /// As many items as there can be: each has a byte, or needs no room.
    fn at_most(&self) -> usize {
        self.left.min(self.decoder.rest.len())
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        if self.take_one() { seed.deserialize(&mut *self.decoder).map(Some) } else { Ok(None) }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.at_most())
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        if self.take_one() { seed.deserialize(&mut *self.decoder).map(Some) } else { Ok(None) }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.at_most())
    }
}

impl<'de> EnumAccess<'de> for &mut Decoder<'de> {
    type Error = Fault;
    type Variant = Self;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let variant = seed.deserialize(self.u32()?.into_deserializer())?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Decoder<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(Items { decoder: self, left })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_seq(Items { decoder: self, left: fields.len() })
    }
}

#[cfg(test)]
mod tests;
