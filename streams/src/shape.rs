//! What a type looks like to serde: the names and types of its fields, as text that can be compared.
//!
//! Why: rows are written in bincode, which says nothing of their type. A build whose type differs would
//! decode garbage, or worse, something that looks right; the text kept beside the rows tells.
//!
//! ```text
//!   User{name:String, age:Option<u32>}
//!   Order{state:State}; State=Open|Paid(u64)|Sent{at:i64}       enums are told once, behind it
//! ```
//!
//! How: a deserializer that has no input. It hands out a value for whatever is asked, notes what was
//! asked, and is run again and again until every variant of every enum has been walked through.
//!
//! Invariants
//! * the same type gives the same text, in every build.
//! * it ends for every type: recursion is cut where a type is met inside itself, depth and passes are
//!   limited. A type that refuses what it is handed (a parsed text, for example) is told by its name.

mod tracer;

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use tracer::Tracer;

/// How often a type is walked through at most.
const PASSES_MAX: usize = 512;
/// Passes that found nothing new before all is found.
const PASSES_QUIET: usize = 16;

/// An enum: its name, and its variants as far as they are known.
type Enums = BTreeMap<(&'static str, &'static [&'static str]), Vec<Option<String>>>;

/// What the passes have found so far.
#[derive(Default)]
struct Found {
    /// What was described last.
    said: String,
    enums: Enums,
    /// Structs and enums that are being described, from the outside in.
    open: Vec<(&'static str, &'static [&'static str])>,
    depth: usize,
    /// Inside a type that contains itself: as little as possible is built.
    cut: usize,
    pass: usize,
    has_new: bool,
}

/// The shape of a type.
pub(crate) fn shape_of<T: DeserializeOwned>() -> String {
    let found = RefCell::new(Found::default());
    let (mut shape, mut quiet) = (None, 0);
    for pass in 0..PASSES_MAX {
        {
            let mut found = found.borrow_mut();
            (found.pass, found.has_new, found.depth, found.cut) = (pass, false, 0, 0);
            found.open.clear();
        }
        if T::deserialize(Tracer::new(&found)).is_ok() {
            shape = Some(found.borrow().said.clone());
        }
        quiet = if found.borrow().has_new { 0 } else { quiet + 1 };
        if quiet > PASSES_QUIET {
            break;
        }
    }
    let mut text = shape.unwrap_or_else(|| short_name(std::any::type_name::<T>()));
    for ((name, variants), known) in &found.borrow().enums {
        let told = variants.iter().zip(known);
        let told: Vec<&str> = told.map(|(name, told)| told.as_deref().unwrap_or(name)).collect();
        text.push_str(&format!("; {name}={}", told.join("|")));
    }
    text
}

/// A type's name without the paths of its modules: they may change without the type.
fn short_name(name: &str) -> String {
    let mut short = String::new();
    let mut word = String::new();
    for c in name.chars() {
        match c {
            ':' => word.clear(),
            c if c.is_alphanumeric() || c == '_' => word.push(c),
            c => {
                short.push_str(&std::mem::take(&mut word));
                short.push(c);
            }
        }
    }
    short + &word
}

#[cfg(test)]
mod tests;
