//! Settings against the recorded defaults of Kafka's consumer.

use serde_json::Value;

use super::*;
use crate::error::Error;

fn recorded() -> serde_json::Map<String, Value> {
    let text = include_str!("../../../../tests/oracles/config_defaults.json");
    let file: Value = serde_json::from_str(text).unwrap();
    file["classes"]["ConsumerConfig"]["configs"].as_object().unwrap().clone()
}

#[test]
fn defaults_are_those_that_kafka_has() {
    let recorded = recorded();
    let settings = ConsumerSettings::default();
    for (name, value) in settings.to_kafka() {
        let default = &recorded[name]["default"];
        let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        if name == "partition.assignment.strategy" {
            // Kafka's list is range, with the way to cooperative sticky open.
            assert!(default.contains("CooperativeStickyAssignor"), "{default}");
            assert_eq!(value, "cooperative-sticky");
            continue;
        }
        assert_eq!(value, default, "{name}");
    }
    let all = settings.to_kafka();
    let read = ConsumerSettings::from_kafka(all.iter().map(|(name, value)| (*name, &value[..])));
    assert_eq!(read.unwrap(), settings);
}

#[test]
fn every_name_of_kafkas_consumer_is_taken_or_refused_with_a_reason() {
    let recorded = recorded();
    assert!(recorded.len() > 50);
    for name in recorded.keys() {
        let mut settings = ConsumerSettings::default();
        match settings.set(name, "no value of anything") {
            Ok(()) => assert_eq!((name.as_str(), settings.client_id.len()), ("client.id", 20)),
            Err(Error::SettingRefused { reason, .. }) => assert!(!reason.is_empty()),
            Err(other) => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn values_are_read_or_refused_with_what_is_expected() {
    let set = |name: &str, value: &str| ConsumerSettings::from_kafka([(name, value)]);
    let settings = set("auto.offset.reset", "by_duration:P1DT2H3M4.5S").unwrap();
    let expected = Duration::new(86_400 + 7_200 + 180 + 4, 500_000_000);
    assert_eq!(settings.auto_offset_reset, OffsetReset::ByDuration(expected));
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
        assert!(matches!(refused, Err(Error::SettingRefused { .. })), "{name} {bad}: {refused:?}");
    }
    let refused = set("bootstrap.servers", "localhost:9092");
    let Err(Error::SettingRefused { setting, reason, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(
        (setting, reason),
        ("bootstrap.servers", "the log is in this process, there is no network")
    );
    let by_duration = settings.get("auto.offset.reset").unwrap();
    assert_eq!(set("auto.offset.reset", &by_duration).unwrap(), settings);
}
