//! Log lines on stderr: text on a terminal, JSON otherwise, filtered by a level that a reload may change.
//!
//! Lines go through a queue to a thread of their own, so that a reader of stderr that stands still stops no relay.

mod queue;

use std::io::IsTerminal;
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat};
use queue::{Line, LogQueue};

/// Lines of the whole program.
static QUEUE: LogQueue = LogQueue::new();

/// How long the end of the program may wait for the reader of stderr.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Changes the level of a program that logs.
pub struct LogLevel(reload::Handle<Targets, Registry>);

/// Begins to log as configured. Call it once, from the program; a second call changes nothing but is harmless.
///
/// # Errors
/// The level's text cannot be read, somebody else set up logging before, or there is no thread to be had.
pub fn start(config: &LogConfig) -> Result<LogLevel, String> {
    let (filter, handle) = reload::Layer::new(targets(&config.level)?);
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let ansi = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(|| Line(&QUEUE));
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else {
        lines.with_ansi(ansi).boxed()
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(|error| error.to_string())?;
    let lost = |lines| tracing::warn!(lines, "log lines were lost: nobody read stderr");
    let write = move || QUEUE.write_to(&mut std::io::stderr(), lost);
    std::thread::Builder::new().name("harbor-log".into()).spawn(write).map_err(|error| error.to_string())?;
    Ok(LogLevel(handle))
}

/// Waits until what was logged is written, at most a second. The program's last step.
pub fn flush() {
    QUEUE.flush(LAST_LINES);
}

impl LogLevel {
    /// Logs at this level from now on.
    ///
    /// # Errors
    /// The text cannot be read; the old level stays.
    pub fn change(&self, level: &str) -> Result<(), String> {
        self.0.reload(targets(level)?).map_err(|error| error.to_string())
    }
}

/// Reads a filter. A bare word must be a level: the library would take `inof` for the name of a target.
pub(crate) fn targets(level: &str) -> Result<Targets, String> {
    let words = || level.split(',').map(str::trim);
    match words().find(|word| !word.contains('=') && word.parse::<LevelFilter>().is_err()) {
        Some(word) => Err(format!("{word:?} is no level; give error, warn, info, debug, trace or off")),
        None => level.parse().map_err(|error| format!("{level:?} is no log filter: {error}")),
    }
}
