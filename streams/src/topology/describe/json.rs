//! A topology as JSON, for a program. Pure.
//!
//! ```text
//!   {id, subtopologies: [{number, steps: [{id, title, details, inputs, reads, writes, dead_letters,
//!                                          stores: [{name, changelog}]}]}],
//!    topics: [{name, role: source | output | repartition | dead-letters}]}
//! ```

use super::Description;

pub(super) fn write(of: &Description) -> String {
    let json = serde_json::to_string_pretty(of).expect("strings and numbers have a form in JSON");
    format!("{json}\n")
}
