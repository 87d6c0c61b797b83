//! Pieces of work that are compared: run in turn, one line of figures for each.
//!
//! Why in turn: a busy moment of the machine falls on all of them.

use crate::cost::{Cost, spread};

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

/// Runs each in turn, once to warm up and then `runs` times.
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
