//! Whole record batches: decoded field by field, and encoded again byte for byte; compressed ones to
//! the same records.

use core_log::conformance::encode_again;
use core_log::format::{
    Attributes, BatchBuilder, BatchHeader, BatchView, Compression, EndTransactionMarker, RecordRef,
    Stamp,
};
use core_log::{DecodeError, HEADER_LEN};
use serde_json::Value;

use crate::json;
use crate::report::{Outcome, failed, same};

type Fields = Vec<(String, Option<Vec<u8>>)>;

/// Every batch is a case.
pub(crate) fn cases(file: &Value) -> Vec<(String, Outcome)> {
    let batches = file["batches"].as_array().into_iter().flatten();
    batches.map(|case| (case["name"].as_str().unwrap_or("?").to_owned(), check(case))).collect()
}

fn refused(error: DecodeError) -> crate::report::Stop {
    failed(format!("decode: {error}"))
}

fn check(case: &Value) -> Outcome {
    let bytes = json::bytes(json::text(case, "hex")?)?;
    let batch = BatchView::parse(&bytes).map_err(refused)?;
    batch.verify_crc().map_err(refused)?;
    same("length of the batch", &bytes.len(), &batch.bytes().len())?;
    check_header(batch.header(), &case["decoded"])?;
    let codec = batch.header().attributes.compression().map_err(refused)?;
    let records: Vec<RecordRef<'_>> = batch.records().collect::<Result<_, _>>().map_err(refused)?;
    same("records", &batch.header().record_count, &i32::try_from(records.len()).unwrap_or(-1))?;
    for (index, expected) in case["decoded"]["records"].as_array().into_iter().flatten().enumerate()
    {
        let found =
            records.get(index).ok_or_else(|| failed(format!("record {index} is missing")))?;
        check_record(expected, found, batch.header())?;
    }
    let again = encode_again(&bytes).map_err(refused)?;
    if codec == Compression::None {
        same("encoded again", &json::hex(&bytes), &json::hex(&again))?;
        return build(&batch, &records, &bytes);
    }
    // What a codec writes depends on its version; what comes out of it does not.
    let again = BatchView::parse(&again).map_err(refused)?;
    again.verify_crc().map_err(refused)?;
    same("codec", &Ok(codec), &again.header().attributes.compression())?;
    let found: Vec<RecordRef<'_>> = again.records().collect::<Result<_, _>>().map_err(refused)?;
    same("records compressed again", &records, &found)
}

fn check_header(header: &BatchHeader, decoded: &Value) -> Outcome {
    let fields = [
        ("base_offset", header.base_offset),
        ("last_offset", header.last_offset()),
        ("partition_leader_epoch", header.leader_epoch.into()),
        ("crc_u32", header.crc.into()),
        ("attributes", header.attributes.0.into()),
        ("max_timestamp", header.max_timestamp),
        ("producer_id", header.producer_id.0),
        ("producer_epoch", header.producer_epoch.0.into()),
        ("base_sequence", header.base_sequence.into()),
        ("last_sequence", header.last_sequence().into()),
        ("records_count", header.record_count.into()),
        ("base_timestamp", header.base_timestamp),
    ];
    for (name, found) in fields {
        if let Some(expected) = decoded.get(name).and_then(Value::as_i64) {
            same(name, &expected, &found)?;
        }
    }
    for (name, found) in
        [("transactional", header.is_transactional()), ("control", header.is_control())]
    {
        if let Some(expected) = decoded.get(name).and_then(Value::as_bool) {
            same(name, &expected, &found)?;
        }
    }
    match decoded.get("compression").and_then(Value::as_str) {
        Some(name) => {
            same("compression", &Ok(name), &header.attributes.compression().map(Compression::name))
        }
        None => Ok(()),
    }
}

/// A text, or bytes in hex, or nothing; the outer `None` says that the file is silent.
fn field(record: &Value, name: &str) -> Outcome<Option<Option<Vec<u8>>>> {
    if let Some(hex) = record.get(format!("{name}_hex")) {
        return hex.as_str().map(json::bytes).transpose().map(Some);
    }
    Ok(record.get(name).map(|text| text.as_str().map(|text| text.as_bytes().to_vec())))
}

fn headers(record: &RecordRef<'_>) -> Fields {
    let headers = record.headers.iter();
    headers.map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect()
}

fn check_record(expected: &Value, found: &RecordRef<'_>, header: &BatchHeader) -> Outcome {
    for (name, part) in [("key", found.key), ("value", found.value)] {
        if let Some(expected) = field(expected, name)? {
            same(name, &expected, &part.map(<[u8]>::to_vec))?;
        }
    }
    same("offset", &expected["offset"].as_i64(), &Some(found.offset))?;
    if let Some(timestamp) = expected["timestamp"].as_i64() {
        same("timestamp", &timestamp, &found.timestamp)?;
    }
    if let Some(delta) = expected["timestamp_delta"].as_i64() {
        same("timestamp delta", &delta, &(found.timestamp - header.base_timestamp))?;
    }
    if let Some(list) = expected["headers"].as_array() {
        let value = |header: &Value| header[1].as_str().map(|text| text.as_bytes().to_vec());
        let name = |header: &Value| header[0].as_str().unwrap_or("").to_owned();
        let expected: Fields = list.iter().map(|header| (name(header), value(header))).collect();
        same("headers", &expected, &headers(found))?;
    }
    if let Some(kind) = expected["control_type"].as_str() {
        let marker = EndTransactionMarker::from_record(found).map_err(refused)?;
        same(
            "control type",
            &kind.to_owned(),
            &format!("{:?}", marker.control_type).to_uppercase(),
        )?;
        let epoch = json::number(expected, "coordinator_epoch")?;
        same("coordinator epoch", &epoch, &marker.coordinator_epoch.into())?;
    }
    Ok(())
}

/// What producers use must write the same bytes, for the kinds of batches that producers write.
fn build(batch: &BatchView<'_>, records: &[RecordRef<'_>], bytes: &[u8]) -> Outcome {
    let header = batch.header();
    let special = Attributes::LOG_APPEND_TIME.with(Attributes::DELETE_HORIZON).0;
    if records.is_empty() || header.attributes.0 & special != 0 {
        return Ok(());
    }
    if header.is_control() {
        let marker = EndTransactionMarker::from_batch(batch).map_err(refused)?;
        let mut built = marker.to_batch(header.max_timestamp);
        return stamped(&mut built, header, bytes);
    }
    let mut builder = BatchBuilder::new();
    for record in records {
        let headers = headers(record);
        builder
            .push(record.timestamp, record.key, record.value, &headers)
            .map_err(|error| failed(format!("{error}")))?;
    }
    stamped(&mut builder, header, bytes)
}

fn stamped(builder: &mut BatchBuilder, header: &BatchHeader, bytes: &[u8]) -> Outcome {
    builder.stamp(&Stamp {
        base_offset: header.base_offset,
        leader_epoch: header.leader_epoch,
        attributes: header.attributes,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    });
    same(
        "header built",
        &json::hex(&bytes[..HEADER_LEN]),
        &json::hex(&builder.bytes()[..HEADER_LEN]),
    )?;
    same("batch built", &json::hex(bytes), &json::hex(builder.bytes()))
}
