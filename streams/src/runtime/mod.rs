//! Runs a topology: tasks, workers, and the commit of the whole job.
//!
//! ```text
//!   threads/       Coordinator -- Begin / Prepare / Committed --> one thread per worker
//!                      |   `---- Sealed ---> commit thread            |
//!   commit.rs      Committer: two transactions in turn            Worker::step(task)
//!                      |                                              |
//!                      `-------- positions, watermarks <---------- Task (sub-topology x partition)
//! ```
//!
//! Why values: a worker and the committer only do what they are told, step by step; threads and the
//! simulator are two ways to tell them.
//!
//! Invariants
//! * a task belongs to one worker; nothing is shared between tasks.
//! * one transaction takes all that the job did since the last one; its commit runs beside the next.
//!
//! On crash: drop everything in memory, start over from the last commit.

mod bell;
mod clock_log;
mod commit;
mod held;
mod input;
mod late_log;
mod origin;
mod plan;
mod progress;
pub(crate) mod query;
mod report;
mod reset;
mod restore;
mod silence;
mod stopped;
mod task;
mod threads;
mod window_times;
mod worker;

pub(crate) use clock_log::{RaiseRecord, ReadingRecord};
pub(crate) use commit::{Committer, Sealed};
pub(crate) use input::InputTime;
pub(crate) use late_log::decode_judged;
pub(crate) use plan::{JobPlan, knowing};
pub use progress::Progress;
pub use report::HoldingBack;
pub(crate) use reset::{FindTime, Move, Reset, ResetTo};
pub(crate) use silence::{Plan, plan as plan_raises};
pub(crate) use stopped::StoppedStores;
pub(crate) use task::OpenStores;
pub(crate) use threads::{Control, run, run_until_stopped};
pub(crate) use worker::{Prepared, Worker};

use std::sync::Arc;

use crate::dsl::Topology;

/// The function that builds a topology; called once for each task.
pub(crate) type Build = Arc<dyn Fn(&mut Topology) + Send + Sync>;
