//! What to do about an error: an edit or a command, one a line.
//!
//! Why apart: what happened is one thing, the advice another; every variant has both.
//!
//! Invariants
//! * advice names what the user can edit or type, never what the code does.

use super::Error;
use crate::store::StoreError;

impl Error {
    /// What to do about it: an edit or a command, one a line.
    #[must_use]
    pub fn help(&self) -> Vec<String> {
        let lines: &[&str] = match self {
            Self::Decode { .. } => DECODE_HELP,
            Self::Refused { .. } => REFUSED_HELP,
            Self::NotCopartitioned { left, right, right_partitions, .. } => {
                return copartition_help(left, right, *right_partitions);
            }
            Self::PositionLost { .. } => POSITION_HELP,
            Self::RangeCut { start, .. } => {
                return vec![
                    format!("begin with what is there: --from start, or an offset from {start} on"),
                    "keep longer what you may want to read again: the topic's retention".to_owned(),
                ];
            }
            Self::BadPosition { help, .. } => return vec![help.clone()],
            Self::NotAReplay { .. } => {
                &["nothing was removed; look what it is, or choose another name: --name NAME"]
            }
            Self::Panicked { .. } => &[
                "the transaction was rolled back; nothing was written",
                "mend the closure and start again: the job goes on from its last commit",
            ],
            Self::EventTimeAhead { .. } => AHEAD_HELP,
            Self::Unreadable { .. } => PATH_HELP,
            Self::Encode { .. } | Self::Store(StoreError::Encode { .. }) => {
                &["mend the type, or keep less in one value: its codec refuses this one"]
            }
            Self::Store(_) => &[
                "the store can be rebuilt from its changelog: move the `state` directory away and start again",
            ],
            Self::Fenced { .. } => FENCED_HELP,
            Self::Internal { .. } => &[
                "nothing of this transaction was written; only the job itself may write this topic",
            ],
            Self::Topology { help, .. } => return vec![help.clone()],
            Self::UnknownTopic { name, known, .. } => return unknown_topic_help(name, known),
            Self::NoTopicMatches { .. } => {
                &["a pattern takes whole names: `clicks-.*`; or create the first of its topics"]
            }
            Self::InvalidName(_) => NAME_HELP,
            Self::System { .. } => SYSTEM_HELP,
            Self::Log(error) => return log_help(error),
            Self::ResetCut { .. } => RESET_CUT_HELP,
            Self::StoreVersion { .. } => STORE_VERSION_HELP,
            Self::JobRunning { .. } => &["stop it first (Ctrl-C); nothing was changed"],
            Self::UnknownStore { name, known } => return unknown_store_help(name, known),
            Self::StoreTypes { .. } => &["ask for the types that the topology keeps in it"],
            Self::Unanswered { .. } => &["ask again; nothing was changed"],
            Self::Usage { .. } => &[],
        };
        lines_of(lines)
    }
}

const DECODE_HELP: &[&str] = &[
    "mend the type or the producer: a new field wants #[serde(default)]",
    "go on and set it aside: `.on_error(OnError::DeadLetter)` behind `t.stream(..)`",
    "nothing of this transaction was written; the job stops here again until it decodes",
];
const REFUSED_HELP: &[&str] = &[
    "mend the closure, or the record's producer",
    "go on and set it aside: `.on_error(OnError::DeadLetter)` behind `.try_map(..)`",
    "nothing of this transaction was written; the job stops here again until it is taken",
];
const POSITION_HELP: &[&str] = &[
    "state was not touched; keep records longer than the job may be down",
    "accept the gap, and build state from what is there: reset --to start",
];
const RESET_CUT_HELP: &[&str] =
    &["retention has removed what lay there; begin with the first record there is: --to start"];
const STORE_VERSION_HELP: &[&str] = &[
    "keep the old rows, and begin new ones: give the new type another store name",
    "or build the rows anew from their topics: reset --to start --yes",
    "rows are in bincode, which cannot leave out a field: #[serde(default)] does not help",
];
const AHEAD_HELP: &[&str] = &[
    "mend the clock of the producer; nothing of this transaction was written",
    "times that far ahead are wanted? `.event_time_ahead_max(..)`",
    "go on and set it aside: `.on_error(OnError::DeadLetter)` behind `.event_time(..)`",
];
const FENCED_HELP: &[&str] =
    &["another instance took over; its output is whole. Nothing to repair"];
const TIMED_OUT_HELP: &[&str] = &[
    "a step, or the disk, held the job up for so long; what was committed before is whole",
    "look for what waits in a step, then start again",
];
const PATH_HELP: &[&str] = &["check the path"];
const NAME_HELP: &[&str] = &["choose another name: up to 249 letters, digits, `.`, `_` and `-`"];
const SYSTEM_HELP: &[&str] =
    &["look after what the operating system said, then start again: nothing committed is lost"];

fn lines_of(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|&line| line.to_owned()).collect()
}

fn log_help(error: &core_log::Error) -> Vec<String> {
    use core_log::Error as Log;
    let lines: &[&str] = match error {
        Log::UnknownTopic { name, known } => return unknown_topic_help(name, known),
        Log::OffsetOutOfRange { .. } => POSITION_HELP,
        Log::TimestampTooFarAhead { .. } => AHEAD_HELP,
        Log::ProducerFenced { .. } => FENCED_HELP,
        Log::TransactionTimedOut { .. } => TIMED_OUT_HELP,
        Log::DiskFull { .. } => &["make room on the disk, then start again"],
        Log::ReadOnlyDirectory { .. } => {
            &["make the directory writable, or choose another: STREAMS_LOG=./data2"]
        }
        Log::NotALog { .. } | Log::NotADirectory { .. } => {
            &["nothing was changed; choose an empty or a new directory: STREAMS_LOG=./data2"]
        }
        Log::DirectoryLocked { .. } => &["stop it, or use another directory: STREAMS_LOG=./data2"],
        Log::Decode(
            core_log::DecodeError::Decompress { .. }
            | core_log::DecodeError::DecompressedTooLarge { .. },
        ) => &["write such records in smaller batches, or without compression"],
        Log::DirectoryMissing { .. } => PATH_HELP,
        Log::Damaged { .. } => {
            &["nothing was cut or skipped; restore the file from a backup, or read up to it"]
        }
        Log::InvalidName { .. } => NAME_HELP,
        Log::TopicExists { .. } => &["it was left as it is: use it, or choose another name"],
        Log::BatchTooLarge { .. } => {
            &["one record is larger than its topic allows: write smaller records"]
        }
        Log::LogCrashed { .. } | Log::Io { .. } => SYSTEM_HELP,
        Log::Owner { .. } => &["try again; the process that owns the log is busy or leaving"],
        _ => &[],
    };
    lines_of(lines)
}

fn copartition_help(left: &str, right: &str, partitions: u32) -> Vec<String> {
    vec![
        "records with one key would sit in different tasks".to_owned(),
        format!("bring {left} to as many: .repartition(\"{left}-{partitions}\", {partitions})"),
        format!("or, to look {right} up, read it whole: t.global_table(..), .join_global(..)"),
    ]
}

fn unknown_topic_help(name: &str, known: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(near) = nearest(name, known) {
        lines.push(format!("did you mean `{near}`?"));
    }
    lines.push(format!("create it: topic create {name} --partitions 4"));
    lines
}

fn unknown_store_help(name: &str, known: &[String]) -> Vec<String> {
    let near = nearest(name, known).map(|near| format!("did you mean `{near}`?"));
    near.into_iter().chain(["see them all: state list".to_owned()]).collect()
}

/// The name of `known` that a typing mistake may have turned into `name`, or that goes on behind it.
pub(crate) fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let limit = 1 + name.chars().count() / 5;
    let goes_on =
        |candidate: &&str| candidate.strip_prefix(name).is_some_and(|r| r.starts_with('-'));
    let known = || known.iter().map(String::as_str);
    known()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min()
        .map_or_else(|| known().find(goes_on), |(_, candidate)| Some(candidate))
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
