//! Parts of messages that depend on what is known.
//!
//! Why apart: `error` is a list of what can go wrong.

use std::path::Path;

use crate::ids::Offset;

pub(super) fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

pub(super) fn doubt(is_in_doubt: bool) -> &'static str {
    if is_in_doubt { "may have been written" } else { "was not written" }
}

pub(super) fn did_you_mean(similar: Option<&str>) -> String {
    similar.map_or_else(String::new, |name| format!(": did you mean {name:?}?"))
}

/// Where something is damaged. A file at the top of a log's directory is no partition's.
pub(super) fn damaged(
    topic: &str,
    partition: u32,
    path: &Path,
    position: u64,
    offset: Offset,
    reason: &str,
) -> String {
    let path_shown = path.display();
    if path.file_name().is_some_and(|name| name == topic) {
        return format!("{path_shown} is damaged: {reason}");
    }
    format!(
        "{topic}-{partition} is damaged from offset {offset} on: {path_shown} at byte {position}: {reason}"
    )
}
