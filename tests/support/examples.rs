//! Examples as child processes: their binaries, and what they have printed.
//!
//! Why built here: cargo builds no examples for a test that names one suite.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Examples that are built together, when the first of them is run.
pub(crate) struct Examples {
    names: &'static [&'static str],
    binaries: OnceLock<PathBuf>,
}

impl Examples {
    pub(crate) const fn new(names: &'static [&'static str]) -> Self {
        Self { names, binaries: OnceLock::new() }
    }

    /// The binary of one of them, built if it is not there or older than its sources.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        let build = || {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--quiet", "--manifest-path"]);
            build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
            for name in self.names {
                build.args(["--example", name]);
            }
            assert!(build.status().unwrap().success(), "the examples do not build");
            let here = std::env::current_exe().unwrap();
            here.parent().and_then(Path::parent).unwrap().join("examples")
        };
        self.binaries.get_or_init(build).join(name)
    }

    /// Runs one of them without input and without a setting of the person who tests.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.binary(name));
        command.env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
