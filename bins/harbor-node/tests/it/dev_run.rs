//! Rig: `harbor-node dev` as a child process, as a user starts it, and what it prints.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use harbor_testkit::ports::PortBlock;

/// How long a run may take to say what it should say.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// A folder and a block of ports in which runs follow each other.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) block: PortBlock,
}

/// A run of `harbor-node dev` that is ended when it is dropped.
pub(crate) struct DevRun {
    pub(crate) child: Child,
    lines: Receiver<String>,
    /// Everything printed so far.
    pub(crate) said: Vec<String>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), block: PortBlock::reserve() }
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.folder.path().join(".harbor")
    }

    /// The command line of a run here: external ports from the block's upper half, instances in its lower half.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harbor-node"));
        command
            .current_dir(self.folder.path())
            .args(["dev", "--api", "127.0.0.1:0", "--port-range", &self.block.range(32, 30)])
            .args(["--int-port-base", &self.block.first().to_string()])
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> DevRun {
        DevRun::of(self.command(arguments))
    }

    /// Starts a run and waits until it says that everything is up.
    pub(crate) fn up(&self, arguments: &[&str]) -> DevRun {
        let mut run = self.start(arguments);
        run.wait_for("Ctrl-C stops everything");
        run
    }

    pub(crate) fn api(&self) -> String {
        std::fs::read_to_string(self.state_dir().join("api")).unwrap().trim().into()
    }

    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.state_dir().join("token")).unwrap().trim().into()
    }
}

impl DevRun {
    pub(crate) fn of(mut command: Command) -> Self {
        // A group of its own, so that signals meant for the run do not reach the test.
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, said: Vec::new() }
    }

    /// Reads on until a line contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let end = Instant::now() + BOUND;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("not said within {BOUND:?}: {text}\n{}", self.said.join("\n")),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without saying: {text}\n{}", self.said.join("\n")),
            }
        }
    }

    /// The external address that the table names for `service`.
    pub(crate) fn external(&self, service: &str) -> SocketAddr {
        let row = self.said.iter().find(|line| line.split_whitespace().next() == Some(service));
        let row = row.unwrap_or_else(|| panic!("no row for {service} in:\n{}", self.said.join("\n")));
        row.split_whitespace().find_map(|word| word.parse().ok()).unwrap()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill {signal}");
    }

    /// Waits for the end, reading what is still said.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + BOUND;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("does not end within {BOUND:?}:\n{}", self.said.join("\n")),
            }
        }
    }

    pub(crate) fn interrupt_and_wait(mut self) -> (ExitStatus, Vec<String>) {
        self.signal("-INT");
        let status = self.wait();
        (status, std::mem::take(&mut self.said))
    }
}

impl Drop for DevRun {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal("-TERM");
            let end = Instant::now() + Duration::from_secs(15);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
                let _ = self.lines.recv_timeout(Duration::from_millis(50));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs a command to its end and returns what it printed, failing with everything it said when it fails.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Whether `path` exists below `folder`.
pub(crate) fn exists(folder: &Path, path: &str) -> bool {
    folder.join(path).exists()
}
