//! What the whole-process benchmarks share: the cost of a piece of work, and what is to be run.
//!
//! Why CPU-seconds: wall-clock time on a shared machine says how busy the others are. A figure is the
//! median of the runs, with the least and the largest beside it.

use std::time::Instant;

/// What a piece of work took, in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    /// User and system time of this process.
    pub(crate) cpu: f64,
}

/// User and system time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has it");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: f64 =
        fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime");
    ticks / 100.0
}

pub(crate) fn measured(work: impl FnOnce()) -> Cost {
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    work();
    Cost { wall: wall.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu }
}

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Whether a part is to be run: all are, unless words on the command line name some.
pub(crate) fn is_chosen(part: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
    words.peek().is_none() || words.any(|word| part.contains(&word))
}

/// Median, least and largest.
pub(crate) fn spread(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
}
