//! How much of a suite runs: a fixed slice of it, or for as long as was asked for.

use std::ops::ControlFlow;
use std::sync::Arc;

use core_log::{Clock, SystemClock};

/// Seconds for each suite; without it the short slice runs.
const SECONDS: &str = "TORTURE_SECONDS";
/// The first seed.
const SEED: &str = "TORTURE_SEED";

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a whole number")))
}

/// Runs `each` seed until `slice` states were seen, or the time is up; each answers how many it saw, or
/// what was wrong. Prints the figures, and how to repeat a failure.
#[expect(clippy::print_stdout, reason = "the figures of a long run are its result")]
pub(crate) fn run(suite: &str, slice: u64, mut each: impl FnMut(u64) -> Result<u64, String>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let first = number(SEED).unwrap_or(1);
    let seconds = number(SECONDS);
    let is_over = |states: u64| match seconds {
        Some(seconds) if clock.monotonic().as_secs() >= seconds => ControlFlow::Break(()),
        None if states >= slice => ControlFlow::Break(()),
        Some(_) | None => ControlFlow::Continue(()),
    };
    let (mut states, mut seed) = (0, first);
    while is_over(states).is_continue() {
        match each(seed) {
            Ok(seen) => states += seen,
            Err(wrong) => panic!(
                "{suite}: {wrong}\nrepeat it: {SEED}={seed} cargo test -p core-log --features \
                 test-util --test torture -- {suite}"
            ),
        }
        seed += 1;
    }
    println!("{suite}: {states} states of {} workloads", seed - first);
}
