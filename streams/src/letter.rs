//! Dead letters: a record that a step could not take, with the reason in its headers.
//!
//! ```text
//!   key, value, timestamp    of the record as it was read, or the value that the step was given
//!   headers                  those of the record, then:
//!     __streams.errors.topic .partition .offset    where it was read; missing where that is unknown
//!     __streams.errors.exception                   decode | event-time | refused
//!     __streams.errors.code                        S002 | S022 | S031
//!     __streams.errors.message                     what the job would have stopped with
//!     __streams.errors.step                        the step, as `topology` numbers it: 3 try map
//!     __streams.errors.value                       original | json | bincode: what the value is
//! ```
//!
//! Why these names: the first ones are those of Kafka Streams, so that its tools find what they know;
//! the others it has no word for.
//!
//! Invariants
//! * headers of ours come last, each once: a letter that is sent again and fails again keeps what was
//!   said of it the first time.
//! * a message is cut, so that a letter is never much larger than its record.
//!
//! Reference: KIP-1034.

use std::sync::Arc;

use bytes::Bytes;

use crate::record::{Header, Headers, RecordPosition};

const PREFIX: &str = "__streams.errors.";
const TOPIC: &str = "topic";
const PARTITION: &str = "partition";
const OFFSET: &str = "offset";
const EXCEPTION: &str = "exception";
const CODE: &str = "code";
const MESSAGE: &str = "message";
const STEP: &str = "step";
const VALUE: &str = "value";

/// Bytes of a message at most.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// The topic that a job's dead letters go to.
pub(crate) fn letters_topic(id: &str) -> String {
    format!("{id}-dlq")
}

/// What the value of a dead letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LetterValue {
    /// The bytes of the record as it was read: it did not decode, or its event time was refused.
    Original,
    /// The value that the step was given, as JSON.
    Json,
    /// The value that the step was given, in bincode: it has no form in JSON.
    Bincode,
}

impl LetterValue {
    const ALL: [Self; 3] = [Self::Original, Self::Json, Self::Bincode];

    fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Json => "json",
            Self::Bincode => "bincode",
        }
    }
}

/// A record that a step could not take, read back from the topic `<id>-dlq`.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Where the record was read. Behind a repartition this is a place in the repartition topic; `None`
    /// for what came from no record but from state: the result of a window, the row of a table.
    pub source: Option<RecordPosition>,
    /// `decode`, `event-time` or `refused`.
    pub exception: String,
    /// The code of the error that the job would have stopped with.
    pub code: String,
    /// That error, cut at 1 KiB.
    pub message: String,
    /// The step, with its number as `topology` prints it.
    pub step: String,
    /// What [`value`](Self::value) is.
    pub form: LetterValue,
    /// The key, as it was read.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The timestamp of the record as it was read; for what came from state, its own.
    pub timestamp: i64,
    /// The headers of the record itself.
    pub headers: Headers,
}

/// The reason for a letter.
pub(crate) struct Reason<'a> {
    pub(crate) source: Option<RecordPosition>,
    pub(crate) exception: &'a str,
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    pub(crate) step: &'a str,
    pub(crate) form: LetterValue,
}

impl Reason<'_> {
    /// The headers of a letter: those of its record, then ours.
    pub(crate) fn headers(&self, of_record: &Headers) -> Headers {
        let mut headers = of_record.clone();
        let mut push = |name: &str, text: String| {
            headers.push(format!("{PREFIX}{name}"), Some(Bytes::from(text)));
        };
        if let Some(source) = &self.source {
            push(TOPIC, source.topic.to_string());
            push(PARTITION, source.partition.to_string());
            push(OFFSET, source.offset.to_string());
        }
        push(EXCEPTION, self.exception.to_owned());
        push(CODE, self.code.to_owned());
        push(MESSAGE, cut(self.message).to_owned());
        push(STEP, self.step.to_owned());
        push(VALUE, self.form.name().to_owned());
        headers
    }
}

/// The start of a text that may be of any length.
pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl DeadLetter {
    /// Reads a record of a dead-letter topic; `None` if no job of ours wrote it.
    #[must_use]
    pub fn read(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: i64,
        headers: &Headers,
    ) -> Option<Self> {
        let all: Vec<&Header> = headers.iter().collect();
        let mut said: Vec<(&str, &str)> = Vec::new();
        // Ours are the last ones; a name that comes a second time is of an earlier letter.
        while let Some(header) = all.len().checked_sub(said.len() + 1).and_then(|at| all.get(at)) {
            let Some((name, text)) = ours(header) else { break };
            if said.iter().any(|&(known, _)| known == name) {
                break;
            }
            said.push((name, text));
        }
        let text = |name: &str| said.iter().find(|(n, _)| *n == name).map(|&(_, text)| text);
        let owned = |name: &str| text(name).map(str::to_owned);
        let position = || {
            Some(RecordPosition {
                topic: Arc::from(text(TOPIC)?),
                partition: text(PARTITION)?.parse().ok()?,
                offset: text(OFFSET)?.parse().ok()?,
            })
        };
        let form = LetterValue::ALL.into_iter().find(|form| Some(form.name()) == text(VALUE))?;
        let own = all[..all.len() - said.len()].iter();
        Some(Self {
            source: position(),
            exception: owned(EXCEPTION)?,
            code: owned(CODE)?,
            message: owned(MESSAGE)?,
            step: owned(STEP)?,
            form,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            timestamp,
            headers: own.map(|&header| header.clone()).collect(),
        })
    }
}

/// The name behind the prefix, and the text, of a header of ours.
fn ours(header: &Header) -> Option<(&str, &str)> {
    let name = header.key.strip_prefix(PREFIX)?;
    Some((name, std::str::from_utf8(header.value.as_deref()?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(message: &str, offset: Option<i64>) -> Reason<'_> {
        let at = |offset| RecordPosition { topic: "clicks".into(), partition: 2, offset };
        Reason {
            source: offset.map(at),
            exception: "decode",
            code: "S002",
            message,
            step: "0 read clicks",
            form: LetterValue::Original,
        }
    }

    fn names(headers: &Headers) -> Vec<&str> {
        headers.iter().map(|header| header.key.as_str()).collect()
    }

    #[test]
    fn the_headers_have_the_names_of_kafka_streams() {
        let headers = reason("missing field `at`", Some(7)).headers(&Headers::none());
        let text = |h: &Header| String::from_utf8(h.value.as_deref().unwrap().to_vec()).unwrap();
        let all: Vec<_> = headers.iter().map(|h| (h.key.as_str(), text(h))).collect();
        let expected = [
            ("__streams.errors.topic", "clicks"),
            ("__streams.errors.partition", "2"),
            ("__streams.errors.offset", "7"),
            ("__streams.errors.exception", "decode"),
            ("__streams.errors.code", "S002"),
            ("__streams.errors.message", "missing field `at`"),
            ("__streams.errors.step", "0 read clicks"),
            ("__streams.errors.value", "original"),
        ];
        assert_eq!(all, expected.map(|(name, text)| (name, text.to_owned())));
        assert_eq!(names(&reason("", None).headers(&Headers::none())).len(), 5);
    }

    #[test]
    fn a_letter_that_becomes_a_letter_again_keeps_what_was_said_first() {
        let mut own = Headers::none();
        own.push("trace", Some(Bytes::from_static(b"1")));
        let first = reason("one", Some(7)).headers(&own);
        let second = reason("two", Some(8)).headers(&first);
        let letter = DeadLetter::read(None, Some(b"{}"), 5, &second).unwrap();
        assert_eq!((letter.message.as_str(), letter.source.unwrap().offset), ("two", 8));
        assert_eq!(letter.headers, first);
        let before = DeadLetter::read(None, Some(b"{}"), 5, &letter.headers).unwrap();
        assert_eq!((before.message.as_str(), before.headers), ("one", own));
    }

    #[test]
    fn what_is_no_letter_is_not_read_as_one() {
        let mut headers = Headers::none();
        assert_eq!(DeadLetter::read(None, None, 0, &headers), None);
        headers.push("__streams.errors.message", None);
        assert_eq!(DeadLetter::read(None, None, 0, &headers), None);
        headers.push("__streams.errors.value", Some(Bytes::from_static(&[0xff])));
        assert_eq!(DeadLetter::read(None, None, 0, &headers), None);
    }

    #[test]
    fn a_message_is_cut_between_two_characters() {
        let long = format!("{}{}", "x".repeat(1_023), "\u{20ac}".repeat(9));
        assert_eq!(cut(&long).len(), 1_023);
        assert_eq!(cut("short"), "short");
    }
}
