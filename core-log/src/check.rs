//! Looks at everything in a log directory, and mends what can be mended.
//!
//! Why apart from opening: a start reads as little as it may and decides nothing that it cannot prove.
//! What lies behind damage, and what may be given up for it, is for a person to see first.
//!
//! ```text
//!   verify       directory -> examination -> report          changes nothing
//!   plan_repair  directory -> examination -> plan            changes nothing, keeps the lock
//!   execute      plan -> files, one action after the other   what is taken out goes to quarantine
//!   open         makes again what can be made again, ends what is open
//! ```
//!
//! Invariants
//! * Nothing is deleted: what is taken out of a file is durable in a file of its own before.
//! * An offset that was given to a record is never given to another one.
//! * Each action can be done again, and the others do not need it: after a crash a new plan holds what
//!   is left to do.
//!
//! Reference: Kafka `DumpLogSegments`; design.md "The log" 5.

mod commits;
mod execute;
mod look;
mod partition;
mod plan;
mod report;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use plan::{LostRange, RepairAction, RepairPlan};
pub use report::{Finding, FindingKind, VerifyReport};

use crate::error::Result;
use crate::log::Log;
use crate::owner::LogOptions;
use look::Look;

impl Log {
    /// Reads everything in the log directory `dir`, which nobody may have open, and says what is wrong:
    /// checksums of all batches, indexes and seals against them, snapshots against what the batches say,
    /// commit records against markers. Changes nothing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # core_log::Log::open(dir.path())?.close()?;
    /// let report = core_log::Log::verify(dir.path())?;
    /// assert!(report.is_sound(), "{report}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`LogOptions::open`]; damage is no error.
    pub fn verify(dir: impl AsRef<Path>) -> Result<VerifyReport> {
        LogOptions::new().verify(dir)
    }

    /// Says what a repair of the log directory `dir`, which nobody may have open, would do; nothing is
    /// done before [`RepairPlan::execute`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # core_log::Log::open(dir.path())?.close()?;
    /// let plan = core_log::Log::plan_repair(dir.path())?;
    /// assert!(plan.is_empty(), "{plan}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`LogOptions::open`]; damage is no error.
    pub fn plan_repair(dir: impl AsRef<Path>) -> Result<RepairPlan> {
        LogOptions::new().plan_repair(dir)
    }
}

impl LogOptions {
    /// As [`Log::verify`], with other files than the machine's.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn verify(self, dir: impl AsRef<Path>) -> Result<VerifyReport> {
        let look = Look::at(self.own(dir.as_ref())?)?;
        Ok(report::report(&look))
    }

    /// As [`Log::plan_repair`], with other files than the machine's.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn plan_repair(self, dir: impl AsRef<Path>) -> Result<RepairPlan> {
        let look = Look::at(self.own(dir.as_ref())?)?;
        Ok(plan::plan(look))
    }
}
