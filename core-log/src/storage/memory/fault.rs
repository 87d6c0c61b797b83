//! The faults that a test plans: which call fails, how, and how often.
//!
//! Why: an error path that no test takes does not work.
//!
//! Invariants
//! * A call that fails has no effect, except for the bytes that a short write keeps, and for the
//!   pages that a lost sync marks clean.
//! * Counting starts at 1 and never goes back.

use std::io;
use std::path::Path;

/// Which calls a fault hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// The mutating operation with this number, from 1; with [`Repeat::Forever`] all from it on.
    Operation(u64),
    /// The read with this number, from 1; with [`Repeat::Forever`] all from it on.
    Read(u64),
    /// Calls of this kind on paths that contain this text.
    Path(Call, String),
}

/// The kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `write_all_at`, `set_len`.
    Write,
    /// `sync`, `sync_dir`.
    Sync,
    /// `create`, `create_dir_all`, `rename`, `remove_file`, `remove_dir_all`.
    Name,
    /// `read_at`.
    Read,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The call fails with this kind of error.
    Error(io::ErrorKind),
    /// A write writes only its first bytes, then fails; other calls fail.
    ShortWrite {
        /// How many bytes it writes.
        keep: usize,
    },
    /// A sync of a file fails, and the kernel forgets that its pages were dirty: they can be read,
    /// are not on the disk, and no later sync writes them. Other calls fail.
    LoseSync,
}

impl Effect {
    pub(super) fn written(self) -> usize {
        match self {
            Self::ShortWrite { keep } => keep,
            Self::Error(_) | Self::LoseSync => 0,
        }
    }

    pub(super) fn loses_sync(self) -> bool {
        self == Self::LoseSync
    }

    pub(super) fn error(self, path: &Path) -> io::Error {
        let text = format!("injected fault on {}", path.display());
        match self {
            Self::Error(kind) => io::Error::new(kind, text),
            Self::ShortWrite { .. } | Self::LoseSync => io::Error::other(text),
        }
    }
}

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The first time only.
    Once,
    /// Every time.
    Forever,
}

/// One planned fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which calls.
    pub at: At,
    /// What happens to them.
    pub effect: Effect,
    /// How often.
    pub repeat: Repeat,
}

impl Fault {
    /// A fault that strikes once.
    #[must_use]
    pub fn once(at: At, effect: Effect) -> Self {
        Self { at, effect, repeat: Repeat::Once }
    }

    /// A fault that strikes every time.
    #[must_use]
    pub fn forever(at: At, effect: Effect) -> Self {
        Self { at, effect, repeat: Repeat::Forever }
    }

    fn hits(&self, call: Call, number: u64, path: &Path) -> bool {
        let counted = |n: u64| match self.repeat {
            Repeat::Once => number == n,
            Repeat::Forever => number >= n,
        };
        match &self.at {
            At::Operation(n) => call != Call::Read && counted(*n),
            At::Read(n) => call == Call::Read && counted(*n),
            At::Path(kind, part) => *kind == call && path.to_string_lossy().contains(part),
        }
    }
}

/// The plan, and the counts that it depends on.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    pub(super) operations: u64,
    pub(super) reads: u64,
    pub(super) bytes_read: u64,
    pub(super) stop_after: Option<u64>,
    pub(super) space_left: Option<u64>,
    pub(super) plan: Vec<Fault>,
}

impl Faults {
    pub(super) fn clear(&mut self) {
        self.stop_after = None;
        self.space_left = None;
        self.plan.clear();
    }

    /// Counts a mutating call that fails without effect, or not at all.
    pub(super) fn begin_whole(&mut self, call: Call, path: &Path) -> io::Result<()> {
        self.begin(call, path)?.map_or(Ok(()), |effect| Err(effect.error(path)))
    }

    /// Counts a mutating call. An error means that it has no effect; an effect is what the call is
    /// to do before it fails.
    pub(super) fn begin(&mut self, call: Call, path: &Path) -> io::Result<Option<Effect>> {
        self.operations += 1;
        if self.stop_after.is_some_and(|last| self.operations > last) {
            return Err(io::Error::other("power is off"));
        }
        match self.strike(call, self.operations, path) {
            Some(effect @ Effect::Error(_)) => Err(effect.error(path)),
            other => Ok(other),
        }
    }

    pub(super) fn begin_read(&mut self, path: &Path) -> io::Result<()> {
        self.reads += 1;
        match self.strike(Call::Read, self.reads, path) {
            None => Ok(()),
            Some(effect) => Err(effect.error(path)),
        }
    }

    fn strike(&mut self, call: Call, number: u64, path: &Path) -> Option<Effect> {
        let index = self.plan.iter().position(|fault| fault.hits(call, number, path))?;
        let effect = self.plan[index].effect;
        if self.plan[index].repeat == Repeat::Once {
            self.plan.remove(index);
        }
        Some(effect)
    }

    /// Takes the space that a file needs to grow from one length to another, or gives it back.
    /// Answers the length that it can have.
    pub(super) fn take_space(&mut self, from: usize, to: usize) -> usize {
        let Some(left) = &mut self.space_left else { return to };
        let needed = to.saturating_sub(from) as u64;
        if needed <= *left {
            *left -= needed;
            return to;
        }
        let possible = from + usize::try_from(*left).expect("less than was asked for");
        *left = 0;
        possible
    }

    pub(super) fn give_space(&mut self, bytes: usize) {
        if let Some(left) = &mut self.space_left {
            *left += bytes as u64;
        }
    }
}
