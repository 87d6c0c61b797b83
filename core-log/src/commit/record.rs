//! The layouts of what `__commits` holds: commit records, snapshots, blocks of producer ids.
//!
//! Why: one record decides a transaction over any number of topics and partitions, together with the
//! offsets that it consumed; there is no second place that could disagree.
//!
//! Each is one record of a batch v2; integers are big-endian, counts are u32, names have a u8 length.
//!
//! ```text
//!   key:  version i16 (0) | kind i16 (0 commit, 1 snapshot, 2 producer ids)
//!
//!   commit:   transactional id | producer id i64 | producer epoch i16 | survives power loss u8
//!             | synced end of __commits i64
//!             | written:   count, (topic id 16, partition u32, end offset i64)
//!             | witnesses: count, (topic id 16, partition u32, synced offset i64)
//!             | offsets:   count, (group, topic id 16, partition u32, offset i64,
//!                                  leader epoch i32, metadata u32 length + bytes)
//!   snapshot: boot id u8 length + bytes | producer ids end i64
//!             | offsets:   count, (as above, then offset of the commit that set it i64)
//!             | witnesses: count, (as above)
//!             | live:      count, (offset i64, length u32, commit)
//!   ids:      producer ids end i64 | synced end of __commits i64
//! ```
//!
//! Invariants
//! * No count read from bytes sizes an allocation beyond the bytes that are there.
//! * A snapshot holds the state below its own offset, and whole every commit whose markers may be missing.
//!
//! On crash: the batch's CRC proves the whole record; a record is never read in part.
//! Reference: design.md "The log" 4; no counterpart in Kafka.

use bytes::{BufMut, Bytes};

use crate::ids::{
    GroupId, Offset, ProducerEpoch, ProducerId, TopicId, TopicPartition, TransactionalId,
};

const VERSION: i16 = 0;

/// The shortest that these can be: topic id, partition, offset; a position with a group of one byte and
/// no metadata; a commit with an id of one byte and empty lists.
const PARTITION_OFFSET_BYTES: usize = 16 + 4 + 8;
const OFFSET_BYTES_MIN: usize = 2 + PARTITION_OFFSET_BYTES + 4 + 4;
const COMMIT_BYTES_MIN: usize = 2 + 8 + 2 + 1 + 8 + 3 * 4;
/// The most bytes of metadata beside a committed offset (`offset.metadata.max.bytes`).
pub const METADATA_BYTES_MAX: usize = 4096;

/// A consumed position that a transaction commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// Whose position.
    pub group: GroupId,
    /// Which topic.
    pub topic: TopicId,
    /// Which partition.
    pub partition: u32,
    /// The next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record read; -1 when unknown.
    pub leader_epoch: i32,
    /// Bytes that the group keeps beside the position.
    pub metadata: Bytes,
}

impl OffsetCommit {
    /// A position without metadata, in an unknown leader epoch.
    ///
    /// ```
    /// use core_log::{GroupId, Log, OffsetCommit, TopicSettings};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let log = Log::open(dir.path())?;
    /// let clicks = log.create_topic("clicks", TopicSettings::default())?;
    /// let position = OffsetCommit::new(GroupId::new("readers")?, clicks.id(), 0, 7);
    /// assert_eq!((position.topic, position.offset), (clicks.id(), 7));
    /// assert_eq!((position.leader_epoch, position.metadata.len()), (-1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn new(group: GroupId, topic: TopicId, partition: u32, offset: Offset) -> Self {
        Self { group, topic, partition, offset, leader_epoch: -1, metadata: Bytes::new() }
    }

    /// The partition as one id.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: self.partition }
    }
}

/// Up to where a partition was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionOffset {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: Offset,
}

/// The decision to commit one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitRecord {
    pub(crate) transactional_id: TransactionalId,
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) survives_power_loss: bool,
    /// Below this offset `__commits` was synced when the record was written.
    pub(crate) commits_synced: Offset,
    /// Where its data ends in each partition that it wrote.
    pub(crate) written: Vec<PartitionOffset>,
    /// Up to where these partitions were synced when the record was written.
    pub(crate) witnesses: Vec<PartitionOffset>,
    pub(crate) offsets: Vec<OffsetCommit>,
}

/// A committed position, and which commit set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredOffset {
    pub(crate) commit: OffsetCommit,
    pub(crate) set_by: Offset,
}

/// All that `__commits` says, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) boot_id: String,
    /// Producer ids below this one may have been handed out.
    pub(crate) producer_ids_end: i64,
    pub(crate) offsets: Vec<StoredOffset>,
    pub(crate) witnesses: Vec<PartitionOffset>,
    pub(crate) live: Vec<(Offset, CommitRecord)>,
}

/// One record of `__commits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommitsRecord {
    Commit(CommitRecord),
    Snapshot(Snapshot),
    ProducerIds { end: i64, commits_synced: Offset },
}

/// What does not follow the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

impl CommitsRecord {
    /// The record's key.
    pub(crate) fn key(&self) -> [u8; 4] {
        let kind: i16 = match self {
            Self::Commit(_) => 0,
            Self::Snapshot(_) => 1,
            Self::ProducerIds { .. } => 2,
        };
        let mut key = [0; 4];
        key[..2].copy_from_slice(&VERSION.to_be_bytes());
        key[2..].copy_from_slice(&kind.to_be_bytes());
        key
    }

    /// The record's value.
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Commit(commit) => put_commit(&mut out, commit),
            Self::Snapshot(snapshot) => put_snapshot(&mut out, snapshot),
            Self::ProducerIds { end, commits_synced } => {
                out.put_i64(*end);
                out.put_i64(*commits_synced);
            }
        }
        out
    }

    /// Reads key and value of one record.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Malformed> {
        let mut key = Reader(key);
        if key.i16()? != VERSION {
            return Err(Malformed("its version is not known"));
        }
        let kind = key.i16()?;
        let mut value = Reader(value);
        let record = match kind {
            0 => Self::Commit(read_commit(&mut value)?),
            1 => Self::Snapshot(read_snapshot(&mut value)?),
            2 => Self::ProducerIds { end: value.i64()?, commits_synced: value.i64()? },
            _ => return Err(Malformed("its kind is not known")),
        };
        value.finish()?;
        Ok(record)
    }
}

fn count(items: usize) -> u32 {
    u32::try_from(items).expect("fewer than 2^32 items fit into memory")
}

fn put_short(out: &mut Vec<u8>, text: &str) {
    out.put_u8(u8::try_from(text.len()).expect("names and boot ids have at most 249 bytes"));
    out.put_slice(text.as_bytes());
}

fn put_partition(out: &mut Vec<u8>, partition: TopicPartition) {
    out.put_slice(&partition.topic.0);
    out.put_u32(partition.partition);
}

fn put_partition_offsets(out: &mut Vec<u8>, list: &[PartitionOffset]) {
    out.put_u32(count(list.len()));
    for item in list {
        put_partition(out, item.partition);
        out.put_i64(item.offset);
    }
}

fn put_offset(out: &mut Vec<u8>, commit: &OffsetCommit) {
    put_short(out, commit.group.as_str());
    put_partition(out, commit.topic_partition());
    out.put_i64(commit.offset);
    out.put_i32(commit.leader_epoch);
    out.put_u32(count(commit.metadata.len()));
    out.put_slice(&commit.metadata);
}

fn put_commit(out: &mut Vec<u8>, commit: &CommitRecord) {
    put_short(out, commit.transactional_id.as_str());
    out.put_i64(commit.producer_id.0);
    out.put_i16(commit.producer_epoch.0);
    out.put_u8(u8::from(commit.survives_power_loss));
    out.put_i64(commit.commits_synced);
    put_partition_offsets(out, &commit.written);
    put_partition_offsets(out, &commit.witnesses);
    out.put_u32(count(commit.offsets.len()));
    for offset in &commit.offsets {
        put_offset(out, offset);
    }
}

fn put_snapshot(out: &mut Vec<u8>, snapshot: &Snapshot) {
    put_short(out, &snapshot.boot_id);
    out.put_i64(snapshot.producer_ids_end);
    out.put_u32(count(snapshot.offsets.len()));
    for stored in &snapshot.offsets {
        put_offset(out, &stored.commit);
        out.put_i64(stored.set_by);
    }
    put_partition_offsets(out, &snapshot.witnesses);
    out.put_u32(count(snapshot.live.len()));
    for (offset, commit) in &snapshot.live {
        let mut body = Vec::new();
        put_commit(&mut body, commit);
        out.put_i64(*offset);
        out.put_u32(count(body.len()));
        out.put_slice(&body);
    }
}

fn read_partition_offsets(reader: &mut Reader<'_>) -> Result<Vec<PartitionOffset>, Malformed> {
    reader.list(PARTITION_OFFSET_BYTES, |r| {
        Ok(PartitionOffset { partition: r.partition()?, offset: r.i64()? })
    })
}

fn read_offset(reader: &mut Reader<'_>) -> Result<OffsetCommit, Malformed> {
    let group =
        GroupId::new(reader.short()?).map_err(|_bad| Malformed("a group id is not valid"))?;
    let TopicPartition { topic, partition } = reader.partition()?;
    Ok(OffsetCommit {
        group,
        topic,
        partition,
        offset: reader.i64()?,
        leader_epoch: reader.i32()?,
        metadata: Bytes::copy_from_slice(reader.sized()?),
    })
}

fn read_commit(reader: &mut Reader<'_>) -> Result<CommitRecord, Malformed> {
    Ok(CommitRecord {
        transactional_id: TransactionalId::new(reader.short()?)
            .map_err(|_bad| Malformed("its transactional id is not valid"))?,
        producer_id: ProducerId(reader.i64()?),
        producer_epoch: ProducerEpoch(reader.i16()?),
        survives_power_loss: match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("its durability is not known")),
        },
        commits_synced: reader.i64()?,
        written: read_partition_offsets(reader)?,
        witnesses: read_partition_offsets(reader)?,
        offsets: reader.list(OFFSET_BYTES_MIN, read_offset)?,
    })
}

fn read_snapshot(reader: &mut Reader<'_>) -> Result<Snapshot, Malformed> {
    Ok(Snapshot {
        boot_id: reader.short()?.to_owned(),
        producer_ids_end: reader.i64()?,
        offsets: reader.list(OFFSET_BYTES_MIN + 8, |r| {
            Ok(StoredOffset { commit: read_offset(r)?, set_by: r.i64()? })
        })?,
        witnesses: read_partition_offsets(reader)?,
        live: reader.list(COMMIT_BYTES_MIN + 12, |r| {
            let offset = r.i64()?;
            let mut body = Reader(r.sized()?);
            let commit = read_commit(&mut body)?;
            body.finish()?;
            Ok((offset, commit))
        })?,
    })
}

/// Reads from the front of a slice; never past its end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (front, rest) = self.0.split_at_checked(bytes).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (front, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*front)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn short(&mut self) -> Result<&'a str, Malformed> {
        let length = self.u8()?;
        std::str::from_utf8(self.take(usize::from(length))?)
            .map_err(|_bad| Malformed("a name is not UTF-8"))
    }

    fn sized(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_bad| Malformed("a length is too large"))?)
    }

    fn partition(&mut self) -> Result<TopicPartition, Malformed> {
        Ok(TopicPartition { topic: TopicId(self.array()?), partition: self.u32()? })
    }

    /// Reads a count and as many items, none of which is shorter than `bytes_min`: what is there bounds
    /// what the count sets aside.
    fn list<T>(
        &mut self,
        bytes_min: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let items = self.u32()?;
        let most = self.0.len() / bytes_min;
        let mut list = Vec::with_capacity(usize::try_from(items).unwrap_or(most).min(most));
        for _ in 0..items {
            list.push(item(self)?);
        }
        Ok(list)
    }

    fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("bytes are left over")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: u8, partition: u32) -> TopicPartition {
        TopicPartition { topic: TopicId([topic; 16]), partition }
    }

    fn offset() -> OffsetCommit {
        OffsetCommit {
            group: GroupId::new("g").unwrap(),
            topic: TopicId([2; 16]),
            partition: 3,
            offset: 4,
            leader_epoch: -1,
            metadata: Bytes::from_static(b"m"),
        }
    }

    fn commit() -> CommitRecord {
        CommitRecord {
            transactional_id: TransactionalId::new("job").unwrap(),
            producer_id: ProducerId(1_000),
            producer_epoch: ProducerEpoch(7),
            survives_power_loss: true,
            commits_synced: 5,
            written: vec![PartitionOffset { partition: partition(1, 0), offset: 10 }],
            witnesses: vec![PartitionOffset { partition: partition(1, 0), offset: 12 }],
            offsets: vec![offset()],
        }
    }

    fn round_trip(record: &CommitsRecord) {
        let value = record.value();
        assert_eq!(CommitsRecord::decode(&record.key(), &value).as_ref(), Ok(record));
        for cut in 0..value.len() {
            assert!(CommitsRecord::decode(&record.key(), &value[..cut]).is_err(), "{cut}");
        }
        let mut longer = value;
        longer.push(0);
        assert!(CommitsRecord::decode(&record.key(), &longer).is_err());
    }

    #[test]
    fn every_kind_of_record_reads_back_and_no_part_of_it_does() {
        round_trip(&CommitsRecord::Commit(commit()));
        round_trip(&CommitsRecord::ProducerIds { end: 2_000, commits_synced: 3 });
        round_trip(&CommitsRecord::Snapshot(Snapshot {
            boot_id: "boot".to_owned(),
            producer_ids_end: 3_000,
            offsets: vec![StoredOffset { commit: offset(), set_by: 9 }],
            witnesses: commit().witnesses,
            live: vec![(11, commit())],
        }));
    }

    #[test]
    fn a_commit_record_keeps_its_bytes() {
        let hex: String =
            CommitsRecord::Commit(commit()).value().iter().map(|b| format!("{b:02x}")).collect();
        let topic1 = "01".repeat(16);
        let topic2 = "02".repeat(16);
        let expected = [
            "036a6f62",
            "00000000000003e8",
            "0007",
            "01",
            "0000000000000005",
            "00000001",
            &topic1,
            "00000000",
            "000000000000000a",
            "00000001",
            &topic1,
            "00000000",
            "000000000000000c",
            "00000001",
            "0167",
            &topic2,
            "00000003",
            "0000000000000004",
            "ffffffff",
            "00000001",
            "6d",
        ];
        assert_eq!(hex, expected.concat());
    }

    #[test]
    fn a_commit_of_ten_thousand_partitions_reads_back() {
        let mut large = commit();
        large.written = (0..10_000)
            .map(|n| PartitionOffset { partition: partition(1, n), offset: i64::from(n) })
            .collect();
        let record = CommitsRecord::Commit(large);
        assert_eq!(CommitsRecord::decode(&record.key(), &record.value()), Ok(record));
    }

    #[test]
    fn a_huge_count_in_few_bytes_is_refused_without_allocating() {
        let mut value = CommitsRecord::Commit(commit()).value();
        let written_count = 4 + 8 + 2 + 1 + 8;
        value[written_count..written_count + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(CommitsRecord::decode(&[0; 4], &value).is_err());
    }
}
