//! A place in a log, as a person says it: an offset, a time, or one of its two ends. Pure.
//!
//! ```text
//!   start   17   @2026-11-19T10:00Z   @1763546400000   end        as text
//!   Start   Offset(17)   Time("2026-11-19T10:00Z".into())   End   in code, and Ago(hours(48))
//! ```
//!
//! Why times are not parsed where they are said: a reader is put together without a `Result` at each
//! step; a time that means nothing is the error of the read.
//!
//! Invariants
//! * a place is one for all partitions: the same offset in each, or the first record of each that is
//!   not older.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::time::{Instant, duration_ms};

/// What a time, an offset or an end may look like.
pub(crate) const FORMS: &str =
    "an offset (17), a time (@2026-01-05T10:00:00Z, @1767607200000), `start` or `end` is wanted";

/// A place in a topic.
///
/// ```
/// use streams::prelude::*;
/// assert_eq!("17".parse::<At>()?, At::Offset(17));
/// assert_eq!("@2026-11-19T10:00Z".parse::<At>()?, At::Time(1_795_082_400_000.into()));
/// assert_eq!(At::Time("2026-11-19T10:00Z".into()), At::Time("2026-11-19T11:00+01:00".into()));
/// assert_eq!(ago(mins(2)), At::Ago(secs(120)));
/// # Ok::<(), streams::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// The first record that there is.
    Start,
    /// Behind the last committed record, as it is when the reading begins.
    End,
    /// This offset, in each partition. A partition that is shorter begins, or stops, at its end.
    Offset(i64),
    /// The first record of each partition whose timestamp in the log is not older.
    Time(Moment),
    /// So long before the present time of the clock.
    Ago(Duration),
}

/// So long before the present time of the clock.
#[must_use]
pub fn ago(time: Duration) -> At {
    At::Ago(time)
}

/// A time as milliseconds since 1970 or as text (RFC 3339, seconds may be left out).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment(Result<i64, String>);

impl From<i64> for Moment {
    fn from(ms: i64) -> Self {
        Self(Ok(ms))
    }
}

impl From<&str> for Moment {
    fn from(text: &str) -> Self {
        if let Ok(ms) = text.parse::<i64>() {
            return Self(Ok(ms));
        }
        let parsed: Result<jiff::Timestamp, _> = text.parse();
        Self(parsed.map(jiff::Timestamp::as_millisecond).map_err(|_no_time| text.to_owned()))
    }
}

impl From<String> for Moment {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl Moment {
    /// Milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// S032: the text is no time.
    pub fn ms(&self) -> Result<i64> {
        self.0.clone().map_err(|text| Error::BadPosition {
            reason: format!("`{text}` is no time"),
            help: "say it as 2026-01-05T10:00:00Z, or in milliseconds since 1970".to_owned(),
        })
    }
}

impl From<i64> for At {
    fn from(offset: i64) -> Self {
        Self::Offset(offset)
    }
}

impl FromStr for At {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::BadPosition {
            reason: format!("`{text}` is no place"),
            help: FORMS.to_owned(),
        };
        match text {
            "start" => return Ok(Self::Start),
            "end" => return Ok(Self::End),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            let time = Moment::from(time);
            return if time.0.is_ok() { Ok(Self::Time(time)) } else { Err(refuse()) };
        }
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse());
        }
        text.parse().map(Self::Offset).map_err(|_too_large| refuse())
    }
}

impl At {
    /// The time that it names at `now_ms`; `None` where it names none.
    ///
    /// # Errors
    ///
    /// S032: a text that is no time.
    pub(crate) fn time_ms(&self, now_ms: i64) -> Result<Option<i64>> {
        match self {
            Self::Time(time) => time.ms().map(Some),
            Self::Ago(time) => Ok(Some(now_ms.saturating_sub(duration_ms(*time)))),
            Self::Start | Self::End | Self::Offset(_) => Ok(None),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::End => f.write_str("end"),
            Self::Offset(offset) => write!(f, "offset {offset}"),
            Self::Time(Moment(Ok(ms))) => write!(f, "{}", Instant(*ms)),
            Self::Time(Moment(Err(text))) => f.write_str(text),
            Self::Ago(time) => write!(f, "{time:?} ago"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_an_offset_a_time_or_an_end() {
        let at = |text: &str| text.parse::<At>().ok();
        assert_eq!(at("start"), Some(At::Start));
        assert_eq!(at("end"), Some(At::End));
        assert_eq!(at("0"), Some(At::Offset(0)));
        let ten = Some(At::Time(1_763_546_400_000.into()));
        for text in ["@1763546400000", "@2025-11-19T10:00:00Z", "@2025-11-19T10:00Z"] {
            assert_eq!(at(text), ten, "{text}");
        }
        for nonsense in ["", "-1", "+1", "1.5", "five", "@", "@noon", "@2025-13-01T00:00Z", "Start"]
        {
            assert_eq!(at(nonsense), None, "{nonsense:?}");
        }
        assert_eq!(at("99999999999999999999"), None);
    }

    #[test]
    fn a_text_that_is_no_time_is_an_error_when_it_is_asked_for() {
        let error = At::Time("noon".into()).time_ms(0).unwrap_err();
        assert_eq!(error.code(), "S032");
        assert_eq!(error.to_string(), "`noon` is no time");
        assert_eq!(ago(Duration::from_secs(2)).time_ms(5_000).unwrap(), Some(3_000));
        assert_eq!(At::Offset(7).time_ms(0).unwrap(), None);
    }
}
