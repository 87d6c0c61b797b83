//! What Kafka's stores answered, asked of the stores of a processor.
//!
//! ```text
//!   op --> record of a topic --> processor with the store --> answer as JSON --> compared with the file
//! ```
//!
//! Why through a job: stores have no life of their own; what a processor sees is what counts. Each case runs
//! four times, so that answers come from the running transaction, from committed rows in memory, from the
//! back end in memory and from RocksDB.
//!
//! Time: Kafka's stores keep the largest time that was ever put into them; ours go by the clock of the
//! record's source partition. So a put is sent with its own time, and a question with the largest so far.
//!
//! `retain_duplicates` is a window store of lists: a put adds to the list of its window.

use serde_json::{Value, json};
use streams::BoxError;
use streams::prelude::*;

use crate::json;
use crate::report::{Outcome, failed, unsupported};

const OPS: Topic<String, Value> = topic("ops");
const ANSWERS: Topic<String, Value> = topic("answers");

/// How a rejected version is written in the files.
const NOT_PUT: i64 = i64::MIN;

/// When the job commits, and where rows are by then.
#[derive(Clone, Copy, Debug)]
enum Rows {
    Running,
    Committed,
    BackEnd,
    RocksDb,
}

enum Kept {
    Plain(KeyValueStore<String, String>),
    Windows(WindowStore<String, Vec<String>>, Duplicates),
    Sessions(SessionStore<String, String>),
    Versions(VersionedStore<String, String>),
}

#[derive(Clone, Copy, PartialEq)]
enum Duplicates {
    Kept,
    Replaced,
}

struct Ask {
    store: Kept,
}

impl Processor<String, Value> for Ask {
    type Key = String;
    type Out = Value;

    fn stores(&self) -> Vec<&dyn StateStore> {
        match &self.store {
            Kept::Plain(store) => vec![store],
            Kept::Windows(store, _) => vec![store],
            Kept::Sessions(store) => vec![store],
            Kept::Versions(store) => vec![store],
        }
    }

    fn record(
        &mut self,
        ctx: &mut Ctx<'_, String, Value>,
        record: Record<String, Value>,
    ) -> Processed {
        let (Some(key), Some(op)) = (record.key, record.value) else { return Ok(()) };
        let op = Op(op.as_array().cloned().unwrap_or_default());
        let answer = match &self.store {
            Kept::Plain(store) => plain(store, &op)?,
            Kept::Windows(store, duplicates) => windows(store, *duplicates, &op)?,
            Kept::Sessions(store) => sessions(store, &op)?,
            Kept::Versions(store) => versions(store, &op)?,
        };
        ctx.forward(key, answer)?;
        Ok(())
    }
}

/// An operation: its name, then its arguments.
struct Op(Vec<Value>);

type Answer = Result<Value, BoxError>;

impl Op {
    fn name(&self) -> &str {
        self.0.first().and_then(Value::as_str).unwrap_or("?")
    }

    fn text(&self, at: usize) -> Option<String> {
        self.0.get(at).and_then(Value::as_str).map(str::to_owned)
    }

    fn key(&self, at: usize) -> Result<String, BoxError> {
        self.text(at).ok_or_else(|| format!("argument {at} of {} is no text", self.name()).into())
    }

    fn number(&self, at: usize) -> Result<i64, BoxError> {
        let number = self.0.get(at).and_then(Value::as_i64);
        number.ok_or_else(|| format!("argument {at} of {} is no number", self.name()).into())
    }

    fn keys(&self, at: usize) -> (std::ops::Bound<String>, std::ops::Bound<String>) {
        use std::ops::Bound::{Included, Unbounded};
        let bound = |at| self.text(at).map_or(Unbounded, Included);
        (bound(at), bound(at + 1))
    }

    fn unknown(&self) -> Answer {
        Err(format!("no such operation: {}", self.name()).into())
    }

    /// The time that it carries, if it changes something.
    fn time(&self, store: &str) -> Option<i64> {
        let changes = matches!(self.name(), "put" | "delete" | "remove");
        let at = match store {
            "window" => 3,
            "session" => 3,
            "versioned" if self.name() == "delete" => 2,
            "versioned" => 3,
            _ => return None,
        };
        self.number(at).ok().filter(|_| changes)
    }
}

fn plain(store: &KeyValueStore<String, String>, op: &Op) -> Answer {
    let rows = |rows: Vec<(String, String)>| Ok(json!(rows));
    match op.name() {
        "get" => Ok(json!(store.get(&op.key(1)?)?)),
        "put" => match op.text(2) {
            Some(value) => store.put(&op.key(1)?, value).map(|()| Value::Null).map_err(Into::into),
            None => store.delete(&op.key(1)?).map(|_| Value::Null).map_err(Into::into),
        },
        "put_if_absent" => Ok(json!(store.put_if_absent(&op.key(1)?, op.key(2)?)?)),
        "delete" => Ok(json!(store.delete(&op.key(1)?)?)),
        "all" => rows(store.range(..)?),
        "reverse_all" => rows(store.reverse_range(..)?),
        "range" => rows(store.range(op.keys(1))?),
        "reverse_range" => rows(store.reverse_range(op.keys(1))?),
        "prefix" => rows(store.prefix(op.key(1)?)?),
        _ => op.unknown(),
    }
}

fn windows(store: &WindowStore<String, Vec<String>>, duplicates: Duplicates, op: &Op) -> Answer {
    let of_key = |found: Vec<(i64, Vec<String>)>| {
        let each = found
            .into_iter()
            .flat_map(|(start, values)| values.into_iter().map(move |value| json!([start, value])));
        Ok(Value::Array(each.collect()))
    };
    let of_all = |found: Vec<(Windowed<String>, Vec<String>)>| {
        let each = found.into_iter().flat_map(|(w, values)| {
            values.into_iter().map(move |value| json!([w.key, w.start, w.end, value]))
        });
        Ok(Value::Array(each.collect()))
    };
    match op.name() {
        "put" => {
            let (key, start) = (op.key(1)?, op.number(3)?);
            match op.text(2) {
                Some(value) => {
                    let kept = duplicates == Duplicates::Kept;
                    let before = if kept { store.get(&key, start)? } else { None };
                    let mut values = before.unwrap_or_default();
                    values.push(value);
                    store.put(&key, start, values)?;
                }
                None if duplicates == Duplicates::Kept => {}
                None => {
                    store.delete(&key, start)?;
                }
            }
            Ok(Value::Null)
        }
        "fetch1" => {
            let found = store.get(&op.key(1)?, op.number(2)?)?;
            Ok(json!(found.and_then(|values| values.last().cloned())))
        }
        "fetch" => of_key(store.fetch(&op.key(1)?, op.number(2)?..=op.number(3)?)?),
        "backward_fetch" => {
            of_key(store.reverse_fetch(&op.key(1)?, op.number(2)?..=op.number(3)?)?)
        }
        "fetch_keys" => of_all(store.fetch_keys(op.keys(1), op.number(3)?..=op.number(4)?)?),
        "fetch_all" => of_all(store.fetch_all(op.number(1)?..=op.number(2)?)?),
        "backward_fetch_all" => of_all(store.reverse_fetch_all(op.number(1)?..=op.number(2)?)?),
        "all" => of_all(store.fetch_keys(.., i64::MIN..=i64::MAX)?),
        "backward_all" => of_all(store.reverse_fetch_keys(.., i64::MIN..=i64::MAX)?),
        _ => op.unknown(),
    }
}

fn sessions(store: &SessionStore<String, String>, op: &Op) -> Answer {
    let found = |found: Vec<(Windowed<String>, String)>| {
        let each = found.into_iter().map(|(w, value)| json!([w.key, w.start, w.end, value]));
        Ok(Value::Array(each.collect()))
    };
    match op.name() {
        "put" | "remove" => {
            let (key, start, end) = (op.key(1)?, op.number(2)?, op.number(3)?);
            match op.text(4) {
                Some(value) => store.put(&key, start, end, value)?,
                None => store.delete(&key, start, end)?,
            };
            Ok(Value::Null)
        }
        "find" => found(store.find(&op.key(1)?, op.number(2)?, op.number(3)?)?),
        "backward_find" => found(store.reverse_find(&op.key(1)?, op.number(2)?, op.number(3)?)?),
        "find_keys" => found(store.find_keys(op.keys(1), op.number(3)?, op.number(4)?)?),
        "fetch" => found(store.fetch(&op.key(1)?)?),
        "fetch_session" => Ok(json!(store.get(&op.key(1)?, op.number(2)?, op.number(3)?)?)),
        _ => op.unknown(),
    }
}

fn versions(store: &VersionedStore<String, String>, op: &Op) -> Answer {
    let found = |found: Option<(String, i64)>| {
        Ok(found.map_or(Value::Null, |(value, ts)| json!({ "value": value, "ts": ts })))
    };
    match op.name() {
        "put" => Ok(json!(match store.put(&op.key(1)?, op.text(2), op.number(3)?)? {
            VersionPut::Latest => -1,
            VersionPut::Until(next) => next,
            _ => NOT_PUT,
        })),
        "get" => found(store.get(&op.key(1)?)?),
        "get_as_of" => found(store.get_as_of(&op.key(1)?, op.number(2)?)?),
        "delete" => found(store.delete(&op.key(1)?, op.number(2)?)?),
        _ => op.unknown(),
    }
}

/// What a case needs of its store.
#[derive(Clone)]
struct Needs {
    store: String,
    retention: std::time::Duration,
    window: std::time::Duration,
    duplicates: Duplicates,
}

fn topology(t: &mut Topology, needs: &Needs) {
    let store = match needs.store.as_str() {
        "window" => {
            let store = t.window_store("store", needs.window, needs.retention);
            Kept::Windows(store, needs.duplicates)
        }
        "session" => Kept::Sessions(t.session_store("store", needs.retention)),
        "versioned" => Kept::Versions(t.versioned_store("store", needs.retention)),
        _ => Kept::Plain(t.store("store")),
    };
    t.stream(OPS).process("ask", Ask { store }).to(ANSWERS);
}

/// One case.
pub(crate) fn case(case: &Value) -> Outcome {
    let store = json::text(case, "store")?.to_owned();
    if !["kv", "window", "session", "versioned"].contains(&store.as_str()) {
        return Err(unsupported(format!("store {store}")));
    }
    let duration = |name: &str| {
        let ms = json::optional_number(case, name).and_then(|ms| u64::try_from(ms).ok());
        millis(ms.unwrap_or(0))
    };
    let duplicates = case["retain_duplicates"].as_bool() == Some(true);
    let needs = Needs {
        store,
        retention: duration("retention_ms"),
        window: duration("window_ms"),
        duplicates: if duplicates { Duplicates::Kept } else { Duplicates::Replaced },
    };
    let ops = json::list(case, "ops")?;
    for rows in [Rows::Running, Rows::Committed, Rows::BackEnd, Rows::RocksDb] {
        run(&needs, ops, rows)?;
    }
    Ok(())
}

fn run(needs: &Needs, ops: &[Value], rows: Rows) -> Outcome {
    let wanted = needs.clone();
    let mut driver = TestDriver::new(move |t: &mut Topology| topology(t, &wanted));
    let disk = tempfile::tempdir().map_err(|error| failed(error.to_string()))?;
    if let Rows::RocksDb = rows {
        driver = driver.stores_on_disk(disk.path());
    }
    let mut now = 0;
    for (index, step) in ops.iter().enumerate() {
        let op = Op(json::list(step, "op")?.to_vec());
        let time = op.time(&needs.store);
        now = now.max(time.unwrap_or(now));
        driver.send_at(OPS, "op".to_owned(), step["op"].clone(), time.unwrap_or(now));
        match rows {
            Rows::Running => {}
            Rows::Committed => driver.run().map_err(|error| failed(error.to_string()))?,
            // A clean stop flushes; opening RocksDB takes its time.
            Rows::RocksDb if index % 16 != 15 => {
                driver.run().map_err(|error| failed(error.to_string()))?;
            }
            Rows::BackEnd | Rows::RocksDb => {
                driver.stop();
            }
        }
    }
    driver.run().map_err(|error| failed(error.to_string()))?;
    let answers = driver.read_records(ANSWERS);
    if answers.len() != ops.len() {
        return Err(failed(format!("{} operations, {} answers", ops.len(), answers.len())));
    }
    for (index, (step, answer)) in ops.iter().zip(answers).enumerate() {
        let found = answer.value.unwrap_or(Value::Null);
        if !agree(step, &found) {
            let (op, expected) = (&step["op"], &step["expect"]);
            return Err(failed(format!(
                "{rows:?} op {index} {op}: expected {expected}, got {found}"
            )));
        }
    }
    Ok(())
}

/// Whether an answer is the recorded one: scans over several keys in any order, as that is the back end's
/// in Kafka; but for key-value stores, whose order is that of the keys.
fn agree(step: &Value, found: &Value) -> bool {
    let name = step["op"][0].as_str().unwrap_or("?");
    let any_order = matches!(
        name,
        "fetch_keys" | "fetch_all" | "backward_fetch_all" | "backward_all" | "find_keys"
    ) || (name == "all"
        && step["expect"][0].as_array().is_some_and(|row| row.len() == 4));
    match (&step["expect"], found) {
        (Value::Array(expected), Value::Array(found)) if any_order => {
            let sorted = |rows: &[Value]| {
                let mut rows: Vec<String> = rows.iter().map(Value::to_string).collect();
                rows.sort();
                rows
            };
            sorted(expected) == sorted(found)
        }
        (expected, found) => expected == found,
    }
}
