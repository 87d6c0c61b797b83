//! An embedded, partitioned commit log with Kafka's semantics and Kafka's record batch on disk.

pub mod clock;
pub mod error;
pub mod format;
pub mod ids;
pub mod partitioner;
pub mod segment;
pub mod storage;
