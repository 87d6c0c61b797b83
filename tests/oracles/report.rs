//! What became of each case, and how it is printed.
//!
//! ```text
//!   FILE passed failed unsupported differs          one line per file, fields separated by blanks
//!     CASE: unsupported: table_table_join           two blanks; one line per case that has not passed
//!     CASE: differs: Kafka waits until ...
//!     CASE: FAILED step 4: expected .., got ..
//! ```
//!
//! Invariants
//! * A case that is not passed always says why.
//! * Only `FAILED` makes the run fail.

use std::fmt::{self, Debug, Display};
use std::io::{self, Write};

/// Why a case is not passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Headwater answers something else than Kafka, and nobody meant it to.
    Failed(String),
    /// It needs something that is not built, or the file is not understood.
    Unsupported(String),
    /// Headwater answers something else on purpose.
    Differs(String),
}

pub(crate) type Outcome<T = ()> = Result<T, Stop>;

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => write!(f, "FAILED {}", line(reason)),
            Self::Unsupported(reason) => write!(f, "unsupported: {}", line(reason)),
            Self::Differs(reason) => write!(f, "differs: {}", line(reason)),
        }
    }
}

/// A reason on one line.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn failed(reason: impl Into<String>) -> Stop {
    Stop::Failed(reason.into())
}

pub(crate) fn unsupported(reason: impl Into<String>) -> Stop {
    Stop::Unsupported(reason.into())
}

/// Fails when the two are not equal.
pub(crate) fn same<T: PartialEq + Debug>(what: &str, expected: &T, found: &T) -> Outcome {
    if expected == found {
        return Ok(());
    }
    Err(failed(format!("{what}: expected {expected:?}, got {found:?}")))
}

/// A file and its cases.
pub(crate) struct FileReport {
    pub(crate) file: String,
    pub(crate) cases: Vec<(String, Outcome)>,
}

/// Cases by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) unsupported: usize,
    pub(crate) differs: usize,
}

impl Counts {
    fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(Stop::Failed(_)) => self.failed += 1,
            Err(Stop::Unsupported(_)) => self.unsupported += 1,
            Err(Stop::Differs(_)) => self.differs += 1,
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.unsupported += other.unsupported;
        self.differs += other.differs;
    }
}

impl FileReport {
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.cases.iter().for_each(|(_, outcome)| counts.count(outcome));
        counts
    }

    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Counts { passed, failed, unsupported, differs } = self.counts();
        writeln!(out, "{} {passed} {failed} {unsupported} {differs}", self.file)?;
        for (case, outcome) in &self.cases {
            if let Err(stop) = outcome {
                writeln!(out, "  {}: {stop}", line(case))?;
            }
        }
        Ok(())
    }
}
