//! Aborted.
pub(crate) fn write_share(_dir: &std::path::Path, _share: usize) {}
