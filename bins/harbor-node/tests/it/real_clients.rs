//! Real servers behind real ports, used by the clients their users use. Each test says so and passes where its tool is
//! not installed; the project's checks install them all.

use std::process::Command;

use harbor_testkit::tools::tool;

use crate::dev_run::{DevRun, Place, output};

/// The number that instance `index` prints as its own, from a line `[index] PORT number`.
fn own_port(run: &DevRun, index: usize) -> String {
    let start = format!("[{index}] PORT ");
    let line = run.said.iter().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("instance {index} did not print its port:\n{}", run.said.join("\n"))).trim().into()
}

#[test]
fn redis_benchmark_over_three_instances() {
    let (Some(_), Some(benchmark), Some(cli)) = (tool("redis-server"), tool("redis-benchmark"), tool("redis-cli"))
    else {
        return;
    };
    let place = Place::new();
    let script = "echo PORT $STACKATO_HARBOR; exec redis-server --port $STACKATO_HARBOR --save '' --appendonly no";
    let run = place.up(&["--service", "my-redis", "--instances", "3", "--", "sh", "-c", script]);
    let addr = run.external("my-redis");
    let (host, port) = (addr.ip().to_string(), addr.port().to_string());
    let said = output(Command::new(benchmark).args([
        "-h",
        &host,
        "-p",
        &port,
        "-n",
        "6000",
        "-c",
        "30",
        "-t",
        "ping,set,get",
        "-q",
    ]));
    for command in ["PING_INLINE", "PING_MBULK", "SET", "GET"] {
        assert!(said.contains(&format!("{command}: ")) && said.contains("requests per second"), "{said}");
    }
    assert!(!said.to_lowercase().contains("error"), "{said}");
    let mut connections = Vec::new();
    for index in 0..3 {
        let stats = output(Command::new(&cli).args(["-p", &own_port(&run, index), "info", "stats"]));
        let count = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
        // One of them is this question.
        connections.push(count.trim().parse::<u32>().unwrap() - 1);
    }
    let (least, most) = (connections.iter().min().unwrap(), connections.iter().max().unwrap());
    assert!(*least >= 30 && most - least <= 1, "round robin over all connections of the benchmark: {connections:?}");
}

#[test]
fn dig_over_udp_and_tcp_on_one_number() {
    let (Some(dnsmasq), Some(dig)) = (tool("dnsmasq"), tool("dig")) else { return };
    let place = Place::new();
    let script = format!(
        "exec {} --keep-in-foreground --conf-file=/dev/null --pid-file= --no-resolv --no-hosts --user= --port=$STACKATO_HARBOR \
         --address=/harbor.test/192.0.2.7 --txt-record=long.harbor.test,{}",
        dnsmasq.display(),
        "x".repeat(200)
    );
    let run = place.up(&["--service", "both-dns", "--", "sh", "-c", &script]);
    let addr = run.external("both-dns");
    for transport in ["+notcp", "+tcp"] {
        for (record, name, want) in
            [("A", "www.harbor.test", "192.0.2.7".to_owned()), ("TXT", "long.harbor.test", "x".repeat(200))]
        {
            let answer = output(Command::new(&dig).args([
                &format!("@{}", addr.ip()),
                "-p",
                &addr.port().to_string(),
                transport,
                "+time=5",
                "+tries=3",
                "+short",
                record,
                name,
            ]));
            assert_eq!(answer.trim().trim_matches('"'), want, "{transport} {record}");
        }
    }
}

#[test]
fn iperf3_over_tcp_and_udp_on_one_number() {
    let Some(iperf3) = tool("iperf3") else { return };
    let place = Place::new();
    let run = place.up(&["--service", "both-perf", "--", "sh", "-c", "exec iperf3 --server --port $STACKATO_HARBOR"]);
    let addr = run.external("both-perf");
    let (host, port) = (addr.ip().to_string(), addr.port().to_string());
    let client = |arguments: &[&str]| {
        let said = output(Command::new(&iperf3).args(["--client", &host, "--port", &port, "--json"]).args(arguments));
        serde_json::from_str::<serde_json::Value>(&said).unwrap()
    };
    // A fixed amount, not a fixed time. The receiver stops counting when the sender says over its control connection that
    // it is done, so what is under way then is missing in its count.
    for arguments in [&["--bytes", "50M"][..], &["--bytes", "50M", "--reverse"]] {
        let end = &client(arguments)["end"];
        let (sent, received) = (&end["sum_sent"]["bytes"], &end["sum_received"]["bytes"]);
        assert!(sent.as_u64().unwrap() >= 50_000_000 && received.as_u64().unwrap() >= 25_000_000, "{sent} {received}");
    }

    // iperf3 opens a UDP stream with one datagram each way, which it never repeats: on a machine that stalls it may end
    // without a result, and is asked again, as a person would.
    let udp = (0..3).find_map(|_| {
        let report = client(&["--udp", "--bitrate", "20M", "--length", "1400", "--bytes", "2M"]);
        let sum = &report["end"]["sum"];
        let counts = sum["packets"].as_u64().zip(sum["lost_packets"].as_u64());
        if counts.is_none() {
            eprintln!("no result: {report}");
        }
        counts.map(|counts| (counts, sum.clone()))
    });
    let ((packets, lost), sum) = udp.expect("a result of one run in three");
    assert!(packets >= 1_400, "{sum}");
    // UDP may lose on a machine that stalls; most of a slow stream arrives all the same.
    assert!(lost * 10 <= packets, "{lost} of {packets} lost");
}

#[test]
fn a_bash_script_reads_its_ports_as_the_document_says() {
    let (Some(bash), Some(python)) = (tool("bash"), tool("python3")) else { return };
    let place = Place::new();
    let server = r#"
import socket, sys, threading
tcp = socket.create_server(("0.0.0.0", int(sys.argv[1])))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("0.0.0.0", int(sys.argv[2])))
def datagrams():
    while True:
        data, peer = udp.recvfrom(65535); udp.sendto(b"udp " + data, peer)
threading.Thread(target=datagrams, daemon=True).start()
while True:
    peer, _ = tcp.accept(); peer.sendall(b"tcp " + peer.recv(100)); peer.close()
"#;
    std::fs::write(place.folder.path().join("server.py"), server).unwrap();
    // The two lines from the document stand here as written there.
    let script = format!(
        "UDP_SERVICE_NAME=STACKATO_HARBOR_UDP_${{STACKATO_APP_NAME_UPCASE}}\n\
         UDP_SERVICE_PORT=${{!UDP_SERVICE_NAME}}\n\
         TCP_SERVICE_NAME=STACKATO_HARBOR_TCP_${{STACKATO_APP_NAME_UPCASE}}\n\
         TCP_SERVICE_PORT=${{!TCP_SERVICE_NAME}}\n\
         echo \"PORTS udp $UDP_SERVICE_PORT tcp $TCP_SERVICE_PORT single '$STACKATO_HARBOR'\"\n\
         exec {} server.py $TCP_SERVICE_PORT $UDP_SERVICE_PORT\n",
        python.display()
    );
    std::fs::write(place.folder.path().join("start.sh"), script).unwrap();
    let bash = bash.display().to_string();
    let run = place.up(&["--app", "port-test", "--service", "udp-port-test", "tcp-port-test", "--", &bash, "start.sh"]);
    let line = run.said.iter().find(|line| line.contains("PORTS udp")).unwrap();
    assert!(line.ends_with("single ''"), "STACKATO_HARBOR is for exactly one service: {line}");

    let (tcp, udp) = (run.external("tcp-port-test"), run.external("udp-port-test"));
    let ask = |redirect: &str| output(Command::new(&bash).args(["-c", redirect]));
    let over_tcp = format!("exec 3<>/dev/tcp/{}/{}; printf ping >&3; cat <&3", tcp.ip(), tcp.port());
    assert_eq!(ask(&over_tcp), "tcp ping");
    let over_udp = format!("exec 3<>/dev/udp/{}/{}; printf ping >&3; head -c 8 <&3", udp.ip(), udp.port());
    assert_eq!(ask(&over_udp), "udp ping");
}

#[test]
fn curl_and_nc_see_the_instances_take_turns() {
    let (Some(curl), Some(nc)) = (tool("curl"), tool("nc")) else { return };
    let place = Place::new();
    let run = place.up(&["--service", "my-port", "--instances", "2"]);
    let addr = run.external("my-port");
    let mut heard = Vec::new();
    for _ in 0..2 {
        heard.push(output(Command::new(&curl).args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            &format!("http://{addr}/"),
        ])));
        heard.push(output(
            Command::new(&nc)
                .args(["-N", "-w", "20", &addr.ip().to_string(), &addr.port().to_string()])
                .stdin(std::process::Stdio::null()),
        ));
    }
    let want =
        ["instance 0 of my-port\n", "instance 1 of my-port\n", "instance 0 of my-port\n", "instance 1 of my-port\n"];
    assert_eq!(heard, want);
}
