//! An embedded, partitioned commit log with Kafka's semantics and Kafka's record batch on disk.
//!
//! Producers append batches of records to the partitions of topics; transactions span any number of
//! them and carry consumed positions; readers see what is committed, or as durable as promised. What
//! is acknowledged survives what its writer asked for, up to a power cut.
//!
//! It is not: a server, a cluster, or a database. There is no network and no replication; one process
//! owns a log directory, and another one can look at it through its owner's socket.
//!
//! Start at [`Log`]; [`Producer`] and [`Log::transaction`] write, [`PartitionReader`] reads, from any offset or
//! time on.

mod admin;
mod check;
pub mod clock;
mod commit;
mod config;
mod consumer;
pub mod error;
pub mod format;
mod group;
pub mod ids;
pub mod inspect;
mod locks;
mod log;
mod maintenance;
mod members;
mod operators;
mod owner;
mod partition;
pub mod partitioner;
mod producer;
pub mod segment;
pub mod storage;
mod topic;
mod transaction;

/// The partition layer and the format, as runners of recorded scenarios need them: for conformance
/// runners, without any stability.
#[cfg(any(test, feature = "test-util"))]
pub mod conformance {
    pub mod fuzz;

    pub use crate::format::again::encode_again;
    pub use crate::partition::layer::{
        BatchClaim, CompactionPass, KnownProducer, LayerCompaction, LayerOptions, MarkerOutcome,
        MarkerRule, PartitionLayer,
    };
}

pub use check::{Finding, FindingKind, LostRange, RepairAction, RepairPlan, VerifyReport};
#[cfg(any(test, feature = "memory"))]
pub use clock::ManualClock;
pub use clock::{Clock, SystemClock};
#[cfg(any(test, feature = "test-util"))]
pub use commit::Broken;
pub use commit::recovery::RolledBack;
pub use commit::{METADATA_BYTES_MAX, OffsetCommit};
pub use config::{
    Cleanup, CleanupPolicy, Durability, InvalidCleanupPolicy, InvalidRatio, InvalidTimestampType,
    PARTITIONS_MAX, ProducerSettings, Ratio, TimestampType, TopicSettings,
};
pub use consumer::{FetchSource, PartitionReader, ReadBatch};
pub use error::{Error, GroupError, Recourse, Result};
pub use format::{
    BatchBuilder, BatchHeader, BatchView, Compression, CompressionType, DecodeError, HEADER_LEN,
    Headers, NO_HEADERS, RecordBatch, RecordRef,
};
pub use group::{
    AutoCommit, Consumer, ConsumerSettings, Group, IsolationLevel, Lag, MemberDescription,
    OffsetAndMetadata, OffsetReset, PendingCommit, Polled, PolledBatch, PolledRecord, Shared,
    SharedConsumer, SharedRecord, SharedSettings, Wakeup,
};
pub use ids::{
    GroupId, LogId, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId, TopicName,
    TopicPartition, TransactionalId,
};
pub use log::{
    AdoptedTopic, EndedTransaction, Log, PartitionRecovery, RecoveryReport, UnrecordedCommit,
};
pub use members::{Acknowledge, Assignor, PartitionName, Subscriber, assign};
pub use operators::{
    AbortOutcome, ProducerInfo, TransactionInfo, TransactionPartition, TransactionState,
};
pub use owner::{AttachedLog, LogOptions, LogView};
pub use partition::append::Appended;
pub use partition::{FetchBound, Fetched, PartitionOffsets};
pub use partitioner::{murmur2, partition_for};
pub use producer::{
    Acknowledged, Acknowledgement, BatchingProducer, CommitOutcome, CommitWith, Flush, Producer,
    ProducerStatistics, Record, SendAsync, Transaction, TransactionalProducer, TrySendError,
};
pub use segment::AbortedTransaction;
pub use topic::Topic;
pub use transaction::{BufferedTransaction, TRANSACTION_TIMEOUT_MAX, TransactionSettings};
