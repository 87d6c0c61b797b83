//! `topic create NAME --partitions N`.

use core_log::{Log, TopicSettings};

use super::{Ended, print};
use crate::app::App;
use crate::error::Result;

/// Creates the topic, and the log where there is none yet.
pub(super) fn create(app: &App, name: &str, partitions: u32) -> Result<Ended> {
    let log = Log::open(app.log_dir())?;
    let settings = TopicSettings { partitions, ..TopicSettings::default() };
    log.create_topic(name, settings)?;
    log.close()?;
    let dir = app.log_dir().display();
    print::text(&format!("created topic {name} with {partitions} partitions in {dir}\n"))
}
