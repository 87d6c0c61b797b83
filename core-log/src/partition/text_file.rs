//! Small text files that are replaced as a whole and prove themselves.
//!
//! Why: the log's own settings and positions must be readable by a person, and must never be half
//! written or silently wrong.
//!
//! ```text
//!   lines of text\n
//!   crc32c 1a2b3c4d\n       over all bytes before this line
//! ```
//!
//! On crash: written aside (`NAME.tmp`), synced, renamed, directory synced: either the old text or the
//! new one is there. A leftover `NAME.tmp` is removed by the next write.

use std::path::Path;

use crate::error::{Error, Result};
use crate::ids::Offset;
use crate::storage::Storage;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Missing,
    /// The checksum does not fit, or is not there.
    Damaged,
    Proven(String),
}

const LABEL: &str = "crc32c ";

/// The offset in the name of a file that is called `<20 digits><suffix>`; `None` for any other name, so
/// that somebody else's file is never taken for one of the log.
pub(crate) fn numbered(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix)?;
    let is_number = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

/// Makes the file `name` in `dir`, where there is none; the caller syncs the directory.
pub(crate) fn create(storage: &dyn Storage, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let file = storage.create(&path).map_err(|e| Error::io(&path, "create", e))?;
    file.write_all_at(bytes, 0).map_err(|e| Error::io(&path, "write", e))?;
    file.sync().map_err(|e| Error::io(&path, "sync", e))
}

/// Text with the line that proves it.
pub(crate) fn sealed(text: &str) -> String {
    format!("{text}{LABEL}{:08x}\n", crc32c::crc32c(text.as_bytes()))
}

/// Replaces the file `name` in `dir`; durable when this returns.
pub(crate) fn write(storage: &dyn Storage, dir: &Path, name: &str, text: &str) -> Result<()> {
    replace(storage, dir, name, sealed(text).as_bytes())
}

/// Replaces a file by exactly these bytes; durable when this returns.
pub(crate) fn replace(storage: &dyn Storage, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let aside = dir.join(format!("{name}.tmp"));
    if storage.exists(&aside).map_err(|e| Error::io(&aside, "look for", e))? {
        storage.remove_file(&aside).map_err(|e| Error::io(&aside, "remove", e))?;
    }
    let file = storage.create(&aside).map_err(|e| Error::io(&aside, "create", e))?;
    file.write_all_at(bytes, 0).map_err(|e| Error::io(&aside, "write", e))?;
    // Must be AFTER the write and BEFORE the rename, or else the new name could show an empty file.
    file.sync().map_err(|e| Error::io(&aside, "sync", e))?;
    storage.rename(&aside, &path).map_err(|e| Error::io(&path, "rename", e))?;
    storage.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))
}

/// A name in `dir` that no file has, for bytes of the file `stem` that are kept aside.
pub(crate) fn unused(storage: &dyn Storage, dir: &Path, stem: &str) -> Result<String> {
    let mut attempt = 0;
    loop {
        let name = format!("{stem}.{attempt}.quarantine");
        let path = dir.join(&name);
        if !storage.exists(&path).map_err(|e| Error::io(&path, "look for", e))? {
            return Ok(name);
        }
        attempt += 1;
    }
}

/// Reads a file and checks its last line.
pub(crate) fn read(storage: &dyn Storage, path: &Path) -> Result<Text> {
    let Some(bytes) = read_bytes(storage, path)? else { return Ok(Text::Missing) };
    Ok(prove(&bytes).map_or(Text::Damaged, |text| Text::Proven(text.to_owned())))
}

/// The text in front of the last line, if that proves it.
pub(crate) fn prove(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let body_len = text.strip_suffix('\n')?.rfind('\n').map_or(0, |at| at + 1);
    let (body, last) = text.split_at(body_len);
    let stored = last.strip_prefix(LABEL)?.trim_end();
    let expected = u32::from_str_radix(stored, 16).ok()?;
    (crc32c::crc32c(body.as_bytes()) == expected).then_some(body)
}

/// All bytes of a file; `None` when it is not there.
pub(crate) fn read_bytes(storage: &dyn Storage, path: &Path) -> Result<Option<Vec<u8>>> {
    let read = |path: &Path| -> std::io::Result<Vec<u8>> {
        let file = storage.open_read_only(path)?;
        let size = usize::try_from(file.len()?).map_err(std::io::Error::other)?;
        let mut bytes = vec![0; size];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    };
    match read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, "read", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_proves_itself_and_a_changed_byte_is_noticed() {
        let sealed = format!("a=1\nb=2\ncrc32c {:08x}\n", crc32c::crc32c(b"a=1\nb=2\n"));
        assert_eq!(prove(sealed.as_bytes()), Some("a=1\nb=2\n"));
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] ^= 1;
            assert_ne!(prove(&bytes), Some("a=1\nb=2\n"), "byte {at}");
            assert_eq!(prove(&sealed.as_bytes()[..at]), None);
        }
    }

    #[test]
    fn an_empty_text_is_a_text() {
        let sealed = format!("crc32c {:08x}\n", crc32c::crc32c(b""));
        assert_eq!(prove(sealed.as_bytes()), Some(""));
    }
}
