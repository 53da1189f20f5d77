//! Readers that stand still: what does not read must not stop what is relayed.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::Stdio;

use harbor_testkit::ports::own_loopback;
use harbor_testkit::wait::bounded;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::rig::{client, config_file, named, program};

/// More closing records than a pipe holds.
const CONNECTIONS: usize = 500;

#[tokio::test]
async fn a_log_that_nobody_reads_stops_no_connection_and_loses_no_line_it_can_keep() {
    let (folder, host) = (tempfile::tempdir().unwrap(), own_loopback());
    let config = config_file(folder.path(), host, 4, "[drain]\ngrace = \"0s\"\n");
    let mut child = program(&["serve", "--config", &config]).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let serving: serde_json::Value = serde_json::from_str(&line).unwrap();
    let api: SocketAddr = serving["api"].as_str().unwrap().parse().unwrap();
    let service = client(api).create_service(&named("tcp-port")).await.unwrap().value;

    // From here on nobody reads. There is no instance, so that each connection ends at once.
    let relayed = bounded("connections while nobody reads the log", async {
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect((host, service.port.get())).await.unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        }
    });
    relayed.await;

    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(rest.lines().filter(|line| line.contains("connection closed")).count(), CONNECTIONS);
    assert!(rest.lines().last().is_some_and(|line| line.contains("stopped")), "the last line is written too");
}
