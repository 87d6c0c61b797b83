//! Keys and values of traces, and the named functions on them.
//!
//! Invariants
//! * A null value that an operator of Kafka's takes as a value is [`Val::Null`]; a deletion is none.

use ::streams::KeyError;
use ::streams::prelude::*;
use serde_json::{Value, json};

/// A value of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Val {
    /// Null, where null is a value.
    #[default]
    Null,
    /// What almost all values are.
    Text(String),
    /// A count, or a value of a topic of numbers.
    Number(i64),
}

impl Val {
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::Null),
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Number(number) => number.as_i64().map(Self::Number),
            _ => None,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
        }
    }

    /// As the named functions print it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }

    /// What a count is.
    pub(super) fn count(records: u64) -> Self {
        Self::Number(i64::try_from(records).expect("cases are small"))
    }
}

/// Key types of traces.
pub(super) trait OracleKey: Key {
    fn from_json(key: &Value) -> Option<Self>;
    fn to_json(&self) -> Value;
    /// The key of a type, as the files name it, that is made of a value's text.
    fn from_text(text: &str, key_type: &str) -> Option<Self>;
}

/// A key of any type, as JSON: for cases whose keys are of several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct AnyKey(String);

impl RecordKey for AnyKey {
    fn encode(&self, out: &mut Vec<u8>) -> bool {
        self.0.encode(out)
    }

    fn decode(bytes: Option<&[u8]>) -> Result<Option<Self>, KeyError> {
        String::decode(bytes).map(|key| key.map(Self))
    }
}

impl Key for AnyKey {
    fn encode_member(&self, out: &mut Vec<u8>) {
        self.0.encode_member(out);
    }

    fn decode_member(bytes: &mut &[u8]) -> Result<Self, KeyError> {
        String::decode_member(bytes).map(Self)
    }
}

impl OracleKey for AnyKey {
    fn from_json(key: &Value) -> Option<Self> {
        Some(Self(key.to_string()))
    }

    fn to_json(&self) -> Value {
        serde_json::from_str(&self.0).expect("written as JSON")
    }

    fn from_text(text: &str, key_type: &str) -> Option<Self> {
        match key_type {
            "string" => Self::from_json(&json!(text)),
            _ => Self::from_json(&json!(text.parse::<i64>().ok()?)),
        }
    }
}

impl OracleKey for String {
    fn from_json(key: &Value) -> Option<Self> {
        key.as_str().map(str::to_owned)
    }

    fn to_json(&self) -> Value {
        json!(self)
    }

    fn from_text(text: &str, _: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl OracleKey for i32 {
    fn from_json(key: &Value) -> Option<Self> {
        key.as_i64()?.try_into().ok()
    }

    fn to_json(&self) -> Value {
        json!(self)
    }

    fn from_text(text: &str, _: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl OracleKey for i64 {
    fn from_json(key: &Value) -> Option<Self> {
        key.as_i64()
    }

    fn to_json(&self) -> Value {
        json!(self)
    }

    fn from_text(text: &str, _: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// Adds a value to an aggregate.
pub(super) type Adder = fn(&Val, &Val) -> Val;

fn with(separator: &str, aggregate: &Val, value: &Val) -> Val {
    Val::Text(format!("{}{separator}{}", aggregate.text(), value.text()))
}

/// What a join makes of two values.
pub(super) type Joiner = fn(&Val, &Val) -> Val;

/// A function of join nodes.
pub(super) fn joiner(name: &str) -> Option<Joiner> {
    Some(match name {
        "plus" => |left, right| with("+", left, right),
        "concat_dash" => |left, right| with("-", left, right),
        "percent" => |left, right| with("%", left, right),
        "paren_comma" => |left, right| Val::Text(format!("({},{})", left.text(), right.text())),
        _ => return None,
    })
}

/// A function of `aggregate` nodes.
pub(super) fn adder(name: &str) -> Option<Adder> {
    Some(match name {
        "append_plus" => |aggregate, value| with("+", aggregate, value),
        "append_minus" => |aggregate, value| with("-", aggregate, value),
        "append" => |aggregate, value| with("", aggregate, value),
        _ => return None,
    })
}

/// A function that merges the aggregates of sessions.
pub(super) fn merger(name: &str) -> Option<Adder> {
    Some(match name {
        "concat_plus" => |one, other| with("+", one, other),
        _ => return None,
    })
}

/// A function of `reduce` nodes.
pub(super) fn reducer(name: &str) -> Option<Adder> {
    Some(match name {
        "plus" => |aggregate, value| with("+", aggregate, value),
        "minus" => |aggregate, value| with("-", aggregate, value),
        "colon" => |aggregate, value| with(":", aggregate, value),
        _ => return None,
    })
}
