//! Is a job exactly-once, whatever crashes there are? Asked of the user's own topology.
//!
//! ```text
//!   inputs --> without crashes, seed 0 ----------------------> what each output must tell
//!          --> seed 1: interleaving, commits, crashes -------> the same?  and each store
//!          --> seed 2: ..                                      what its changelog says?
//! ```
//!
//! Why against itself: the crash-free run of the same job on the same input is the only model that
//! needs no second implementation.
//!
//! Invariants
//! * a seed decides everything: the same one gives the same run, also alone (`SEED`).
//! * runs are compared with a run over the same number of partitions: which partition a record is
//!   in may decide whether it is late.
//! * an output is compared in what the topology promises: see `topology/told.rs`.

mod compare;
mod inputs;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use compare::{Outcome, difference};
pub use inputs::Inputs;

use super::TestDriver;
use super::random::Random;
use crate::dsl::Topology;
use crate::error::Result;
use crate::runtime::Build;

/// The environment variable that names the one seed to be run.
const SEED: &str = "SEED";
/// Source topics have so many partitions at most.
const PARTITIONS_MAX: u64 = 4;
/// About how often a run crashes for each time that it does all of its work.
const CRASHES: [u64; 5] = [0, 1, 2, 4, 8];
/// Closer crashes would leave no time for a commit.
const CRASH_EVERY_MIN: u64 = 60;
/// Seeds without crashes that are tried before crashes are blamed.
const TRIED: u64 = 16;

/// Checks that a job is exactly-once: runs it on `inputs` once for each seed, with random interleavings,
/// commits, numbers of partitions and crashes, and compares each run with one without crashes.
///
/// Compared are, for each topic that the job writes, the records of each key in order; where the order
/// between source partitions is free (behind `key_by` and repartitions), without it; where each change of
/// a table is told, the last value. Further: how many records came late or were skipped, and each store
/// with what its changelog alone makes of it. At the end the clocks of all sources are raised, so that
/// windows close: see [`Inputs::advance_to`].
///
/// The failing seed is printed, with the command that repeats it: `SEED=17 cargo test NAME`. For
/// settings of the driver see [`Check`].
///
/// ```
/// use streams::prelude::*;
/// use streams::testing::{Inputs, check_exactly_once};
/// const CLICKS: Topic<NoKey, String> = topic("clicks");
/// const COUNTS: Topic<Windowed<String>, u64> = topic("counts");
/// fn topology(t: &mut Topology) {
///     let clicks = t.stream(CLICKS).key_by(|page| page.clone());
///     clicks.window(tumbling(secs(1))).count("clicks-per-page").on_close().to(COUNTS);
/// }
/// let mut inputs = Inputs::new();
/// for i in 0..200 {
///     inputs = inputs.send_at(CLICKS, NoKey, format!("/{}", i % 3), i * 20);
/// }
/// check_exactly_once(topology, inputs, 20 /* seeds */);
/// ```
///
/// # Panics
///
/// A run differs, or failed; the message says how to repeat it.
pub fn check_exactly_once(
    topology: impl Fn(&mut Topology) + Send + Sync + 'static,
    inputs: Inputs,
    seeds: u64,
) -> Checked {
    match Check::new(topology, inputs).seeds(seeds).run() {
        Ok(checked) => checked,
        Err(found) => panic!("{found}"),
    }
}

/// [`check_exactly_once`] with settings, and with the failure as a value.
///
/// ```
/// use streams::prelude::*;
/// use streams::testing::{Check, Inputs};
/// const IN: Topic<String, u64> = topic("in");
/// const OUT: Topic<String, u64> = topic("out");
/// fn topology(t: &mut Topology) {
///     t.stream(IN).try_map(|n| n.checked_sub(2).ok_or("too small")).to(OUT);
/// }
/// let inputs = (0..50).fold(Inputs::new(), |all, n| all.send(IN, format!("k{}", n % 3), n));
/// let skip = |d: TestDriver| d.on_error(OnError::Skip);
/// let checked = Check::new(topology, inputs).seeds(10).with(skip).run().unwrap();
/// assert_eq!(checked.seeds, 10);
/// ```
#[must_use = "nothing is checked before `run()`"]
pub struct Check {
    build: Build,
    inputs: Inputs,
    seeds: u64,
    with: Box<dyn Fn(TestDriver) -> TestDriver>,
}

/// A check that has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Seeds that were run.
    pub seeds: u64,
    /// Crashes in all runs together.
    pub crashes: u64,
    /// Topics of which nothing was compared, because what they tell depends on when commits fall.
    pub not_compared: Vec<String>,
}

/// A run that is not as the one without crashes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotExactlyOnce {
    /// The seed of the run.
    pub seed: u64,
    /// What differs, or how the job failed.
    pub difference: String,
    /// Why it differs, as far as further runs have shown.
    pub cause: Cause,
}

/// Why a run differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Two equal runs without crashes differ: a closure of the job uses something besides its arguments.
    NotDeterministic,
    /// It differs without crashes too: how tasks take turns, or when commits fall, changes the answer.
    Interleaving,
    /// Only with crashes.
    Crashes,
    /// The job stopped with an error.
    Failed,
}

impl fmt::Display for NotExactlyOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, difference, cause } = self;
        writeln!(f, "seed {seed}: {difference}")?;
        let why = match cause {
            Cause::NotDeterministic => {
                "two runs of seed 0 without crashes differ as well: the job is not deterministic. A closure \
                 uses a clock, a random number, a counter of its own or the order of a HashMap"
            }
            Cause::Interleaving => {
                "it differs without crashes too: the answer depends on the order in which records of \
                 different partitions arrive, or on when commits fall. help: fold what can come in any \
                 order, or put the records in order behind the repartition"
            }
            Cause::Crashes => "without crashes, this seed and others give the right answer",
            Cause::Failed => "the job stopped",
        };
        writeln!(f, "  {why}")?;
        let thread = std::thread::current();
        let test = thread.name().filter(|name| *name != "main").unwrap_or_default();
        let command = format!("{SEED}={seed} cargo test {test}");
        write!(f, "  repeat it: {}", command.trim_end())
    }
}

impl std::error::Error for NotExactlyOnce {}

impl Check {
    /// A check of this job on these inputs, with 100 seeds.
    pub fn new(topology: impl Fn(&mut Topology) + Send + Sync + 'static, inputs: Inputs) -> Self {
        let with = Box::new(|driver| driver);
        Self { build: Arc::new(topology), inputs, seeds: 100, with }
    }

    /// How many seeds are run. With the environment variable `SEED` only that one is.
    pub fn seeds(mut self, seeds: u64) -> Self {
        self.seeds = seeds;
        self
    }

    /// Settings for all drivers: `.with(|driver| driver.idle_after(secs(10)))`. Seed, partitions and
    /// crashes are set before that.
    pub fn with(mut self, with: impl Fn(TestDriver) -> TestDriver + 'static) -> Self {
        self.with = Box::new(with);
        self
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// [`NotExactlyOnce`]: the first seed whose run differs from the one without crashes.
    ///
    /// # Panics
    ///
    /// If `SEED` is set and is no number.
    pub fn run(self) -> Result<Checked, NotExactlyOnce> {
        let only = std::env::var(SEED).ok().filter(|text| !text.is_empty());
        let only = only.map(|text| text.parse().expect("SEED is the number of a seed"));
        let seeds = only.map_or(0..self.seeds, |seed: u64| seed..seed + 1);
        let mut expected: BTreeMap<u32, Outcome> = BTreeMap::new();
        let (mut crashes, count) = (0, seeds.end - seeds.start);
        for seed in seeds {
            let mut random = Random::new(seed);
            let partitions = u32::try_from(1 + random.below(PARTITIONS_MAX)).expect("a few");
            let crashes_wanted = random.one_of(&CRASHES);
            let expected = match expected.entry(partitions) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let outcome = self.outcome(0, partitions, None);
                    place.insert(outcome.map_err(|e| failed(seed, &e))?)
                }
            };
            let crash_every = crash_every(expected.processed, crashes_wanted);
            let found = self.outcome(seed, partitions, crash_every);
            let found = found.map_err(|e| failed(seed, &e))?;
            crashes += found.crashes;
            if let Some(difference) = difference(expected, &found) {
                let cause = self.cause(seed, partitions, expected);
                return Err(NotExactlyOnce { seed, difference, cause });
            }
        }
        let unsure = expected.into_values().next().map(|outcome| outcome.unsure());
        Ok(Checked { seeds: count, crashes, not_compared: unsure.unwrap_or_default() })
    }

    /// Why a seed differs.
    fn cause(&self, seed: u64, partitions: u32, expected: &Outcome) -> Cause {
        let differs = |seed| match self.outcome(seed, partitions, None) {
            Ok(found) => difference(expected, &found).is_some(),
            Err(_) => true,
        };
        if differs(0) {
            Cause::NotDeterministic
        } else if (seed..=seed.saturating_add(TRIED)).any(differs) {
            Cause::Interleaving
        } else {
            Cause::Crashes
        }
    }

    /// All that one run leaves.
    fn outcome(&self, seed: u64, partitions: u32, crash_every: Option<u64>) -> Result<Outcome> {
        let driver = TestDriver::of(Arc::clone(&self.build)).partitions(partitions).seed(seed);
        let driver = match crash_every {
            Some(records) => driver.crash_every(records),
            None => driver,
        };
        let mut driver = (self.with)(driver);
        self.inputs.send_all(&mut driver);
        driver.engine.drive(None)?;
        driver.engine.drive(Some(self.inputs.end()))?;
        Outcome::of(driver)
    }
}

/// How many records lie between so many crashes.
fn crash_every(processed: u64, crashes: u64) -> Option<u64> {
    processed.checked_div(crashes).map(|every| every.max(CRASH_EVERY_MIN))
}

fn failed(seed: u64, error: &crate::error::Error) -> NotExactlyOnce {
    let difference = format!("the job failed: error[{}]: {error}", error.code());
    NotExactlyOnce { seed, difference, cause: Cause::Failed }
}

#[cfg(test)]
mod tests;
