//! The files that a partition has before its first segment.
//!
//! ```text
//!   log-start-offset          0 topic-partition
//!   leader-epoch-checkpoint   epoch 0 from offset 0
//!   partition.metadata        the topic's id
//!   cleaner-offset-checkpoint nothing was cleaned; where the topic is compacted
//! ```
//!
//! Why first: whoever finds a partition without them knows that they were lost.
//!
//! On crash: a creation that did not finish leaves the front of them, and is told by that.

use super::compaction::checkpoint::{self, Checkpoint};
use super::leader_epochs::{self, LeaderEpochs};
use super::trim::{LOG_START_FILE, log_start_text};
use super::{text_file, topic_id};
use crate::error::{Error, Result};
use crate::ids::TopicId;
use crate::segment::Place;
use crate::storage::Storage;

/// The files that say where a new partition begins; its directory is synced with its first segment.
pub(crate) fn create(
    storage: &dyn Storage,
    place: &Place,
    topic: TopicId,
    is_compacted: bool,
) -> Result<()> {
    let log_start = (LOG_START_FILE, text_file::sealed(&log_start_text(place, 0)));
    let epochs = (leader_epochs::FILE_NAME, LeaderEpochs::first().to_text());
    let id = (topic_id::FILE_NAME, topic_id::to_text(topic));
    let cleaned = (checkpoint::FILE_NAME, text_file::sealed(&Checkpoint::default().to_text()));
    let cleaned = is_compacted.then_some(cleaned);
    for (name, text) in [log_start, epochs, id].into_iter().chain(cleaned) {
        let path = place.dir.join(name);
        if !storage.exists(&path).map_err(|e| Error::io(&path, "look for", e))? {
            text_file::create(storage, &place.dir, name, text.as_bytes())?;
        }
    }
    Ok(())
}

/// Whether a file is one of those that a partition has before its first segment, as it was made then.
pub(crate) fn is_made_first(storage: &dyn Storage, place: &Place, name: &str) -> Result<bool> {
    let bytes = || text_file::read_bytes(storage, &place.dir.join(name));
    let is_made_with =
        |text: &str| Ok(bytes()?.is_some_and(|bytes| text.as_bytes().starts_with(&bytes)));
    match name {
        LOG_START_FILE => is_made_with(&text_file::sealed(&log_start_text(place, 0))),
        leader_epochs::FILE_NAME => is_made_with(&LeaderEpochs::first().to_text()),
        // Each attempt draws another id.
        topic_id::FILE_NAME => Ok(bytes()?.is_some_and(|bytes| topic_id::is_front(&bytes))),
        checkpoint::FILE_NAME => is_made_with(&text_file::sealed(&Checkpoint::default().to_text())),
        _ => Ok(false),
    }
}
