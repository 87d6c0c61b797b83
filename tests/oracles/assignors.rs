//! Consumer assignors: members with subscriptions, and which partitions each of them gets.
//!
//! Why a key of three parts: Kafka sorts static members, by their instance id, in front of the others.

use std::collections::{BTreeMap, BTreeSet};

use core_log::{Assignor, Subscriber, TopicName, assign};
use serde_json::Value;

use crate::report::{Outcome, Stop, same, unsupported};

/// Sorts as Kafka sorts members: static ones first, by instance id; then by member id.
type Key = (bool, String, String);

/// Every row is a case; rows have no names.
pub(crate) fn cases(file: &Value) -> Vec<(String, Outcome)> {
    let rows = file["cases"].as_array().into_iter().flatten().enumerate();
    rows.map(|(n, row)| (format!("{} {n}", text(&row["assignor"])), case(row))).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn name(text: &str) -> Result<TopicName, Stop> {
    TopicName::new(text).map_err(|bad| unsupported(format!("format: {bad}")))
}

fn case(row: &Value) -> Outcome {
    let assignor = match text(&row["assignor"]) {
        "range" => Assignor::Range,
        "roundrobin" => Assignor::RoundRobin,
        other => return Err(unsupported(format!("assignor {other}"))),
    };
    let mut topics = BTreeMap::new();
    for (topic, count) in row["topics"].as_object().into_iter().flatten() {
        let count = count.as_u64().and_then(|count| u32::try_from(count).ok());
        let count = count.ok_or_else(|| unsupported("format: a count of partitions"))?;
        topics.insert(name(topic)?, count);
    }
    let mut subscribers = Vec::new();
    for (member, subscribed) in row["subscriptions"].as_object().into_iter().flatten() {
        let subscribed = subscribed.as_array().into_iter().flatten();
        let topics = subscribed.map(|topic| name(text(topic))).collect::<Result<_, _>>()?;
        let instance = row["group_instance_ids"][member.as_str()].as_str();
        let key: Key =
            (instance.is_none(), instance.unwrap_or_default().to_owned(), member.clone());
        subscribers.push(Subscriber { member: key, topics, owned: BTreeSet::new() });
    }
    let found: BTreeMap<String, Vec<String>> = assign(assignor, &topics, &subscribers)
        .into_iter()
        .map(|((_, _, member), share)| (member, share.iter().map(ToString::to_string).collect()))
        .collect();
    let mut expected = BTreeMap::new();
    for (member, share) in row["assignment"].as_object().into_iter().flatten() {
        let share = share.as_array().into_iter().flatten();
        let share: Vec<String> = share.map(|partition| text(partition).to_owned()).collect();
        expected.insert(member.clone(), share);
    }
    same("assignment", &expected, &found)
}
