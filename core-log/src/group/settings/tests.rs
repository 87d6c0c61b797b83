//! Settings against the recorded defaults of Kafka's consumer.

use serde_json::Value;

use super::*;

fn recorded() -> serde_json::Map<String, Value> {
    let text = include_str!("../../../../tests/oracles/config_defaults.json");
    let file: Value = serde_json::from_str(text).unwrap();
    file["classes"]["ConsumerConfig"]["configs"].as_object().unwrap().clone()
}

/// A setting as text, as Kafka would print its default.
fn shown(settings: &ConsumerSettings, name: &str) -> String {
    let ms = |duration: Duration| duration.as_millis().to_string();
    match name {
        "auto.offset.reset" => match settings.auto_offset_reset {
            OffsetReset::Earliest => "earliest".to_owned(),
            OffsetReset::Latest => "latest".to_owned(),
            OffsetReset::None => "none".to_owned(),
            OffsetReset::ByDuration(duration) => format!("{duration:?}"),
        },
        "enable.auto.commit" => settings.enable_auto_commit.to_string(),
        "auto.commit.interval.ms" => ms(settings.auto_commit_interval),
        "isolation.level" => match settings.isolation_level {
            IsolationLevel::ReadUncommitted => "read_uncommitted".to_owned(),
            IsolationLevel::ReadCommitted => "read_committed".to_owned(),
        },
        "max.poll.records" => settings.max_poll_records.to_string(),
        "fetch.max.bytes" => settings.fetch_max_bytes.to_string(),
        "max.partition.fetch.bytes" => settings.max_partition_fetch_bytes.to_string(),
        "max.poll.interval.ms" => ms(settings.max_poll_interval),
        "client.id" => settings.client_id.clone(),
        other => panic!("{other} is not shown"),
    }
}

#[test]
fn defaults_are_those_that_kafka_has() {
    let recorded = recorded();
    let settings = ConsumerSettings::default();
    for name in ConsumerSettings::names() {
        let default = &recorded[*name]["default"];
        let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        if *name == "partition.assignment.strategy" {
            // Kafka's list is range, with the way to cooperative sticky open.
            assert!(default.contains("CooperativeStickyAssignor"), "{default}");
            assert_eq!(settings.assignor, Assignor::Sticky);
            continue;
        }
        assert_eq!(shown(&settings, name), default, "{name}");
        // What Kafka prints can be read.
        assert_eq!(settings.clone().set(name, &default).as_ref(), Ok(&settings), "{name}");
    }
}

#[test]
fn every_name_of_kafkas_consumer_is_taken_or_refused_with_a_reason() {
    let recorded = recorded();
    assert!(recorded.len() > 50);
    for name in recorded.keys() {
        let refused = ConsumerSettings::default().set(name, "no value of anything");
        match refused {
            Ok(settings) => {
                assert_eq!((name.as_str(), settings.client_id.len()), ("client.id", 20))
            }
            Err(SettingError::Value { .. }) => assert!(TAKEN.contains(&name.as_str()), "{name}"),
            Err(SettingError::NotTaken { reason, .. }) => assert!(!reason.is_empty()),
            Err(other) => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn values_are_read_or_refused_with_what_is_expected() {
    let set = |name: &str, value: &str| ConsumerSettings::default().set(name, value);
    let reset = set("auto.offset.reset", "by_duration:P1DT2H3M4.5S").unwrap().auto_offset_reset;
    let expected = Duration::new(86_400 + 7_200 + 180 + 4, 500_000_000);
    assert_eq!(reset, OffsetReset::ByDuration(expected));
    let sticky = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
    assert_eq!(set("partition.assignment.strategy", sticky).unwrap().assignor, Assignor::Sticky);
    assert_eq!(set("client.id", "billing").unwrap().client_id, "billing");
    for (name, bad) in [
        ("auto.offset.reset", "newest"),
        ("auto.offset.reset", "by_duration:P"),
        ("auto.offset.reset", "by_duration:PT"),
        ("auto.offset.reset", "by_duration:P-1D"),
        ("auto.offset.reset", "by_duration:PT1S1S"),
        ("auto.offset.reset", "by_duration:PT1.S"),
        ("auto.offset.reset", "by_duration:P1S"),
        ("auto.offset.reset", "by_duration:PT99999999999999999999S"),
        ("auto.offset.reset", "by_duration:P213503982334602D"),
        ("enable.auto.commit", "yes"),
        ("isolation.level", "committed"),
        ("max.poll.records", "0"),
        ("max.poll.records", "-1"),
        ("max.poll.interval.ms", "0"),
        ("fetch.max.bytes", "1 MiB"),
        ("partition.assignment.strategy", "fair"),
    ] {
        let refused = set(name, bad);
        assert!(matches!(refused, Err(SettingError::Value { .. })), "{name} {bad}: {refused:?}");
    }
    let refused = set("max.poll.records", "0").unwrap_err();
    let text = "max.poll.records cannot be \"0\": it takes a count of at least 1";
    assert_eq!(refused.to_string(), text);
    let refused = set("bootstrap.servers", "localhost:9092").unwrap_err();
    assert!(matches!(refused, SettingError::NotTaken { name: "bootstrap.servers", .. }));
}
