//! Clicks from a real web server: one click per line of an access log in the combined log format.
//!
//! ```text
//! host ident user [17/May/2015:10:05:03 +0000] "GET /page?query HTTP/1.1" 200 203023 "referer" "agent"
//! ```
//!
//! A click's user is the host, prefixed `bot-` when the agent names a crawler; its page is the path
//! without the query; its event time is the request's. Inside quotes a backslash escapes the next
//! character, as Apache writes it.
//!
//! Invariants
//! * every line is either a click or a `Rejected` with its number: nothing is skipped in silence;
//! * of a line no more than `LINE_BYTES_MAX` are ever held;
//! * requests go to the partitions in turn, in file order. Each partition is then a thinned copy of the
//!   file, in the same order: a request meets no later clock than it would in the file itself.

use std::io::{self, BufRead};

use crate::generator::{Click, PARTITIONS, Placed};

/// Servers limit a request line to 8 KiB; with referer and agent a line stays far below this.
const LINE_BYTES_MAX: usize = 64 << 10;

/// A line that is no request in the combined log format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    /// Its number in the file; the first line is 1.
    pub line: u64,
    /// Which part of it does not fit.
    pub reason: &'static str,
}

/// The clicks of an access log, one item per line.
pub(crate) fn read(
    mut log: impl BufRead,
) -> impl Iterator<Item = io::Result<Result<Placed, Rejected>>> {
    let mut line = 0;
    let mut turn = (0..PARTITIONS).cycle();
    let mut bytes = Vec::new();
    std::iter::from_fn(move || {
        let len = match next_line(&mut log, &mut bytes) {
            Ok(0) => return None,
            Ok(len) => len,
            Err(e) => return Some(Err(e)),
        };
        line += 1;
        let text = String::from_utf8_lossy(&bytes);
        let parsed = match len > LINE_BYTES_MAX {
            true => Err("longer than 64 KiB"),
            false => click(text.trim_end()),
        };
        Some(Ok(match parsed {
            Ok(click) => Ok(Placed { partition: turn.next()?, click }),
            Err(reason) => Err(Rejected { line, reason }),
        }))
    })
}

/// Reads a line into `bytes`, its beginning where it is too long; returns how long it is, 0 at the end.
fn next_line(log: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<usize> {
    bytes.clear();
    let mut len = 0;
    loop {
        let buffer = match log.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            buffer => buffer?,
        };
        let end = buffer.iter().position(|&b| b == b'\n').map(|at| at + 1);
        let part = &buffer[..end.unwrap_or(buffer.len())];
        let kept = part.len().min(LINE_BYTES_MAX - bytes.len());
        bytes.extend_from_slice(&part[..kept]);
        let read = part.len();
        len += read;
        log.consume(read);
        if end.is_some() || read == 0 {
            return Ok(len);
        }
    }
}

fn click(line: &str) -> Result<Click, &'static str> {
    let (host, rest) = word(line).ok_or("no host")?;
    let (_ident, rest) = word(rest).ok_or("no ident")?;
    let (_user, rest) = word(rest).ok_or("no user")?;
    let (time, rest) = bracketed(rest).ok_or("no [time]")?;
    let (request, rest) = quoted(rest).ok_or("no \"request\"")?;
    let (_status, rest) = number(rest).ok_or("no status")?;
    let (_size, rest) = number(rest).ok_or("no size")?;
    let (_referer, rest) = quoted(rest).ok_or("no \"referer\"")?;
    let (agent, rest) = quoted(rest).ok_or("no \"agent\"")?;
    if !rest.is_empty() {
        return Err("text behind the agent");
    }
    let prefix = if names_a_crawler(agent) { "bot-" } else { "" };
    Ok(Click {
        user: format!("{prefix}{host}"),
        page: page(request).ok_or("no path in the request")?.to_owned(),
        at: millis(time).ok_or("no valid time")?,
    })
}

/// `text` split behind its first word and the blanks that follow.
fn word(text: &str) -> Option<(&str, &str)> {
    let end = text.find(' ').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (!word.is_empty()).then(|| (word, rest.trim_start()))
}

fn number(text: &str) -> Option<(&str, &str)> {
    let (number, rest) = word(text)?;
    let is_number = number == "-" || number.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some((number, rest))
}

fn bracketed(text: &str) -> Option<(&str, &str)> {
    let (inside, rest) = text.strip_prefix('[')?.split_once(']')?;
    Some((inside, rest.trim_start()))
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((&inside[..at], inside[at + 1..].trim_start())),
            _ => {}
        }
    }
    None
}

/// The path of `GET /path?query HTTP/1.1`.
fn page(request: &str) -> Option<&str> {
    let (_method, rest) = word(request)?;
    let (target, _version) = word(rest)?;
    target.split('?').next().filter(|path| !path.is_empty())
}

fn names_a_crawler(agent: &str) -> bool {
    let agent = agent.to_ascii_lowercase();
    ["bot", "crawl", "spider", "slurp", "archiver"].iter().any(|name| agent.contains(name))
}

fn millis(time: &str) -> Option<i64> {
    let parsed = jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", time).ok()?;
    Some(parsed.to_timestamp().ok()?.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "83.149.9.216 - - [17/May/2015:10:05:03 +0000] \"GET /a/b.png?x=1 HTTP/1.1\" \
                        200 203023 \"http://x.org/?q=\\\"a\\\"\" \"Mozilla/5.0 (X11)\"";

    fn lines(text: &str) -> Vec<Result<Placed, Rejected>> {
        read(text.as_bytes()).map(|line| line.unwrap()).collect()
    }

    #[test]
    fn a_request_becomes_a_click_of_its_host_and_path() {
        let click = click(LINE).unwrap();
        assert_eq!(click.user, "83.149.9.216");
        assert_eq!(click.page, "/a/b.png");
        assert_eq!(click.at, 1_431_857_103_000);
    }

    #[test]
    fn a_time_with_an_offset_is_converted_to_utc() {
        let moved = LINE.replace("10:05:03 +0000", "12:35:03 +0230");
        assert_eq!(click(&moved).unwrap().at, 1_431_857_103_000);
    }

    #[test]
    fn agents_that_name_a_crawler_are_bots() {
        for agent in
            ["Googlebot/2.1", "Yahoo! Slurp", "Baiduspider", "magpie-crawler", "ia_archiver"]
        {
            let crawled = LINE.replace("Mozilla/5.0 (X11)", agent);
            assert_eq!(click(&crawled).unwrap().user, "bot-83.149.9.216", "{agent}");
        }
    }

    #[test]
    fn lines_that_do_not_parse_are_reported_with_their_number() {
        let cut = &LINE[..LINE.len() - 1];
        let text = format!("{LINE}\n\n{cut}\r\nhello\n{LINE} extra\n{LINE}\r\n");
        let rejected: Vec<_> = lines(&text).into_iter().filter_map(Result::err).collect();
        let expected =
            [(2, "no host"), (3, "no \"agent\""), (4, "no ident"), (5, "text behind the agent")];
        assert_eq!(rejected, expected.map(|(line, reason)| Rejected { line, reason }));
    }

    #[test]
    fn a_line_that_is_too_long_is_rejected_and_the_next_is_read() {
        let path = "x".repeat(LINE_BYTES_MAX);
        let long = LINE.replace("/a/b.png", &path);
        let rejected = Err(Rejected { line: 2, reason: "longer than 64 KiB" });
        let found = lines(&format!("{LINE}\n{long}\n{LINE}"));
        assert!(found[0].is_ok() && found[1] == rejected && found[2].is_ok(), "{found:?}");
        let fits = LINE.replace("/a/b.png", &path[LINE.len()..]);
        assert!(lines(&fits)[0].is_ok());
    }

    #[test]
    fn an_odd_request_or_time_is_no_click() {
        let reason = |from: &str, to: &str| click(&LINE.replace(from, to)).unwrap_err();
        assert_eq!(reason("GET /a/b.png?x=1 HTTP/1.1", "-"), "no path in the request");
        assert_eq!(reason("17/May/2015", "37/May/2015"), "no valid time");
        assert_eq!(reason("203023", "many"), "no size");
    }

    #[test]
    fn requests_go_to_the_partitions_in_turn() {
        let text = format!("{LINE}\n{LINE}\nbroken\n{LINE}\n{LINE}\n{LINE}\n");
        let placed: Vec<u32> = lines(&text).into_iter().flatten().map(|p| p.partition).collect();
        assert_eq!(placed, [0, 1, 2, 3, 0]);
    }

    #[test]
    fn bytes_that_are_not_utf8_do_not_hide_the_request() {
        let mut bytes = LINE.replace("(X11)", "#").into_bytes();
        let at = bytes.iter().rposition(|&b| b == b'#').unwrap();
        bytes[at] = 0xFF;
        assert!(read(bytes.as_slice()).all(|line| line.unwrap().is_ok()));
    }
}
