//! `fk_join`: a table that looks another up by a key that its value names.

use std::rc::Rc;

use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::Graph;
use super::super::values::{Joiner, OracleKey, Val};
use super::{Matches, joiner_of, matches_of};
use crate::json;
use crate::report::{Outcome, unsupported};

pub(super) const OPS: &[&str] = &["fk_join"];

pub(super) fn missing(_: &Graph, _: &Value) -> Option<String> {
    None
}

/// A join by foreign key.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct ForeignJoin {
    pub(in super::super) matches: Matches,
    pub(in super::super) join: Joiner,
}

impl ForeignJoin {
    pub(in super::super) fn of(node: &Value) -> Outcome<Self> {
        let extractor = json::text(node, "extractor")?;
        if !extractor.starts_with("text_after_pipe") {
            return Err(unsupported(format!("extractor {extractor}")));
        }
        Ok(Self { matches: matches_of(node)?, join: joiner_of(node)? })
    }
}

/// The text behind the last `|`; none, or `null`, is no key.
pub(in super::super) fn foreign_key(value: &Val) -> Option<String> {
    let text = value.text();
    let (_, key) = text.rsplit_once('|')?;
    (key != "null").then(|| key.to_owned())
}

pub(super) fn build<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let ForeignJoin { matches, join } = ForeignJoin::of(node)?;
    let (left, right, store) = (b.table(node, "left")?, b.table(node, "right")?, b.store());
    let right_key = b.graph.key_type_before(node, "right")?;
    let key = move |value: &Val| foreign_key(value).and_then(|key| K::from_text(&key, &right_key));
    Ok(Built::Table(Rc::new(match matches {
        Matches::Inner => left.join_on(&right, key, &store, move |l, r| join(&l, &r)),
        _ => left.left_join_on(&right, key, &store, move |l, r| join(&l, &r.unwrap_or_default())),
    })))
}
