//! Logs that are right and logs with one deliberate mistake, for the same scenario.
//!
//! Why: a scenario that no mistake can fail says nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::DIR;
use crate::clock::ManualClock;
use crate::commit::Broken;
use crate::log::Log;
use crate::owner::LogOptions;
use crate::storage::Storage;
use crate::storage::careless::{CarelessStorage, Neglect};
use crate::storage::memory::MemoryStorage;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    Right,
    /// A log that errs in its protocol.
    Mistake(Broken),
    /// A log that leaves out one of its duties towards the disk.
    Careless(Neglect),
}

impl Variant {
    pub(super) fn options(self, storage: &MemoryStorage) -> LogOptions {
        let inner = storage.clone();
        let files: Arc<dyn Storage> = match self {
            Self::Careless(neglect) => Arc::new(CarelessStorage { inner, neglect }),
            Self::Right | Self::Mistake(_) => Arc::new(inner),
        };
        let clock = Arc::new(ManualClock::new(1_000_000));
        let options = LogOptions::new().storage(files).clock(clock).background(false);
        match self {
            Self::Mistake(broken) => options.broken(broken),
            Self::Right | Self::Careless(_) => options,
        }
    }

    pub(super) fn open(self, storage: &MemoryStorage) -> Log {
        self.options(storage).open(DIR).unwrap()
    }
}

/// Runs a scenario that asserts: a right log passes it, the wrong ones do not.
pub(super) fn holds_unless(scenario: fn(Variant), wrong: &[Variant]) {
    scenario(Variant::Right);
    for variant in wrong {
        let outcome = catch_unwind(AssertUnwindSafe(|| scenario(*variant)));
        assert!(outcome.is_err(), "{variant:?} went unnoticed");
    }
}
