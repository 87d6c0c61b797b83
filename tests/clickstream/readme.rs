//! The job in the README is the job that the demo runs.

/// Code without what formatting may change, and without the first lines that say what a file is.
fn bare(code: &str) -> String {
    let code = code.replace("pub(crate) fn main", "fn main");
    let lines = code.lines().filter(|line| !line.starts_with("//!"));
    let text: String = lines.flat_map(|line| line.split_whitespace()).collect();
    text.replace(",}", "}")
}

#[test]
fn the_job_of_the_readme_is_the_job_of_the_demo() {
    let readme = include_str!("../../README.md");
    let job = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(bare(job), bare(include_str!("../../examples/clickstream/job.rs")));
    assert!(job.lines().filter(|line| !line.trim().is_empty()).count() <= 22, "{job}");
}
