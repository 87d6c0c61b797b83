//! Prints a line for each record: the end of a stream.
//!
//! ```text
//!   [label] key value        both as JSON, which has no line end in it
//! ```

use serde::Serialize;

use crate::error::Result;
use crate::processor::{Context, Process, Record};

pub(crate) struct Print {
    pub(crate) label: String,
}

impl Print {
    /// A label is one line, whatever it is made of.
    pub(crate) fn new(label: &str) -> Self {
        Self { label: label.replace(char::is_control, " ") }
    }
}

impl<K: Serialize, V: Serialize> Process<K, V> for Print {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        let (key, value) = (json(record.key.as_ref()), json(record.value.as_ref()));
        ctx.printer.line(&format!("[{}] {key} {value}", self.label));
        Ok(())
    }
}

fn json<T: Serialize>(part: Option<&T>) -> String {
    serde_json::to_string(&part).unwrap_or_else(|reason| format!("<not JSON: {reason}>"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_has_no_form_in_json_says_so_in_its_place() {
        assert_eq!(json(Some(&"a\nb")), r#""a\nb""#);
        assert_eq!(json::<u64>(None), "null");
        let keyed_by_a_tuple = BTreeMap::from([((1, 2), 3)]);
        assert!(json(Some(&keyed_by_a_tuple)).starts_with("<not JSON: "));
    }

    #[test]
    fn a_label_is_one_line() {
        assert_eq!(Print::new("a\r\nb\u{1b}[2J").label, "a  b [2J");
    }
}
