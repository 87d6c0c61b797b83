//! The deserializer without input: it hands out the simplest value of whatever is asked.

use std::cell::RefCell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::Found;

const DEPTH_MAX: usize = 64;

/// Why a type could not be walked through.
#[derive(Debug)]
pub(super) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the type does not take what it is handed")
    }
}

impl std::error::Error for Refused {}

impl Error for Refused {
    fn custom<T: fmt::Display>(_why: T) -> Self {
        Self
    }
}

#[derive(Clone, Copy)]
pub(super) struct Tracer<'a> {
    found: &'a RefCell<Found>,
}

impl<'a> Tracer<'a> {
    pub(super) fn new(found: &'a RefCell<Found>) -> Self {
        Self { found }
    }

    fn say(self, what: impl Into<String>) {
        self.found.borrow_mut().said = what.into();
    }

    fn said(self) -> String {
        std::mem::take(&mut self.found.borrow_mut().said)
    }

    fn is_cut(self) -> bool {
        self.found.borrow().cut > 0
    }

    /// Walks into something; refuses what has no end.
    fn inside<T>(self, walk: impl FnOnce() -> Result<T, Refused>) -> Result<T, Refused> {
        {
            let mut found = self.found.borrow_mut();
            found.depth += 1;
            if found.depth > DEPTH_MAX {
                return Err(Refused);
            }
        }
        let outcome = walk();
        self.found.borrow_mut().depth -= 1;
        outcome
    }

    /// Walks through the members of something with a fixed number of them.
    fn members<'de, V: Visitor<'de>>(
        self,
        names: Option<&'static [&'static str]>,
        count: usize,
        visitor: V,
    ) -> Result<(V::Value, String), Refused> {
        let mut told = Vec::new();
        let members = Members { tracer: self, names, left: count, told: &mut told };
        let value = self.inside(|| visitor.visit_seq(members))?;
        Ok((value, told.join(", ")))
    }

    fn variant(self, name: &'static str, variants: &'static [&'static str]) -> Option<usize> {
        let mut found = self.found.borrow_mut();
        let (cut, pass) = (found.cut > 0, found.pass);
        let above = found.open.iter().filter(|open| **open == (name, variants)).count();
        let known = found.enums.entry((name, variants)).or_insert(vec![None; variants.len()]);
        let unknown = known.iter().position(Option::is_none).filter(|_| !cut);
        if let Some(unknown) = unknown {
            // Also where the walk is refused further down: it is not tried for ever.
            known[unknown] = Some(format!("{}(?)", variants[unknown]));
            found.has_new = true;
            return Some(unknown);
        }
        // Another one each time, so that what lies inside each is met, and recursion ends.
        (pass + above).checked_rem(variants.len())
    }
}

/// The members of a struct, a tuple or a list, as they are asked for.
struct Members<'a, 'b> {
    tracer: Tracer<'a>,
    names: Option<&'static [&'static str]>,
    left: usize,
    told: &'b mut Vec<String>,
}

impl<'de> SeqAccess<'de> for Members<'_, '_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let value = seed.deserialize(self.tracer)?;
        let said = self.tracer.said();
        let name = self.names.and_then(|names| names.get(self.told.len()));
        self.told.push(name.map_or_else(|| said.clone(), |name| format!("{name}:{said}")));
        Ok(Some(value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// One key and one value.
struct OneEntry<'a, 'b> {
    tracer: Tracer<'a>,
    left: usize,
    told: &'b mut Vec<String>,
}

impl<'de> MapAccess<'de> for OneEntry<'_, '_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refused> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let key = seed.deserialize(self.tracer)?;
        self.told.push(self.tracer.said());
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let value = seed.deserialize(self.tracer)?;
        self.told.push(self.tracer.said());
        Ok(value)
    }
}

/// The variant of an enum that is walked through in this pass.
struct OneVariant<'a> {
    tracer: Tracer<'a>,
    name: &'static str,
    variants: &'static [&'static str],
    chosen: usize,
}

impl OneVariant<'_> {
    fn tell(&self, what: &str) {
        let mut found = self.tracer.found.borrow_mut();
        let told = format!("{}{what}", self.variants[self.chosen]);
        let known = found.enums.get_mut(&(self.name, self.variants));
        if let Some(slot) = known.and_then(|known| known.get_mut(self.chosen))
            && slot.as_ref().is_some_and(|slot| slot.ends_with("(?)"))
        {
            *slot = Some(told);
        }
    }
}

impl<'de> EnumAccess<'de> for OneVariant<'_> {
    type Error = Refused;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Refused> {
        let index = u32::try_from(self.chosen).map_err(|_too_many| Refused)?;
        Ok((seed.deserialize(index.into_deserializer())?, self))
    }
}

impl<'de> VariantAccess<'de> for OneVariant<'_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        self.tell("");
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Refused> {
        let value = self.tracer.inside(|| seed.deserialize(self.tracer))?;
        let said = self.tracer.said();
        self.tell(&format!("({said})"));
        Ok(value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Refused> {
        let (value, told) = self.tracer.members(None, len, visitor)?;
        self.tell(&format!("({told})"));
        Ok(value)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let (value, told) = self.tracer.members(Some(fields), fields.len(), visitor)?;
        self.tell(&format!("{{{told}}}"));
        Ok(value)
    }
}

macro_rules! plain {
    ($($method:ident $visit:ident $name:literal $value:expr;)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            self.say($name);
            visitor.$visit($value)
        }
    )* };
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Refused;

    // One, not zero: some numbers must not be zero.
    plain! {
        deserialize_bool visit_bool "bool" false;
        deserialize_i8 visit_i8 "i8" 1;
        deserialize_i16 visit_i16 "i16" 1;
        deserialize_i32 visit_i32 "i32" 1;
        deserialize_i64 visit_i64 "i64" 1;
        deserialize_i128 visit_i128 "i128" 1;
        deserialize_u8 visit_u8 "u8" 1;
        deserialize_u16 visit_u16 "u16" 1;
        deserialize_u32 visit_u32 "u32" 1;
        deserialize_u64 visit_u64 "u64" 1;
        deserialize_u128 visit_u128 "u128" 1;
        deserialize_f32 visit_f32 "f32" 1.0;
        deserialize_f64 visit_f64 "f64" 1.0;
        deserialize_char visit_char "char" 'a';
        deserialize_str visit_str "String" "";
        deserialize_string visit_str "String" "";
        deserialize_bytes visit_bytes "bytes" &[];
        deserialize_byte_buf visit_bytes "bytes" &[];
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refused> {
        self.say("any");
        Err(Refused)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.say("()");
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.say(name);
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.is_cut() {
            self.say("Option<..>");
            return visitor.visit_none();
        }
        let value = self.inside(|| visitor.visit_some(self))?;
        let said = self.said();
        self.say(format!("Option<{said}>"));
        Ok(value)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let value = self.inside(|| visitor.visit_newtype_struct(self))?;
        let said = self.said();
        self.say(format!("{name}({said})"));
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let (value, told) = self.members(None, usize::from(!self.is_cut()), visitor)?;
        self.say(format!("[{told}]"));
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let (value, told) = self.members(None, len, visitor)?;
        self.say(format!("({told})"));
        Ok(value)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let (value, told) = self.members(None, len, visitor)?;
        self.say(format!("{name}({told})"));
        Ok(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let mut told = Vec::new();
        let left = usize::from(!self.is_cut());
        let entry = OneEntry { tracer: self, left, told: &mut told };
        let value = self.inside(|| visitor.visit_map(entry))?;
        self.say(format!("{{{}}}", told.join(" => ")));
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let is_inside_itself = {
            let mut found = self.found.borrow_mut();
            let is_open = found.open.contains(&(name, fields));
            found.open.push((name, fields));
            found.cut += usize::from(is_open);
            is_open
        };
        let (value, told) = self.members(Some(fields), fields.len(), visitor)?;
        let mut found = self.found.borrow_mut();
        found.open.pop();
        found.cut -= usize::from(is_inside_itself);
        found.said = if is_inside_itself { name.to_owned() } else { format!("{name}{{{told}}}") };
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let chosen = self.variant(name, variants).ok_or(Refused)?;
        let variant = OneVariant { tracer: self, name, variants, chosen };
        self.found.borrow_mut().open.push((name, variants));
        let value = self.inside(|| visitor.visit_enum(variant))?;
        let mut found = self.found.borrow_mut();
        found.open.pop();
        name.clone_into(&mut found.said);
        Ok(value)
    }

    forward_to_deserialize_any! { identifier ignored_any }

    fn is_human_readable(&self) -> bool {
        false
    }
}
