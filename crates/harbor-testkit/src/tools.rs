//! Programs that tests talk to as a user would: `redis-benchmark`, `dig`, `iperf3`, `bash`. They are not part of a fresh
//! machine, so a test without its tool says so and passes, unless `HARBOR_REQUIRE_TOOLS` is set, as the project's checks do.

use std::env;
use std::path::PathBuf;

/// Where the program `name` is, on the search path or among the system's daemons.
///
/// Prints why the test is skipped where it is missing.
///
/// # Panics
/// When it is missing and `HARBOR_REQUIRE_TOOLS` is set: where every tool should be there, a skipped test is a failed one.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a test looks for its tools on the search path")]
#[expect(clippy::panic, reason = "the way a test fails")]
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        let why = format!("{name} is not installed; `bash ci/setup.sh` installs what the tests use");
        if env::var_os("HARBOR_REQUIRE_TOOLS").is_some() {
            panic!("{why}");
        }
        eprintln!("skipped: {why}");
    }
    found
}
