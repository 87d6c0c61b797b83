//! `topic create NAME --partitions N`.

use std::time::Duration;

use core_log::{LogOptions, TopicName, TopicSettings};

use super::{Ended, print};
use crate::app::App;
use crate::error::Result;

/// How long to wait for whoever only looks at the log.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Creates the topic, and the log where there is none yet.
pub(super) fn create(app: &App, name: &str, partitions: u32) -> Result<Ended> {
    // Must be BEFORE the log is opened, or else a bad name would leave an empty log behind.
    TopicName::new(name).map_err(core_log::Error::from)?;
    let log = LogOptions::new().lock_timeout(LOCK_PATIENCE).open(app.log_dir())?;
    let settings = TopicSettings { partitions, ..TopicSettings::default() };
    let created = log.create_topic(name, settings);
    log.close()?;
    created?;
    let dir = app.log_dir().display();
    let s = if partitions == 1 { "" } else { "s" };
    print::text(&format!("created topic {name} with {partitions} partition{s} in {dir}\n"))
}
