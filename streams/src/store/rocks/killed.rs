//! What a killed process leaves of a database.
//!
//! Why a copy: closing a database writes its memtables, and RocksDB has no way to leave without doing
//! so. A copy of its files while it is open is what a kill would have left: memtables are in no file.
//!
//! ```text
//!   dir (open) -- files, until nothing changes meanwhile --> image     not LOCK, not LOG*
//! ```
//!
//! Invariants
//! * the copy is of one moment: a file that came, went or grew while files were copied starts it over.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Copies a database that is open into another directory, which is made if it is missing.
///
/// # Errors
///
/// What the file system said.
pub(crate) fn image(dir: &Path, image: &Path) -> io::Result<()> {
    fs::create_dir_all(image)?;
    loop {
        let before = files(dir)?;
        let copied = before.keys().all(|name| fs::copy(dir.join(name), image.join(name)).is_ok());
        if copied && files(dir)? == before {
            return Ok(());
        }
        for name in files(image)?.keys() {
            fs::remove_file(image.join(name))?;
        }
    }
}

/// Names and sizes of all files but the lock and the log for people.
fn files(dir: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A file that has gone since it was listed shows in the comparison.
        if let Ok(found) = entry.metadata()
            && name != "LOCK"
            && !name.starts_with("LOG")
        {
            files.insert(name, found.len());
        }
    }
    Ok(files)
}
