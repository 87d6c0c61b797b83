//! What `__commits` holds, as text.

use std::fmt::Write;

use super::{Item, Teller};
use crate::commit::record::{CommitRecord, CommitsRecord, PartitionOffset, Snapshot};
use crate::format::BatchView;

/// Tells the one record of a batch of `__commits`.
pub(super) fn record(teller: &mut Teller<'_>, batch: &BatchView<'_>) {
    let mut records = batch.records();
    let record = match records.next() {
        Some(Ok(record)) => record,
        Some(Err(bad)) => return teller.problem(None, &bad),
        None => return teller.problem(None, &"the batch is empty"),
    };
    let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
    match CommitsRecord::decode(key, value) {
        Ok(decoded) => {
            let text = describe(&decoded);
            teller.tell(&Item::Commit { offset: record.offset, text: &text });
        }
        Err(bad) => teller.problem(None, &format_args!("the record: {bad}")),
    }
    if records.next().is_some() {
        teller.problem(None, &"the batch holds more than one record");
    }
}

fn describe(record: &CommitsRecord) -> String {
    let mut text = String::new();
    let written = match record {
        CommitsRecord::Commit(commit) => put_commit(&mut text, commit),
        CommitsRecord::Snapshot(snapshot) => put_snapshot(&mut text, snapshot),
        CommitsRecord::ProducerIds { end, commits_synced } => {
            write!(text, "producer ids below {end}, synced to {commits_synced}")
        }
    };
    written.expect("writing to a string cannot fail");
    text
}

fn put_partitions(text: &mut String, word: &str, list: &[PartitionOffset]) -> std::fmt::Result {
    if list.is_empty() {
        return Ok(());
    }
    write!(text, ", {word}")?;
    for item in list {
        write!(text, " {}@{}", item.partition, item.offset)?;
    }
    Ok(())
}

fn put_commit(text: &mut String, commit: &CommitRecord) -> std::fmt::Result {
    let (id, producer, epoch) =
        (&commit.transactional_id, commit.producer_id, commit.producer_epoch);
    write!(text, "commit of {id:?}, producer {producer} epoch {epoch}")?;
    let durability = if commit.survives_power_loss { "synced" } else { "not synced" };
    write!(text, ", {durability}")?;
    put_partitions(text, "wrote", &commit.written)?;
    put_partitions(text, "witnesses", &commit.witnesses)?;
    for offset in &commit.offsets {
        let partition = offset.topic_partition();
        write!(text, ", group {:?} at {partition}@{}", offset.group.as_str(), offset.offset)?;
    }
    Ok(())
}

fn put_snapshot(text: &mut String, snapshot: &Snapshot) -> std::fmt::Result {
    let end = snapshot.producer_ids_end;
    write!(
        text,
        "snapshot, start of the machine {:?}, producer ids below {end}",
        snapshot.boot_id
    )?;
    put_partitions(text, "witnesses", &snapshot.witnesses)?;
    for stored in &snapshot.offsets {
        let (commit, by) = (&stored.commit, stored.set_by);
        let (group, partition) = (commit.group.as_str(), commit.topic_partition());
        write!(text, ", group {group:?} at {partition}@{} by commit {by}", commit.offset)?;
    }
    for (at, commit) in &snapshot.live {
        write!(text, ", live at {at}: ")?;
        put_commit(text, commit)?;
    }
    Ok(())
}
