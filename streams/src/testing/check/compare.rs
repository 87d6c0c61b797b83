//! What a run leaves, and where two of them differ.
//!
//! Invariants
//! * compared are bytes; they are shown with the types of their topics.

use std::collections::BTreeMap;

use crate::broker::StoredRecord;
use crate::dsl::{Assembly, TopicTypes};
use crate::error::Result;
use crate::store::layout::{KIND_SLICE, KIND_TIME_INDEX};
use crate::testing::TestDriver;
use crate::testing::engine::shown::Image;
use crate::topology::{Told, changelog_topic};

type Key = Option<Vec<u8>>;

/// What is said of one key: value, timestamp, headers.
type Said = (Option<Vec<u8>>, i64, Vec<(String, Option<Vec<u8>>)>);

/// All that is compared of a run.
pub(super) struct Outcome {
    assembly: Assembly,
    told: BTreeMap<String, Told>,
    outputs: BTreeMap<String, BTreeMap<Key, Vec<Said>>>,
    /// Late, skipped, dead letters.
    counts: [(&'static str, u64); 3],
    pub(super) crashes: u64,
    /// Records that its tasks have processed.
    pub(super) processed: u64,
    /// The first row that is in a store and not as its changelog says, if there is one.
    apart: Option<String>,
}

impl Outcome {
    pub(super) fn of(mut driver: TestDriver) -> Result<Self> {
        let assembly = driver.engine.assembly()?;
        let told = assembly.graph.told();
        let mut outputs = BTreeMap::new();
        for (topic, told) in &told {
            let records = driver.engine.log.read(topic, &mut Vec::new())?;
            outputs.insert(topic.clone(), by_key(records, *told));
        }
        let counters = &driver.engine.counters;
        let counts = [
            ("late records", counters.late),
            ("skipped records", counters.skipped),
            ("dead letters", counters.dead_letters),
        ];
        let (crashes, processed) = (driver.engine.crashes, driver.engine.processed);
        let mut apart = None;
        for (store, held, folded) in driver.engine.stores_and_changelogs()? {
            let types = assembly.types.get(&changelog_topic(&assembly.graph.id, &store));
            apart = apart.or_else(|| rows_apart(store.as_str(), types, &held, &folded));
        }
        Ok(Self { assembly, told, outputs, counts, crashes, processed, apart })
    }

    /// Topics of which nothing is compared.
    pub(super) fn unsure(self) -> Vec<String> {
        let unsure = self.told.into_iter().filter(|(_, told)| *told == Told::Unsure);
        unsure.map(|(topic, _)| topic).collect()
    }
}

/// What two runs of one input have in common.
fn by_key(records: Vec<StoredRecord>, told: Told) -> BTreeMap<Key, Vec<Said>> {
    let mut keys: BTreeMap<Key, Vec<Said>> = BTreeMap::new();
    for record in records {
        let headers = record.headers.iter();
        let headers = headers.map(|h| (h.key.clone(), h.value.as_deref().map(<[u8]>::to_vec)));
        let said = (record.value, record.timestamp, headers.collect());
        keys.entry(record.key).or_default().push(said);
    }
    match told {
        Told::InOrder => {
            // Records without a key lie in any partition.
            keys.get_mut(&None).into_iter().for_each(|said| said.sort());
        }
        Told::InAnyOrder => keys.values_mut().for_each(|said| said.sort()),
        Told::Last => {
            for said in keys.values_mut() {
                let last = said.pop().and_then(|(value, _, _)| value);
                *said = last.map(|value| (Some(value), 0, Vec::new())).into_iter().collect();
            }
            // A deleted key equals an absent one.
            keys.retain(|_, said| !said.is_empty());
        }
        Told::Unsure => keys.clear(),
    }
    keys
}

/// The first difference between a run without crashes and another.
pub(super) fn difference(expected: &Outcome, found: &Outcome) -> Option<String> {
    for (topic, wanted) in &expected.outputs {
        let types = expected.assembly.types.get(topic);
        let got = &found.outputs[topic];
        for key in wanted.keys().chain(got.keys()) {
            let said = |keys: &BTreeMap<Key, Vec<Said>>| keys.get(key).cloned().unwrap_or_default();
            let (wanted, got) = (said(wanted), said(got));
            if let Some(at) = first_apart(&wanted, &got) {
                let shown = |said: &[Said]| match said.get(at) {
                    Some(said) => show(types, said),
                    None => "nothing".to_owned(),
                };
                return Some(format!(
                    "topic `{topic}`, key {}, record {at}: without crashes {}, here {} ({} records \
                     then, {} here)",
                    show_key(types, key.as_deref()),
                    shown(&wanted),
                    shown(&got),
                    wanted.len(),
                    got.len(),
                ));
            }
        }
    }
    for ((what, wanted), (_, got)) in expected.counts.iter().zip(&found.counts) {
        if wanted != got {
            return Some(format!("{what}: without crashes {wanted}, here {got}"));
        }
    }
    found.apart.clone()
}

fn first_apart(wanted: &[Said], got: &[Said]) -> Option<usize> {
    let longest = wanted.len().max(got.len());
    (0..longest).find(|at| wanted.get(*at) != got.get(*at))
}

fn show_key(types: Option<&TopicTypes>, key: Option<&[u8]>) -> String {
    match types {
        Some(types) => (types.key)(key).to_string(),
        None => key.map_or_else(|| "null".to_owned(), |key| key.escape_ascii().to_string()),
    }
}

fn show(types: Option<&TopicTypes>, said: &Said) -> String {
    let (value, timestamp, headers) = said;
    let bytes = || value.as_ref().map(|v| v.escape_ascii().to_string()).unwrap_or_default();
    let typed = types.and_then(|types| (types.value)(value.as_deref()).ok());
    let value = typed.map_or_else(bytes, |value| value.to_string());
    match headers.len() {
        0 => format!("{value} at {timestamp}"),
        n => format!("{value} at {timestamp} with {n} headers"),
    }
}

/// Partition and kind, in front of the key.
const PREFIX: usize = 5;

/// Whether both must have this row. What is derived may lie apart: an entry of the time index may come before
/// the time of its row, and a restart makes one for each record of the changelog. Only where the row's key
/// ends with that time, as those of windows do, it follows from it alone.
fn is_exact(key: &[u8]) -> bool {
    match key.get(PREFIX - 1) {
        Some(&KIND_TIME_INDEX) => {
            let time = key.get(PREFIX..PREFIX + 8);
            time.is_some_and(|time| key[PREFIX + 8..].ends_with(time))
        }
        Some(&KIND_SLICE) => false,
        _ => true,
    }
}

/// The first row that a store has and its changelog has not, or the other way round.
fn rows_apart(
    store: &str,
    types: Option<&TopicTypes>,
    held: &Image,
    folded: &Image,
) -> Option<String> {
    let mut keys = held.keys().chain(folded.keys()).filter(|key| is_exact(key));
    let key = keys.find(|key| held.get(*key) != folded.get(*key))?;
    let shown = show_key(types, key.get(PREFIX..));
    let row = |image: &Image| match image.get(key) {
        Some(row) => row.escape_ascii().to_string(),
        None => "nothing".to_owned(),
    };
    let (held, folded) = (row(held), row(folded));
    Some(format!("store `{store}`, key {shown}: it holds {held}, its changelog says {folded}"))
}
