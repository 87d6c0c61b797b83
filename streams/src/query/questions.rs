//! Questions as text: what another process, or a command line, asks of a job.
//!
//! ```text
//!   tool  --  {"job":"clicks","ask":{"rows":{"store":"counts","what":{"get":{..}},..}}}  -->  job
//!   tool  <--  {"page":{"rows":[{"partition":0,"key":"/home","value":3,..}],..}}      ---  job
//! ```
//!
//! Why typed by the one who answers: it knows what the bytes of its stores mean, whichever build asks.
//!
//! Invariants
//! * what cannot be answered is an answer too: an error keeps its kind on the way.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::catalog::Catalog;
use super::status::Status;
use super::{member_prefix, select_prefix, select_windows, select_windows_between};
use crate::dsl::TopicTypes;
use crate::error::{Error, Result};
use crate::key::split_windowed;
use crate::runtime::query::{
    After, Asked, FoundRow, Only, Question as Looked, Select, Selection, StoreReport, page,
};
use crate::store::StoreError;

const DAY_MS: i64 = 86_400_000;

/// A question on its way: whom it is for, and what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Asking {
    pub(crate) job: String,
    pub(crate) ask: Question,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// Which job this is.
    Who,
    /// Its stores.
    Stores,
    /// Rows of one.
    Rows(RowsWanted),
    /// How it goes.
    Status,
}

/// Which rows of which store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RowsWanted {
    pub(crate) store: String,
    pub(crate) what: What,
    pub(crate) after: Option<After>,
    pub(crate) limit: usize,
}

/// Rows as a person asks for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    Get { key: String, window: Option<WindowTime> },
    Range { from: Option<String>, to: Option<String>, prefix: Option<String> },
}

/// A moment inside the window that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WindowTime {
    /// In milliseconds since 1970.
    At(i64),
    /// In milliseconds since midnight UTC, on any day.
    OfDay(i64),
}

impl WindowTime {
    fn is_in(self, start: i64, end: i64) -> bool {
        let of_day = match self {
            Self::At(time) => return start <= time && time < end,
            Self::OfDay(time) => i128::from(time),
        };
        let (start, end, day) = (i128::from(start), i128::from(end), i128::from(DAY_MS));
        start + (of_day - start).rem_euclid(day) < end
    }
}

/// What can be answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Who { id: String, pid: u32 },
    Stores(Vec<StoreLine>),
    Page(PageLine),
    Status(Box<Status>),
    Refused(Refusal),
}

/// One store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoreLine {
    pub(crate) store: String,
    pub(crate) key: String,
    pub(crate) value: String,
    /// Whether there is a row for each window of a key.
    pub(crate) is_windowed: bool,
    pub(crate) partitions: usize,
    pub(crate) rows: u64,
    /// Whether there are more rows than were counted.
    pub(crate) has_more: bool,
    pub(crate) bytes: u64,
    /// The end of the open window that closes first.
    pub(crate) earliest_end: Option<i64>,
    /// Lookups of single rows since the job started that were answered from memory, and those that went to
    /// the disk.
    #[serde(default)]
    pub(crate) cache_hits: u64,
    #[serde(default)]
    pub(crate) cache_misses: u64,
}

/// Rows, typed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PageLine {
    pub(crate) rows: Vec<RowLine>,
    pub(crate) next: Option<After>,
    /// After how many commits of the running job.
    pub(crate) commits: Option<u64>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RowLine {
    pub(crate) partition: u32,
    pub(crate) key: Value,
    pub(crate) timestamp: i64,
    pub(crate) value: Value,
}

/// An error on its way to another process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    UnknownStore { name: String, known: Vec<String> },
    Usage(String),
    Other(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::UnknownStore { name, known } => Self::UnknownStore { name, known },
            Error::Usage { reason } => Self::Usage(reason),
            Error::Unanswered { reason } => Self::Other(reason),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownStore { name, known } => Self::UnknownStore { name, known },
            Refusal::Usage(reason) => Self::Usage { reason },
            Refusal::Other(reason) => Self::Unanswered { reason },
        }
    }
}

/// Answers a question about stores.
pub(crate) fn answer(catalog: &Catalog, asked: &dyn Asked, question: &Question) -> Result<Answer> {
    match question {
        Question::Who => Ok(Answer::Who { id: catalog.id.clone(), pid: std::process::id() }),
        Question::Stores => store_lines(catalog, asked).map(Answer::Stores),
        Question::Rows(wanted) => rows(catalog, asked, wanted).map(Answer::Page),
        Question::Status => {
            let reason = "this is told by the job and its log, not by its stores".to_owned();
            Err(Error::Unanswered { reason })
        }
    }
}

/// The stores, as whoever has them open tells.
pub(super) fn store_lines(catalog: &Catalog, asked: &dyn Asked) -> Result<Vec<StoreLine>> {
    let (told, _) = asked.ask(&Looked::Stores)?;
    let line = |(name, types): &(crate::ids::StoreName, TopicTypes)| {
        let parts: Vec<&StoreReport> = told.stores.iter().filter(|r| r.store == *name).collect();
        StoreLine {
            store: name.to_string(),
            key: types.rows.typed_key(),
            value: types.rows.told_value(),
            is_windowed: types.rows.is_windowed(),
            partitions: parts.len(),
            rows: parts.iter().map(|part| part.rows).sum(),
            has_more: parts.iter().any(|part| part.has_more),
            bytes: parts.iter().map(|part| part.bytes).sum(),
            earliest_end: parts.iter().filter_map(|part| part.earliest_end).min(),
            cache_hits: parts.iter().map(|part| part.lookups.hits).sum(),
            cache_misses: parts.iter().map(|part| part.lookups.misses).sum(),
        }
    };
    Ok(catalog.iter().map(line).collect())
}

fn rows(catalog: &Catalog, asked: &dyn Asked, wanted: &RowsWanted) -> Result<PageLine> {
    let (name, types) = catalog.find(&wanted.store)?;
    let select = select(types, &wanted.what)
        .map_err(|reason| Error::Usage { reason: format!("store {name}: {reason}") })?;
    let (after, limit) = (wanted.after.clone(), wanted.limit);
    let found = page(asked, &Selection { store: name.clone(), select, after, limit })?;
    let at = match &wanted.what {
        What::Get { window, .. } => *window,
        What::Range { .. } => None,
    };
    let lists_sessions = types.rows.lists_sessions();
    let kept = found.rows.into_iter().filter(|row| {
        if lists_sessions {
            return true;
        }
        let is_in = |at: WindowTime| {
            split_windowed(&row.key).is_some_and(|(_, start, end)| at.is_in(start, end))
        };
        at.is_none_or(is_in)
    });
    let show = |row: FoundRow| {
        let value = (types.value)(Some(&row.value)).map_err(|e| StoreError::Corrupt {
            store: name.clone(),
            reason: format!("the row of key {}: {e}", row.key.escape_ascii()),
        })?;
        let key = (types.key)(Some(&row.key));
        Ok(RowLine { partition: row.partition, key, timestamp: row.timestamp, value })
    };
    let mut rows = kept.map(show).collect::<Result<Vec<_>>>()?;
    if let (true, Some(at)) = (lists_sessions, at) {
        rows.retain_mut(|row| keep_sessions(&mut row.value, at));
    }
    Ok(PageLine { rows, next: found.next, commits: found.commits })
}

/// Leaves those sessions of a key that a moment lies in; whether there are any.
fn keep_sessions(row: &mut Value, at: WindowTime) -> bool {
    let Some(sessions) = row.get_mut("sessions").and_then(Value::as_array_mut) else {
        return false;
    };
    sessions.retain(|session| {
        let time = |name: &str| session.get(name).and_then(Value::as_i64);
        // The last record of a session is in it.
        let ends = |end: i64| end.saturating_add(1);
        time("start").zip(time("end")).is_some_and(|(start, end)| at.is_in(start, ends(end)))
    });
    !sessions.is_empty()
}

fn select(types: &TopicTypes, what: &What) -> Result<Select, String> {
    let types = &types.rows;
    let key = |text: &String| {
        if types.is_windowed() { types.inner_key(text) } else { types.key(text) }
    };
    let no_windows = || Err("it has no windows: leave out --window".to_owned());
    match what {
        What::Get { window: Some(_), .. } if !types.is_windowed() && !types.lists_sessions() => {
            no_windows()
        }
        What::Get { key: text, .. } if types.is_windowed() => {
            Ok(select_windows(types.inner_key(text)?, i64::MIN..i64::MAX))
        }
        What::Get { key: text, .. } => Ok(Select::Key(types.key(text)?)),
        What::Range { prefix: Some(text), .. } if types.begins_with_text() => {
            let is_tuple = types.typed_key().starts_with('(');
            let first = if is_tuple { member_prefix(text) } else { text.as_bytes().to_vec() };
            Ok(select_prefix(first, types.is_windowed()))
        }
        What::Range { prefix: Some(_), .. } => {
            let key = types.typed_key();
            Err(format!("--prefix wants keys that begin with text; these are {key}"))
        }
        What::Range { from, to, prefix: None } => {
            let from = from.as_ref().map(key).transpose()?.unwrap_or_default();
            let to = to.as_ref().map(key).transpose()?;
            if to.as_ref().is_some_and(|to| *to < from) {
                return Err("--to lies before --from: the range is empty".to_owned());
            }
            Ok(if types.is_windowed() && !types.has_keys_of_one_size() {
                select_windows_between(from, to)
            } else {
                Select::Range { from, to, only: Only::All }
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_lies_in_the_windows_of_every_day() {
        let minute = 60_000;
        let at = WindowTime::OfDay(10 * 60 * minute + 3 * minute);
        for day in [-3, 0, 20_000] {
            let start = day * DAY_MS + 10 * 60 * minute + 3 * minute;
            assert!(at.is_in(start, start + minute));
            assert!(at.is_in(start - minute, start + minute));
            assert!(!at.is_in(start - minute, start));
            assert!(!at.is_in(start + minute, start + 2 * minute));
        }
        assert!(at.is_in(i64::MIN, i64::MAX));
        assert!(WindowTime::At(5).is_in(5, 6) && !WindowTime::At(5).is_in(4, 5));
    }

    #[test]
    fn of_the_sessions_of_a_key_those_are_shown_that_a_moment_lies_in() {
        let session = |start: i64, end: i64| serde_json::json!({ "start": start, "end": end });
        let row = || serde_json::json!({ "sessions": [session(0, 5), session(20, 20)] });
        let mut of_20 = row();
        assert!(keep_sessions(&mut of_20, WindowTime::At(20)));
        assert_eq!(of_20, serde_json::json!({ "sessions": [session(20, 20)] }));
        assert!(!keep_sessions(&mut row(), WindowTime::At(6)));
    }

    #[test]
    fn an_error_keeps_its_kind_on_the_way() {
        let unknown = Error::UnknownStore { name: "a".into(), known: vec!["b".into()] };
        let usage = Error::Usage { reason: "r".into() };
        let silent = Error::Unanswered { reason: "r".into() };
        for error in [unknown, usage, silent] {
            let (said, code) = (error.to_string(), error.code());
            let text = serde_json::to_string(&Refusal::from(error)).unwrap();
            let back: Error = serde_json::from_str::<Refusal>(&text).unwrap().into();
            assert_eq!((back.to_string(), back.code()), (said, code));
        }
    }
}
