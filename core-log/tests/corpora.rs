//! Every decoder against the committed corpora of its fuzzer, and against what is made from them, with a
//! bound on the heap.
//!
//! ```text
//!   fuzz/corpus/NAME/* --> as it is, every bit flipped, every prefix, lengths that lie --> NAME
//!                                                     peak heap <= 4 x input + 64 KiB (gzip: 128;
//!                                                     commit records: 6 x)
//! ```
//!
//! One test in a binary of its own: the allocator that counts is that of the process.

use std::path::Path;

use core_log::conformance::fuzz::{TARGETS, Target};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const HEAP_PER_BYTE: usize = 4;
/// The same for commit records: one of 45 bytes that says nothing takes about 240 in memory.
const HEAP_PER_BYTE_COMMITS: usize = 6;
const HEAP_BYTES: usize = 64 << 10;
/// The same where gzip may be met: its decoder has a state and a window of this size, whatever it reads.
const HEAP_BYTES_GZIP: usize = 128 << 10;
/// From this length on, not every bit and prefix is tried.
const LARGE: usize = 300;

/// The most that a call has set aside at any time.
fn peak(call: impl FnOnce()) -> usize {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    call();
    HEAP.peak_usage().saturating_sub(before)
}

struct Checker {
    name: &'static str,
    target: Target,
    inputs: u64,
}

impl Checker {
    fn check(&mut self, seed: &str, what: &str, bytes: &[u8]) {
        let used = peak(|| (self.target)(bytes));
        let name = self.name;
        let with_gzip = ["gzip", "batch"].contains(&name);
        let constant = if with_gzip { HEAP_BYTES_GZIP } else { HEAP_BYTES };
        let per_byte = if name == "commit_record" { HEAP_PER_BYTE_COMMITS } else { HEAP_PER_BYTE };
        let most = per_byte * bytes.len() + constant;
        assert!(used <= most, "{name}/{seed}, {what}: {} bytes took {used}", bytes.len());
        self.inputs += 1;
    }

    fn check_seed(&mut self, seed: &str, bytes: &[u8]) {
        self.check(seed, "as it is", bytes);
        let step = bytes.len().div_ceil(LARGE).max(1);
        let mut changed = bytes.to_vec();
        for at in (0..bytes.len()).step_by(step) {
            self.check(seed, "a prefix", &bytes[..at]);
            for bit in 0..8_u32 {
                changed[at] ^= 1_u8 << bit;
                self.check(seed, "a flipped bit", &changed);
                changed[at] = bytes[at];
            }
            // Lengths and counts, in either order of bytes, as varints and as digits.
            for lie in [&b"\xff\xff\xff\x7f"[..], b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"9999"]
            {
                let end = (at + lie.len()).min(bytes.len());
                changed[at..end].copy_from_slice(&lie[..end - at]);
                self.check(seed, "a length that lies", &changed);
                changed[at..end].copy_from_slice(&bytes[at..end]);
            }
        }
        let twice = [bytes, bytes].concat();
        self.check(seed, "twice", &twice);
    }
}

#[test]
fn every_decoder_takes_its_corpus_within_the_bound_of_the_heap() {
    // What counts must notice what is too much.
    assert!(peak(|| drop(std::hint::black_box(vec![1_u8; 1 << 20]))) >= 1 << 20);
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, target) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no binary");
        let mut checker = Checker { name, target, inputs: 0 };
        checker.check("none", "no bytes", &[]);
        let seeds = std::fs::read_dir(fuzz.join("corpus").join(name)).unwrap();
        let mut seeds: Vec<_> = seeds.map(|entry| entry.unwrap().path()).collect();
        seeds.sort();
        assert!(seeds.len() >= 2, "{name} has {} seeds", seeds.len());
        for seed in seeds {
            let bytes = std::fs::read(&seed).unwrap();
            checker.check_seed(&seed.file_name().unwrap().to_string_lossy(), &bytes);
        }
        assert!(checker.inputs > 100, "{name}: {} inputs", checker.inputs);
    }
}
