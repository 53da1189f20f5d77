//! Runs every program of `src/bin`: each ends by itself and exits 0.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what cannot be run fails the test")]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Far more than any of them needs, also on a loaded machine.
const BOUND: Duration = Duration::from_secs(120);

#[test]
fn every_example_ends_by_itself_with_success() {
    // All programs of the package are built into one folder before its tests run; this is one of them.
    let built = Path::new(env!("CARGO_BIN_EXE_tcp_round_robin")).parent().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
    let mut ran = 0;
    for source in std::fs::read_dir(&sources).unwrap() {
        let source = source.unwrap().path();
        let name = source.file_stem().unwrap();
        run(&built.join(name));
        ran += 1;
    }
    assert!(ran > 0, "no examples in {}", sources.display());
}

fn run(program: &Path) {
    let mut child = Command::new(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {}: {error}", program.display()));
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (send, receive) = mpsc::channel();
    // Its output ends when the program does.
    let reader = std::thread::spawn(move || {
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            err.read_to_end(&mut text).map(|_| text)
        });
        let mut text = Vec::new();
        out.read_to_end(&mut text).unwrap();
        text.extend(errors.join().unwrap().unwrap());
        let _ = send.send(text);
    });
    let output = receive.recv_timeout(BOUND);
    if output.is_err() {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    reader.join().unwrap();
    match output {
        Ok(text) => assert!(status.success(), "{}: {status}\n{}", program.display(), String::from_utf8_lossy(&text)),
        Err(_) => panic!("{} did not end within {BOUND:?}", program.display()),
    }
}
