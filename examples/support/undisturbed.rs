//! Runs an example's job in this process to the end of its input.

use streams::Progress;
use streams::prelude::{App, millis};

use super::support::Outcome;

/// Runs a job until it has read everything there is and committed it.
///
/// # Errors
///
/// The job failed.
pub(crate) fn run_to_the_end(app: App) -> Outcome<Progress> {
    let handle = app.start()?;
    while !handle.is_idle_for(millis(50)) && !handle.wait_timeout(millis(5)) {}
    handle.stop();
    Ok(handle.wait()?)
}
