//! What the whole-process benchmarks share: the cost of a piece of work, and how figures are printed.
//!
//! Why CPU-seconds: wall-clock time on a shared machine says how busy the others are. A figure is the
//! median of the runs, with the least and the largest beside it, and a raw loop in the same command.

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

/// Prints a line for `count` records that cost this much each time; answers millions per CPU-second.
pub(crate) fn report(name: &str, count: f64, costs: &[Cost]) -> f64 {
    // The clock of a process ticks a hundred times a second.
    let (per_cpu, low, high) =
        spread(costs.iter().map(|c| count / c.cpu.max(0.01) / 1e6).collect());
    let (per_second, ..) = spread(costs.iter().map(|c| count / c.wall / 1e6).collect());
    println!(
        "{name:<42} {per_second:>8.2} M/s {per_cpu:>8.2} M per CPU-second (min {low:.2}, max {high:.2})"
    );
    per_cpu
}

/// One of several pieces of work that are compared.
pub(crate) type Work<'a> = Box<dyn FnMut() -> Cost + 'a>;

/// Runs each in turn, once to warm up and then `runs` times, so that a busy moment of the machine
/// falls on all of them.
pub(crate) fn in_turn<const N: usize>(runs: u64, mut works: [Work<'_>; N]) -> [Vec<Cost>; N] {
    let mut costs = [const { Vec::new() }; N];
    for run in 0..=runs {
        for (work, costs) in works.iter_mut().zip(&mut costs) {
            let cost = work();
            if run > 0 {
                costs.push(cost);
            }
        }
    }
    costs
}
