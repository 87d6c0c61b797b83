//! Reads the files of a partition, or of a whole log, and says what is in them and what is wrong.
//!
//! Why apart from recovery: whoever looks at a damaged directory must not change it, and wants to see
//! every file, also those that recovery never reads. Nothing is opened for writing, no lock is taken.
//!
//! ```text
//!   directory -> which kind? -> every file, by name -> Item, Item, .. -> the caller prints them
//!                                  checks on the way -> Item::Problem
//! ```
//!
//! Invariants
//! * No bytes, however broken, make this panic, loop for ever or allocate more than the largest file
//!   that is read whole (an index, a snapshot), or the largest batch.
//! * What can be read is told in front of the problem that ends it.
//!
//! On crash: of a log that is being written, what is written at this moment may look torn.
//! Reference: Kafka `DumpLogSegments`.

mod commits;
mod log_dir;
mod partition;
mod segment;

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::format::{BatchHeader, EndTransactionMarker, RecordRef};
use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::segment::AbortedTransaction;
use crate::storage::Storage;
use crate::storage::disk::DiskStorage;

/// What kind of file it is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// Record batches (`.log`).
    Log,
    /// Offsets to positions (`.index`).
    OffsetIndex,
    /// Timestamps to offsets (`.timeindex`).
    TimeIndex,
    /// Aborted transactions (`.txnindex`).
    TransactionIndex,
    /// What a complete segment consists of (`.seal`).
    Seal,
    /// What was known of producers (`.snapshot`).
    ProducerSnapshot,
    /// Which leader epoch wrote which offsets (`leader-epoch-checkpoint`).
    LeaderEpochs,
    /// Where the partition starts (`log-start-offset`).
    LogStart,
    /// The topic's id, as Kafka writes it (`partition.metadata`).
    PartitionMetadata,
    /// What recovery has cut off (`.quarantine`).
    Quarantine,
    /// The commit records (`__commits-0/*.log`).
    Commits,
    /// A text file of the log with a checksum: its id, its topics, its clean close.
    Text,
    /// Something else; it is named and not read.
    Other,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "batches",
            Self::OffsetIndex => "offset index",
            Self::TimeIndex => "time index",
            Self::TransactionIndex => "aborted transactions",
            Self::Seal => "seal",
            Self::ProducerSnapshot => "producers",
            Self::LeaderEpochs => "leader epochs",
            Self::LogStart => "log start",
            Self::PartitionMetadata => "topic id",
            Self::Quarantine => "cut off by recovery",
            Self::Commits => "commit records",
            Self::Text => "text",
            Self::Other => "not read",
        })
    }
}

/// One thing that was found; those that follow a file are in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Item<'a> {
    /// A directory: of the log, or of a partition.
    Directory {
        /// Where it is.
        path: &'a Path,
    },
    /// A file begins.
    File {
        /// Its name.
        name: &'a str,
        /// What it is.
        kind: FileKind,
        /// Its size.
        bytes: u64,
    },
    /// A batch whose header can be read.
    Batch {
        /// Where it begins in the file.
        position: u64,
        /// Its header.
        header: &'a BatchHeader,
    },
    /// A record of the last batch.
    Record(RecordRef<'a>),
    /// The marker in the last batch.
    Marker(EndTransactionMarker),
    /// An entry of an offset index.
    Offset {
        /// The last offset of a batch.
        offset: Offset,
        /// Where that batch begins.
        position: u64,
    },
    /// An entry of a time index.
    Time {
        /// The largest timestamp up to the offset.
        timestamp: Timestamp,
        /// The last offset of the batch that has it.
        offset: Offset,
    },
    /// An aborted transaction.
    Aborted(AbortedTransaction),
    /// A seal.
    Seal {
        /// How long the `.log` file is.
        log_bytes: u64,
        /// The offset behind its last batch.
        end_offset: Offset,
        /// The largest timestamp in it.
        largest_timestamp: Timestamp,
    },
    /// A producer in a snapshot.
    Producer {
        /// Who.
        producer_id: ProducerId,
        /// In which life.
        producer_epoch: ProducerEpoch,
        /// The sequence and offset of its last record, when there is one.
        last: Option<(i32, Offset)>,
        /// The coordinator epoch of its last marker, -1 before the first.
        coordinator_epoch: i32,
        /// Where its open transaction begins.
        open_from: Option<Offset>,
        /// When it was last heard of.
        last_seen: Timestamp,
    },
    /// A leader epoch.
    LeaderEpoch {
        /// The epoch.
        epoch: i32,
        /// Its first offset.
        start_offset: Offset,
    },
    /// A commit record, a snapshot or a block of producer ids, as text.
    Commit {
        /// The record's offset in `__commits`.
        offset: Offset,
        /// What it says.
        text: &'a str,
    },
    /// A line of a text file.
    Line(&'a str),
    /// Something that is worth knowing and not wrong.
    Note(&'a str),
    /// Something that is wrong.
    Problem {
        /// Where in the file, when that is known.
        position: Option<u64>,
        /// What is wrong.
        what: &'a str,
    },
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files that were read.
    pub files: u64,
    /// Batches, those of `__commits` included.
    pub batches: u64,
    /// Records in them, markers included.
    pub records: u64,
    /// Things that are wrong.
    pub problems: u64,
}

/// Reads every file of `dir`: the directory of a partition, or of a log with all its partitions.
///
/// ```
/// use core_log::inspect::{Item, directory};
/// use core_log::{BatchBuilder, Durability, Log, NO_HEADERS, TopicSettings};
///
/// let dir = tempfile::tempdir()?;
/// let log = Log::open(dir.path())?;
/// let clicks = log.create_topic("clicks", TopicSettings::default())?;
/// let mut batch = BatchBuilder::new();
/// batch.push(0, None, Some(b"page"), NO_HEADERS)?;
/// log.producer(Durability::Sync)?.append(&clicks, 0, &mut batch)?;
/// log.close()?;
///
/// let mut values = Vec::new();
/// let summary = directory(&dir.path().join("clicks-0"), &mut |item| {
///     if let Item::Record(record) = item {
///         values.push(record.value.map(<[u8]>::to_vec));
///     }
/// })?;
/// assert_eq!(values, [Some(b"page".to_vec())]);
/// assert_eq!((summary.batches, summary.problems), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// * [`Error::DirectoryMissing`], [`Error::NotADirectory`]: there is nothing to read.
/// * [`Error::NotALog`]: the directory holds neither a log nor a partition.
/// * [`Error::Io`]: it cannot be read. What is wrong with a file in it is an item, not an error.
pub fn directory(dir: &Path, sink: &mut dyn FnMut(&Item<'_>)) -> Result<Summary> {
    directory_on(&DiskStorage::new(), dir, sink)
}

/// The same on another storage.
///
/// # Errors
///
/// As [`directory`].
pub fn directory_on(
    storage: &dyn Storage,
    dir: &Path,
    sink: &mut dyn FnMut(&Item<'_>),
) -> Result<Summary> {
    let names = match storage.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::DirectoryMissing { path: dir.to_owned() });
        }
        Err(error) => return Err(Error::io(dir, "list", error)),
    };
    let mut teller = Teller { storage, sink, summary: Summary::default() };
    if log_dir::is_log(&names) {
        log_dir::tell(&mut teller, dir, &names);
    } else if partition::is_partition(&names) {
        partition::tell(&mut teller, dir, &names, partition::Contents::Records);
    } else {
        let path = dir.to_owned();
        return Err(match names.into_iter().next() {
            Some(found) => Error::NotALog { path, found },
            None => Error::DirectoryMissing { path },
        });
    }
    Ok(teller.summary)
}

/// The largest file that is read whole: an index of a segment of 2 GiB is far smaller.
const WHOLE_FILE_BYTES_MAX: u64 = 256 << 20;

/// Tells what is found, and counts it.
struct Teller<'a> {
    storage: &'a dyn Storage,
    sink: &'a mut dyn FnMut(&Item<'_>),
    summary: Summary,
}

impl Teller<'_> {
    fn tell(&mut self, item: &Item<'_>) {
        match item {
            Item::File { .. } => self.summary.files += 1,
            Item::Batch { .. } => self.summary.batches += 1,
            Item::Record(_) | Item::Marker(_) | Item::Commit { .. } => self.summary.records += 1,
            Item::Problem { .. } => self.summary.problems += 1,
            _ => {}
        }
        (self.sink)(item);
    }

    fn problem(&mut self, position: Option<u64>, what: &dyn fmt::Display) {
        self.tell(&Item::Problem { position, what: &what.to_string() });
    }

    fn note(&mut self, what: &str) {
        self.tell(&Item::Note(what));
    }

    /// Says that a file begins, and reads all of it; `None` when it cannot be read.
    fn whole(&mut self, dir: &Path, name: &str, kind: FileKind) -> Option<Vec<u8>> {
        let read = || -> std::io::Result<(u64, Vec<u8>)> {
            let file = self.storage.open_read_only(&dir.join(name))?;
            let len = file.len()?;
            if len > WHOLE_FILE_BYTES_MAX {
                return Ok((len, Vec::new()));
            }
            let mut bytes = vec![0; usize::try_from(len).map_err(std::io::Error::other)?];
            let read = file.read_at(&mut bytes, 0)?;
            bytes.truncate(read);
            Ok((len, bytes))
        };
        let (len, found) = match read() {
            Ok((len, bytes)) => (len, Ok(bytes)),
            Err(error) => (0, Err(error)),
        };
        self.tell(&Item::File { name, kind, bytes: len });
        match found {
            Ok(_) if len > WHOLE_FILE_BYTES_MAX => {
                self.problem(None, &"the file is larger than any of its kind");
                None
            }
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.problem(None, &format_args!("the file cannot be read: {error}"));
                None
            }
        }
    }

    /// Says that a file is there, without reading it.
    fn other(&mut self, dir: &Path, name: &str, kind: FileKind) {
        let len = self.storage.open_read_only(&dir.join(name)).and_then(|file| file.len());
        self.tell(&Item::File { name, kind, bytes: len.unwrap_or(0) });
    }
}

#[cfg(test)]
pub(crate) mod tests;
