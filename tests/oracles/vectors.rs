//! Rows of input and result: hashes, variable-length numbers, checksums.

use core_log::format::varint::{
    read_varint, read_varlong, varint_len, varlong_len, write_varint, write_varlong,
};
use core_log::{murmur2, partition_for};
use serde_json::Value;

use crate::json;
use crate::report::{Outcome, same, unsupported};

type Check = fn(&Value) -> Outcome;

/// The groups of rows, and what checks one of them.
const GROUPS: [(&str, Check); 6] = [
    ("murmur2", hash),
    ("coordinator_partition", coordinator),
    ("varint_zigzag_i32", varint),
    ("varlong_zigzag_i64", varlong),
    ("unsigned_varint_u32", unsigned),
    ("crc32c", checksum),
];

/// Every row of every group is a case.
pub(crate) fn cases(file: &Value) -> Vec<(String, Outcome)> {
    let mut cases = Vec::new();
    for (name, value) in file.as_object().into_iter().flatten() {
        let Some(rows) = value.as_array().filter(|_| name != "notes") else { continue };
        let check = GROUPS.iter().find(|(group, _)| group == name).map(|(_, check)| check);
        for (index, row) in rows.iter().enumerate() {
            let outcome = match check {
                Some(check) => check(row),
                None => Err(unsupported(format!("format: vectors of `{name}`"))),
            };
            cases.push((format!("{name} {index}"), outcome));
        }
    }
    cases
}

fn hash(row: &Value) -> Outcome {
    let key = json::bytes(json::text(row, "key_hex")?)?;
    same("murmur2", &json::narrow(row, "murmur2_i32")?, &murmur2(&key).cast_signed())?;
    for (partitions, expected) in row["partition"].as_object().into_iter().flatten() {
        let count = partitions.parse().map_err(|_bad| unsupported("format: `partition`"))?;
        let found = partition_for(&key, count);
        same("partition", &expected.as_u64(), &Some(u64::from(found)))?;
    }
    Ok(())
}

fn coordinator(_row: &Value) -> Outcome {
    Err(unsupported("coordinator_partition (one topic holds all commits, in one partition)"))
}

fn unsigned(_row: &Value) -> Outcome {
    Err(unsupported("unsigned_varint_u32 (record batches have none)"))
}

fn varint(row: &Value) -> Outcome {
    let value: i32 = json::narrow(&serde_json::json!({ "value": row[0] }), "value")?;
    let expected = json::bytes(row[1].as_str().unwrap_or("not hex"))?;
    let mut written = Vec::new();
    write_varint(&mut written, value);
    same("bytes", &expected, &written)?;
    same("length", &expected.len(), &varint_len(value))?;
    same("decoded", &Ok(value), &read_varint(&mut expected.as_slice()))
}

fn varlong(row: &Value) -> Outcome {
    let value = json::number(&serde_json::json!({ "value": row[0] }), "value")?;
    let expected = json::bytes(row[1].as_str().unwrap_or("not hex"))?;
    let mut written = Vec::new();
    write_varlong(&mut written, value);
    same("bytes", &expected, &written)?;
    same("length", &expected.len(), &varlong_len(value))?;
    same("decoded", &Ok(value), &read_varlong(&mut expected.as_slice()))
}

fn checksum(row: &Value) -> Outcome {
    let text = row[0].as_str().ok_or_else(|| unsupported("format: the input is no text"))?;
    same("crc32c", &row[1].as_u64(), &Some(u64::from(crc32c::crc32c(text.as_bytes()))))
}
