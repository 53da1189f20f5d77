//! How long does the environment of an app with ten services take to render, and how long to read it back?

#![expect(clippy::expect_used, reason = "a benchmark that cannot begin has nobody to tell but its runner")]

use criterion::{Criterion, criterion_group, criterion_main};
use harbor_env::Prefix;
use harbor_types::{AppName, Credentials, ServiceName};

fn services() -> Vec<(ServiceName, Credentials)> {
    let service = |nth: u16| {
        let credentials = format!(
            r#"{{"hostname":"node-1.internal","host":"192.168.68.111","port":{},"node_id":"harbor_node_1","int_port":{},
                "name":"cf7f868a-8b7b-4ac8-ab4d-9fd87efb7c{nth:02}","ext_hostname":"ports.example.com","ext_host":"15.185.104.122"}}"#,
            20_000 + nth,
            4100 + nth,
        );
        let name = format!("udp-port-{nth}").parse().expect("a name of letters and digits");
        (name, serde_json::from_str(&credentials).expect("credentials as written above"))
    };
    (0..10).map(service).collect()
}

fn env(criterion: &mut Criterion) {
    let (app, services): (AppName, _) = ("my-app".parse().expect("a name of letters"), services());
    let render = |prefixes: &[Prefix]| harbor_env::render(&app, &services, prefixes).expect("ten different variables");
    criterion.bench_function("env/render_us_10_services", |bencher| bencher.iter(|| render(&[])));
    let vars = render(&[]);
    criterion.bench_function("env/parse_us_10_services", |bencher| bencher.iter(|| harbor_env::parse(&vars)));
}

criterion_group!(benches, env);
criterion_main!(benches);
