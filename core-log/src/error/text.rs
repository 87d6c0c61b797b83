//! Parts of messages that depend on what is known.
//!
//! Why apart: `error` is a list of what can go wrong.

pub(super) fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

pub(super) fn doubt(is_in_doubt: bool) -> &'static str {
    if is_in_doubt { "may have been written" } else { "was not written" }
}

pub(super) fn did_you_mean(similar: Option<&str>) -> String {
    similar.map_or_else(String::new, |name| format!(": did you mean {name:?}?"))
}
