//! What a row cache may hold, and for how long.

/// The limits of one store partition in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheOptions {
    /// Rows that may wait before a flush starts. Default 131 072.
    pub dirty_rows_max: usize,
    /// Bytes that may wait before a flush starts, tables included. Default 32 MiB.
    pub dirty_bytes_max: usize,
    /// Bytes of rows that are on disk too. Default 32 MiB; 0 keeps none. Half as many again are kept
    /// decoded, in front of this cache.
    pub clean_bytes_max: usize,
    /// How long a row may wait before a flush starts, in milliseconds. Default 30 000.
    pub flush_every_ms: i64,
    /// A deliberate mistake, to show that a checker can fail. Default none.
    pub broken: Option<BrokenFlush>,
}

/// A deliberate mistake, to show that a checker can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokenFlush {
    /// The next flush of a store begins before the last one has ended.
    Overlap,
    /// The checkpoint is that of the last commit when the flush ends, not that of its rows.
    LateCheckpoint,
    /// Rows whose commit is not decided are flushed with the others.
    Undecided,
    /// Rows become committed as the next transaction has changed them since.
    ChangedRows,
}

impl Default for CacheOptions {
    fn default() -> Self {
        CacheOptions {
            dirty_rows_max: 131_072,
            dirty_bytes_max: 32 * 1024 * 1024,
            clean_bytes_max: 32 * 1024 * 1024,
            flush_every_ms: 30_000,
            broken: None,
        }
    }
}
