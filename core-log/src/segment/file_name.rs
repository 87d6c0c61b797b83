//! Names of a segment's files.
//!
//! ```text
//!   00000000000000000042.log          batches, as Kafka names them
//!                      .index         offsets to positions
//!                      .timeindex     timestamps to offsets
//!                      .txnindex      aborted transactions
//!                      .seal          ours: sizes and checksums of a segment that is complete
//!                      .4096.quarantine   ours: what recovery cut off at that position
//!                      .log.cleaned   a replacement that compaction is writing
//!                      .log.swap      one that is complete: recovery puts it into place
//!                      .log.deleted   on its way out: recovery removes it
//! ```
//!
//! Reference: Kafka `LogFileUtils`.

use std::path::{Path, PathBuf};

use crate::format::header::BASE_OFFSET_MAX;
use crate::ids::Offset;

/// The kinds of files that a segment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Log,
    OffsetIndex,
    TimeIndex,
    TxnIndex,
    Seal,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Log, Self::OffsetIndex, Self::TimeIndex, Self::TxnIndex, Self::Seal];

    /// What the name of a file says it is; for names that have a base offset.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let (_, suffix) = name.split_once('.')?;
        Self::ALL.into_iter().find(|kind| kind.suffix() == suffix)
    }

    /// The name of the file of this kind.
    pub(crate) fn file_name(self, base_offset: Offset) -> String {
        format!("{base_offset:020}.{}", self.suffix())
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::OffsetIndex => "index",
            Self::TimeIndex => "timeindex",
            Self::TxnIndex => "txnindex",
            Self::Seal => "seal",
        }
    }
}

/// Files that are not part of the segment, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Cleaned,
    Swap,
    Deleted,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Cleaned, Self::Swap, Self::Deleted];

    fn suffix(self) -> &'static str {
        match self {
            Self::Cleaned => ".cleaned",
            Self::Swap => ".swap",
            Self::Deleted => ".deleted",
        }
    }
}

/// The file of this kind at this stage.
pub(super) fn staged(dir: &Path, base_offset: Offset, kind: Kind, stage: Stage) -> PathBuf {
    dir.join(format!("{base_offset:020}.{}{}", kind.suffix(), stage.suffix()))
}

/// Base offset, kind and stage of a file that is not part of a segment; `None` for every other name.
pub(super) fn parse_staged(name: &str) -> Option<(Offset, Kind, Stage)> {
    let stage = Stage::ALL.into_iter().find(|stage| name.ends_with(stage.suffix()))?;
    let file = name.strip_suffix(stage.suffix())?;
    let base = base_offset(file)?;
    let (_, suffix) = file.split_once('.')?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
    Some((base, kind, stage))
}

/// The file of this kind.
pub(super) fn path(dir: &Path, base_offset: Offset, kind: Kind) -> PathBuf {
    dir.join(kind.file_name(base_offset))
}

/// Where recovery moves what it cuts; `attempt` tells apart cuts at the same position.
pub(super) fn quarantine(dir: &Path, base_offset: Offset, position: u64, attempt: u32) -> PathBuf {
    if attempt == 0 {
        return dir.join(format!("{base_offset:020}.{position}.quarantine"));
    }
    dir.join(format!("{base_offset:020}.{position}.{attempt}.quarantine"))
}

/// The base offset of a `.log` file, `None` for every other name.
pub(super) fn base_offset_of_log(name: &str) -> Option<Offset> {
    base_offset(name).filter(|_| name.ends_with(".log"))
}

/// The base offset of any of a segment's files, `None` for every other name.
pub(crate) fn base_offset(name: &str) -> Option<Offset> {
    let (digits, suffix) = name.split_once('.')?;
    let is_number = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    let is_ours = Kind::ALL.iter().any(|kind| kind.suffix() == suffix);
    let base_offset = digits.parse().ok().filter(|base| *base <= BASE_OFFSET_MAX);
    if is_number && is_ours { base_offset } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas_and_only_log_files_have_a_base_offset() {
        let log = path(Path::new("/d"), 42, Kind::Log);
        assert_eq!(log, Path::new("/d/00000000000000000042.log"));
        assert_eq!(base_offset_of_log("00000000000000000042.log"), Some(42));
        for other in ["00000000000000000042.index", "42.log", "+0000000000000000042.log", ".log"] {
            assert_eq!(base_offset_of_log(other), None, "{other}");
        }
        let swap = staged(Path::new("/d"), 42, Kind::TimeIndex, Stage::Swap);
        assert_eq!(swap, Path::new("/d/00000000000000000042.timeindex.swap"));
        for stage in Stage::ALL {
            for kind in Kind::ALL {
                let path = staged(Path::new("/d"), 42, kind, stage);
                let name = path.file_name().unwrap().to_str().unwrap();
                assert_eq!(parse_staged(name), Some((42, kind, stage)));
                assert_eq!((base_offset(name), base_offset_of_log(name)), (None, None));
            }
        }
        for other in ["00000000000000000042.log", "x.log.swap", "00000000000000000042.swap"] {
            assert_eq!(parse_staged(other), None, "{other}");
        }
        assert_eq!(base_offset_of_log("99999999999999999999.log"), None);
        assert_eq!(base_offset_of_log("09223372036854775807.log"), None);
        assert_eq!(base_offset("00000000000000000042.seal"), Some(42));
        assert_eq!(base_offset("00000000000000000042.7.quarantine"), None);
        assert_eq!(
            quarantine(Path::new("/d"), 42, 7, 1),
            Path::new("/d/00000000000000000042.7.1.quarantine")
        );
    }
}
