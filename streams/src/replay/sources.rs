//! Where the stretch of a replay lies in each source topic, as the live log is now.
//!
//! ```text
//!   streams     from ======= until
//!   tables      log start .. (warm) ==== until       only what fills tables: all of it is read
//! ```
//!
//! Where a stretch begins in a table's topic follows from time: the time that was said, or the smallest
//! timestamp of the records with which the streams begin. `start` begins both at their start.
//!
//! Invariants
//! * the live log is asked once for all of it, so that it is one state of it.

use super::Stretch;
use super::scratch::Source;
use crate::app::App;
use crate::at::At;
use crate::broker::{
    Located, LogTopic, LogView, LoggedClock, Merged, SourceSpan, SourceTopic, Span, Stretches,
    View, extent, find_topic, first_not_older, locate, timestamp_at, topics_of, whole,
};
use crate::error::{Error, Result};
use crate::runtime::{RaiseRecord, ReadingRecord};
use crate::topology::{Graph, clock_topic};

/// The names of the log's topics.
pub(super) fn topic_names(app: &App) -> Result<Vec<String>> {
    let topics = View::of(app.log_dir()).with(topics_of)?;
    Ok(topics.into_iter().map(|topic| topic.name.to_string()).collect())
}

/// Where the stretch lies in each source topic; streams come before tables.
///
/// # Errors
///
/// S004: a topic is missing; S007, S032: see [`locate`], and when there is nothing in it.
pub(super) fn locate_all(
    app: &App,
    graph: &Graph,
    from: &At,
    until: &At,
) -> Result<Vec<SourceTopic>> {
    let mut names: Vec<&str> = graph.user_sources();
    let has_streams = names.iter().any(|name| !graph.fills_only_tables(name));
    // Where there are only tables, what they are filled with is the input of the job.
    let is_table = |name: &str| has_streams && graph.fills_only_tables(name);
    names.sort_by_key(|name| is_table(name));
    let now_ms = View::now_ms();
    View::of(app.log_dir()).with(|log| {
        let mut streams: Vec<SourceTopic> = Vec::new();
        let mut tables = Vec::new();
        let mut past = None;
        for &name in &names {
            let topic = find_topic(log, app.log_dir(), name)?;
            if is_table(name) {
                tables.push(table(log, topic, &streams, (from, until), now_ms)?);
                continue;
            }
            let Located { spans, past: behind } = locate(log, &topic, from, until, now_ms)?;
            past = past.or(behind);
            let spans = spans.into_iter().map(|span| SourceSpan { span, warm: None }).collect();
            streams.push(SourceTopic { topic, spans });
        }
        let mut spans = streams.iter().flat_map(|source| &source.spans);
        if spans.all(|SourceSpan { span, .. }| span.next >= span.end) {
            return Err(match past {
                Some(past) => past,
                None => nothing(log, &streams, from, until)?,
            });
        }
        streams.append(&mut tables);
        Ok(streams)
    })
}

/// There is no record in the stretch of any stream; says where there are some.
fn nothing(log: &LogView, streams: &[SourceTopic], from: &At, until: &At) -> Result<Error> {
    let mut reason = format!("there is no record from {from} until {until}");
    for SourceTopic { topic, .. } in streams {
        if let Some(extent) = extent(log, topic)? {
            reason.push_str(&format!("; {extent}"));
        }
    }
    let help =
        "begin earlier, or end later: --from start --until end; @TIME is when records were written";
    Ok(Error::BadPosition { reason, help: help.to_owned() })
}

/// A topic that only fills tables: all of it that lies in front of the stretch, then the stretch.
fn table(
    log: &LogView,
    topic: LogTopic,
    streams: &[SourceTopic],
    (from, until): (&At, &At),
    now_ms: i64,
) -> Result<SourceTopic> {
    let begins = match from {
        At::Start => None,
        _ => from.time_ms(now_ms)?.or(first_time(log, streams, |span| span.next)?),
    };
    let ends = match until {
        At::Offset(_) => first_time(log, streams, |span| span.end)?,
        _ => until.time_ms(now_ms)?,
    };
    let mut spans = Vec::new();
    for (partition, mut span) in (0..).zip(whole(log, &topic)?) {
        let end = span.end;
        let mut at = |time: i64| -> Result<i64> {
            let found = first_not_older(log, &topic, partition, time, end)?;
            Ok(found.map_or(end, |(offset, _)| offset))
        };
        let warm = begins.map(&mut at).transpose()?;
        span.end = ends.map(&mut at).transpose()?.unwrap_or(end);
        spans.push(SourceSpan { span, warm: warm.filter(|warm| *warm > span.next) });
    }
    Ok(SourceTopic { topic, spans })
}

/// The smallest timestamp of the records at a place of each stream partition.
fn first_time(
    log: &LogView,
    streams: &[SourceTopic],
    place: impl Fn(&Span) -> i64,
) -> Result<Option<i64>> {
    let mut first: Option<i64> = None;
    for SourceTopic { topic, spans } in streams {
        for (partition, SourceSpan { span, .. }) in (0..).zip(spans) {
            if let Some(time) = timestamp_at(log, topic, partition, place(span))? {
                first = Some(first.map_or(time, |known| known.min(time)));
            }
        }
    }
    Ok(first)
}

/// Where the live job has passed over silent partitions, and what its processors have read from the clock on
/// the wall: it can not be found again from the records.
pub(super) fn logged_clock(app: &App) -> Result<LoggedClock> {
    let mut view = View::of(app.log_dir());
    let name = clock_topic(app.id());
    let located = view.with(|log| {
        let topic = find_topic(log, app.log_dir(), &name)?;
        let spans = whole(log, &topic)?;
        Ok((topic, spans))
    });
    let (topic, spans) = match located {
        // No partition was silent for long.
        Err(Error::UnknownTopic { .. }) => return Ok(LoggedClock::default()),
        located => located?,
    };
    let parts = (0..).zip(spans).map(|(partition, span)| (topic.clone(), partition, span));
    let mut records = Merged::new(Stretches::new(view, parts));
    let mut clock = LoggedClock::default();
    while records.next(|_, record| note(record.key, record.value, &mut clock))?.is_some() {}
    Ok(clock)
}

/// Takes in one record of the topic of clocks: a raise, a reading, or that all before are void.
fn note(key: Option<&[u8]>, value: Option<&[u8]>, clock: &mut LoggedClock) {
    match (key, value) {
        (Some(key), Some(value)) => {
            if let Some(raise) = RaiseRecord::decode(key, value) {
                let known = clock.raises.entry((raise.topic, raise.partition)).or_default();
                known.push((raise.next_offset, raise.raised_to));
            } else if let Some(reading) = ReadingRecord::decode(key, value) {
                let known = clock.readings.entry((reading.topic, reading.partition)).or_default();
                known.push((reading.next_offset, reading.now_ms));
            }
        }
        (Some(key), None) => {
            if let Some(place) = RaiseRecord::split_key(key) {
                clock.raises.remove(&place);
                clock.readings.remove(&place);
            }
        }
        (None, _) => {}
    }
}

/// The stretch as the manifest keeps it.
pub(super) fn of_manifest(found: &[SourceTopic]) -> Vec<Source> {
    let mut sources = Vec::new();
    for SourceTopic { topic, spans } in found {
        for (partition, SourceSpan { span, warm }) in (0..).zip(spans) {
            sources.push(Source {
                topic: topic.name().to_string(),
                partition,
                from: span.next,
                until: span.end,
                warm: *warm,
            });
        }
    }
    sources
}

/// Takes the stretch of the replay that is gone on with.
pub(super) fn restore(found: &mut [SourceTopic], known: &[Source]) {
    for SourceTopic { topic, spans } in found {
        for (partition, span) in (0..).zip(spans) {
            let of = |source: &&Source| {
                source.partition == partition && source.topic == topic.name().as_str()
            };
            if let Some(source) = known.iter().find(of) {
                let was = Span { next: source.from, end: source.until };
                *span = SourceSpan { span: was, warm: source.warm };
            }
        }
    }
}

/// The stretch as a report tells it, without what warms tables up.
pub(super) fn stretch(found: &[SourceTopic]) -> Vec<Stretch> {
    let each = of_manifest(found).into_iter();
    each.map(|Source { topic, partition, from, until, warm }| {
        let from = warm.unwrap_or(from);
        Stretch { topic, partition, from, until: until.max(from) }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_makes_the_raises_before_it_void_in_each_partition_that_it_names() {
        let mut clock = LoggedClock::default();
        let topic = "clicks".to_owned();
        let reading = ReadingRecord { topic, partition: 0, next_offset: 5, now_ms: 7 };
        let (key, value) = reading.encode();
        note(Some(&key), Some(&value), &mut clock);
        assert_eq!(clock.readings[&("clicks".to_owned(), 0)], [(5, 7)]);
        let raise = |partition, next_offset| {
            let topic = "clicks".to_owned();
            RaiseRecord { topic, partition, next_offset, raised_to: 7 }.encode()
        };
        for (partition, offset) in [(0, 5), (1, 6), (0, 9)] {
            let (key, value) = raise(partition, offset);
            note(Some(&key), Some(&value), &mut clock);
        }
        note(Some(&RaiseRecord::key("clicks", 0)), None, &mut clock);
        note(Some(b"?"), None, &mut clock);
        let (key, value) = raise(0, 2);
        note(Some(&key), Some(&value), &mut clock);
        let of = |partition| clock.raises[&("clicks".to_owned(), partition)].clone();
        assert_eq!((of(0), of(1)), (vec![(2, 7)], vec![(6, 7)]));
        assert!(clock.readings.is_empty());
    }
}
