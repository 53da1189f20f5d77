//! Which command does what: each is a call and a form of its answer.

use std::future::Future;
use std::io::Write;

use harbor_client::{Answer, ClientError, DeleteMode, ServiceFilter};
use harbor_types::AppName;
use harbor_types::wire::{AppEnvironment, CreateService, ServiceView};

use crate::cli::{self, Cli, Command, OutputForm};
use crate::connection::{self, Connection};
use crate::failure::Failure;
use crate::output::Output;
use crate::{Surroundings, apply, register, show};

/// Runs the command.
pub(crate) async fn run<O: Write, E: Write>(
    cli: Cli,
    around: &Surroundings,
    output: &mut Output<'_, O, E>,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    if let (Command::Env { format: Some(_), .. }, OutputForm::Json) = (&cli.command, cli.output) {
        return Err(Failure::Usage {
            what: "--format and -o json do not go together".into(),
            remedy: "--format json prints the variables, -o json the node's answer".into(),
        });
    }
    let connection = connection::find(cli.url, around)?;
    let client = &connection.client;
    let failure = |error: ClientError| connection.failure(error);
    match cli.command {
        Command::CreateService(args) => {
            let answer = create(&connection, args).await?;
            for hint in &answer.value.hints {
                output.note(hint);
            }
            output.result(&answer.json, || created(&answer))
        }
        Command::Services => {
            let answer = client.services(&ServiceFilter::default()).await.map_err(failure)?;
            if answer.value.services.is_empty() && output.form() == OutputForm::Table {
                output.note("there are no services; order one: harbor create-service harbor NAME");
                return Ok(());
            }
            output.result(&answer.json, || show::services(&answer.value.services))
        }
        Command::Service { service } => {
            let answer = client.service(&service).await.map_err(failure)?;
            output.result(&answer.json, || show::service(&answer.value))
        }
        Command::DeleteService { service, force } => {
            let mode = if force { DeleteMode::Forced } else { DeleteMode::OnlyUnbound };
            let answer = client.delete_service(&service, mode).await.map_err(failure)?;
            output.result(&answer.json, || format!("deleted {service}"))
        }
        Command::BindService(cli::Binding { service, app }) => {
            let answer = client.bind_service(&service, &app).await.map_err(failure)?;
            output.result(&answer.json, || {
                if answer.created {
                    format!("bound {service} to {app}")
                } else {
                    format!("{service} is bound to {app} already")
                }
            })
        }
        Command::UnbindService(cli::Binding { service, app }) => {
            let answer = client.unbind_service(&service, &app).await.map_err(failure)?;
            output.result(&answer.json, || format!("unbound {service} from {app}"))
        }
        Command::Env { app, format, env_prefix } => {
            let prefixes: Vec<_> = env_prefix.iter().map(ToString::to_string).collect();
            let answer = client.app_env(&app, &prefixes).await.map_err(failure)?;
            env(&app, &answer, format.unwrap_or_default(), output)
        }
        Command::Apply { file } => apply::apply(&connection, file, &around.folder, output).await,
        Command::Register(args) => register::register(&connection, args, output, stop).await,
        Command::Deregister { service, backend } => register::deregister(&connection, &service, backend, output).await,
        Command::Ports => {
            let answer = client.ports().await.map_err(failure)?;
            output.result(&answer.json, || show::ports(&answer.value))
        }
        Command::Events { since } => {
            let answer = client.events(since, None).await.map_err(failure)?;
            if answer.value.missed {
                output.note("events before the first one listed are no longer kept");
            }
            if answer.value.events.is_empty() && output.form() == OutputForm::Table {
                output.note(&format!("nothing happened since event {}", answer.value.latest));
                return Ok(());
            }
            output.result(&answer.json, || show::events(&answer.value))
        }
    }
}

async fn create(connection: &Connection, args: cli::CreateService) -> Result<Answer<ServiceView>, Failure> {
    let cli::CreateService { kind: _, name, protocol, https, port, int_port, public, id } = args;
    let order = CreateService { protocol, https, port, int_port, public, ..CreateService::named(name) };
    let answer = match id {
        Some(id) => connection.client.put_service(id, &order).await,
        None => connection.client.create_service(&order).await,
    };
    answer.map_err(|error| connection.failure(error))
}

fn created(answer: &Answer<ServiceView>) -> String {
    let view = &answer.value;
    let verb = if answer.created { "created" } else { "found" };
    format!("{verb} {}\n{}", view.name, show::settings(view))
}

fn env<O: Write, E: Write>(
    app: &AppName,
    answer: &Answer<AppEnvironment>,
    format: harbor_env::Format,
    output: &mut Output<'_, O, E>,
) -> Result<(), Failure> {
    if output.form() == OutputForm::Json {
        return output.text(&answer.json);
    }
    let text = format.render(&answer.value.variables).map_err(|error| {
        Failure::failed(
            format!("the variables of {app} cannot be written as {format}: {error}"),
            "take another form: --format shell or --format json",
        )
    })?;
    // Apps exist by being bound, so a misspelt name is no error to the node.
    if answer.value.variables.get("STACKATO_SERVICES").is_some_and(|services| services == "{}") {
        output.note(&format!("no service is bound to {app}; bind one: harbor bind-service NAME {app}"));
    }
    output.text(&text)
}
