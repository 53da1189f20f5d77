//! `apply`: reads a manifest, asks the node what exists, and carries out the [`plan`](crate::plan). Reports each step as
//! it was done, also when a later one fails.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use harbor_client::{ClientError, ServiceRef};
use harbor_env::manifest::{self, Manifest};
use harbor_types::ServiceName;
use harbor_types::wire::ServiceView;
use serde::Serialize;

use crate::cli::OutputForm;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::Output;
use crate::plan::{Step, plan};
use crate::show;

/// Manifests that are looked for, in this order.
const DEFAULT_FILES: [&str; 2] = ["stackato.yml", "manifest.yml"];
/// How much of a file is read: more than a manifest may have, so that a longer one is refused as such.
const READ_LIMIT: u64 = 1 << 20;

/// What was done; the JSON form of the command's result.
#[derive(Debug, Default, Serialize)]
struct Report {
    services: Vec<ServiceReport>,
    bindings: Vec<BindingReport>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ServiceReport {
    action: Action,
    service: ServiceView,
}

#[derive(Debug, Serialize)]
struct BindingReport {
    action: Action,
    service: String,
    app: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Created,
    Unchanged,
}

/// `harbor apply`.
pub(crate) async fn apply<O: Write, E: Write>(
    connection: &Connection,
    file: Option<PathBuf>,
    folder: &Path,
    output: &mut Output<'_, O, E>,
) -> Result<(), Failure> {
    let (file, text) = read(file, folder)?;
    let manifest = manifest::parse(&text, &file)
        .map_err(|error| Failure::failed(error.to_string(), "correct the manifest; nothing was changed"))?;
    let existing = existing(connection, &manifest).await?;
    let plan = plan(&manifest, &file, &existing).map_err(|what| Failure::Failed {
        what,
        remedy: "change the manifest, or delete the service and apply again, which gives it another port; nothing was changed"
            .into(),
    })?;
    if plan.steps.is_empty() {
        output.note(&format!("{file} asks for no Harbor services"));
    }
    for note in &plan.notes {
        output.note(note);
    }
    let mut report = Report { notes: plan.notes, ..Report::default() };
    let mut done = Ok(());
    for step in plan.steps {
        done = carry_out(connection, step, &mut report).await;
        if done.is_err() {
            break;
        }
    }
    for hint in report.services.iter().flat_map(|service| &service.service.hints) {
        output.note(hint);
    }
    let written = match output.form() {
        OutputForm::Json => output.text(&serde_json::to_string(&report).unwrap_or_default()),
        OutputForm::Table => output.text(&sentences(&report)),
    };
    done.map_err(|error| connection.failure(error)).and(written)
}

/// The manifest's name as given, and its text.
fn read(file: Option<PathBuf>, folder: &Path) -> Result<(String, String), Failure> {
    let file = match file {
        Some(file) => file,
        None => {
            DEFAULT_FILES.map(PathBuf::from).into_iter().find(|file| folder.join(file).exists()).ok_or_else(|| {
                Failure::failed(
                    format!("there is no {} here ({})", DEFAULT_FILES.join(" or "), folder.display()),
                    "name the manifest: harbor apply -f FILE",
                )
            })?
        }
    };
    let name = file.display().to_string();
    let mut text = String::new();
    File::open(folder.join(&file)).and_then(|file| file.take(READ_LIMIT).read_to_string(&mut text)).map_err(
        |error| Failure::failed(format!("{name} cannot be read: {error}"), "name another file: harbor apply -f FILE"),
    )?;
    Ok((name, text))
}

/// Those of the manifest's services that the node has.
async fn existing(connection: &Connection, manifest: &Manifest) -> Result<BTreeMap<ServiceName, ServiceView>, Failure> {
    let ordered = manifest.orders.iter().map(|order| &order.service.name);
    let listed = manifest.apps.iter().flat_map(|app| &app.listed).map(|listed| &listed.name);
    let mut existing = BTreeMap::new();
    for name in ordered.chain(listed) {
        match connection.client.service(&ServiceRef::from(name.clone())).await {
            Ok(answer) => drop(existing.insert(name.clone(), answer.value)),
            Err(ClientError::Refused { status: 404, .. }) => {}
            Err(error) => return Err(connection.failure(error)),
        }
    }
    Ok(existing)
}

async fn carry_out(connection: &Connection, step: Step, report: &mut Report) -> Result<(), ClientError> {
    let binding = |action, service: ServiceName, app: harbor_types::AppName| BindingReport {
        action,
        service: service.to_string(),
        app: app.to_string(),
    };
    match step {
        Step::Create(order) => {
            let service = connection.client.create_service(&order).await?.value;
            report.services.push(ServiceReport { action: Action::Created, service });
        }
        Step::Keep(service) => report.services.push(ServiceReport { action: Action::Unchanged, service: *service }),
        Step::Bind(service, app) => {
            connection.client.bind_service(&ServiceRef::from(service.clone()), &app).await?;
            report.bindings.push(binding(Action::Created, service, app));
        }
        Step::KeepBinding(service, app) => report.bindings.push(binding(Action::Unchanged, service, app)),
    }
    Ok(())
}

fn sentences(report: &Report) -> String {
    let services = report.services.iter().map(|ServiceReport { action, service }| match action {
        Action::Created => format!("created {}: {}\n", service.name, show::brief(service)),
        Action::Unchanged => format!("{} is there already: {}\n", service.name, show::brief(service)),
    });
    let bindings = report.bindings.iter().map(|BindingReport { action, service, app }| match action {
        Action::Created => format!("bound {service} to {app}\n"),
        Action::Unchanged => format!("{service} is bound to {app} already\n"),
    });
    services.chain(bindings).collect()
}
