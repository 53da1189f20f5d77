//! `register` and `deregister`: how long a registration lasts, what its instance is called, and whom an address means.

use std::future::Future;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use harbor_client::{ClientError, Kept, ServiceRef, keep_registered};
use harbor_types::InstanceId;
use harbor_types::wire::{BackendView, RegisterBackend};

use crate::cli::{BackendRef, OutputForm, Register};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::Output;

/// `harbor register`.
pub(crate) async fn register<O: Write, E: Write>(
    connection: &Connection,
    args: Register,
    output: &mut Output<'_, O, E>,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let instance = match args.instance {
        Some(instance) => instance,
        None => instance_of(args.addr)?,
    };
    // Without an agent nobody heartbeats: a registration lasts unless it is asked to end.
    let permanent = args.ttl.is_none() && !args.keep;
    let order = RegisterBackend { addr: args.addr, ttl: args.ttl, permanent };
    if args.keep {
        return keep(connection, &args.service, &instance, &order, output, stop).await;
    }
    let answer =
        connection.client.register(&args.service, &instance, &order).await.map_err(|e| connection.failure(e))?;
    output.result(&answer.json, || sentence(&args.service, &answer.value, ""))
}

async fn keep<O: Write, E: Write>(
    connection: &Connection,
    service: &ServiceRef,
    instance: &InstanceId,
    order: &RegisterBackend,
    output: &mut Output<'_, O, E>,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let mut written = Ok(());
    let report = |kept: Kept<'_>| match kept {
        Kept::Registered(view) => {
            let json = serde_json::to_string(view).unwrap_or_default();
            let done = output.result(&json, || sentence(service, view, ", kept alive until Ctrl-C"));
            // Nobody reading is no reason to let the registration go.
            if let Err(Failure::Write(error)) = done {
                written = Err(Failure::Write(error));
            }
        }
        Kept::Late(error) => output.note(&format!("{}; trying again", error.what())),
    };
    let ended = keep_registered(&connection.client, service, instance, order, report, stop).await;
    ended.map_err(|error| connection.failure(error))?;
    written?;
    if output.form() == OutputForm::Table {
        output.text(&format!("deregistered {instance} from {service}"))?;
    }
    Ok(())
}

fn sentence(service: &ServiceRef, view: &BackendView, ending: &str) -> String {
    let lasts = match view.ttl {
        None => "until it is deregistered".to_owned(),
        Some(ttl) => format!("for {ttl} at a time"),
    };
    format!("registered {} at {} for {service}, {lasts}{ending}", view.instance, view.addr)
}

/// `harbor deregister`.
pub(crate) async fn deregister<O: Write, E: Write>(
    connection: &Connection,
    service: &ServiceRef,
    backend: BackendRef,
    output: &mut Output<'_, O, E>,
) -> Result<(), Failure> {
    let failure = |error: ClientError| connection.failure(error);
    let instances = match backend {
        BackendRef::Instance(instance) => vec![instance],
        BackendRef::Addr(addr) => {
            let list = connection.client.backends(service).await.map_err(failure)?.value;
            let found = list.backends.into_iter().filter(|backend| backend.addr == addr);
            let found: Vec<_> = found.map(|backend| backend.instance).collect();
            if found.is_empty() {
                return Err(Failure::failed(
                    format!("no backend of {service} has the address {addr}"),
                    format!("see which there are: harbor service {service}"),
                ));
            }
            found
        }
    };
    for instance in instances {
        let answer = connection.client.deregister(service, &instance).await.map_err(failure)?;
        output.result(&answer.json, || format!("deregistered {instance} from {service}"))?;
    }
    Ok(())
}

/// The name of an instance that is known by its address only: `10.0.0.5-4100`, `fd12-0-0-0-0-0-0-1-4100`.
fn instance_of(addr: SocketAddr) -> Result<InstanceId, Failure> {
    let host = match addr.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => ip.segments().map(|segment| format!("{segment:x}")).join("-"),
    };
    let id = format!("{host}-{}", addr.port());
    InstanceId::parse(&id)
        .map_err(|error| Failure::failed(error.to_string(), "give the instance a name with --instance"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_named_by_their_address() {
        for (addr, want) in [
            ("10.0.0.5:4100", "10.0.0.5-4100"),
            ("[fd12::1]:4100", "fd12-0-0-0-0-0-0-1-4100"),
            ("[::1]:80", "0-0-0-0-0-0-0-1-80"),
        ] {
            assert_eq!(instance_of(addr.parse().unwrap()).unwrap().as_str(), want);
        }
    }
}
