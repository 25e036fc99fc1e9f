//! Log output: human lines on a terminal, JSON otherwise, written by a thread of its own so that a full pipe never stops a
//! worker. Lines that find the queue full are dropped and counted.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::targets::Targets;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use crate::config::{self, LogFormat};

/// Lines waiting for the writer; beyond, lines are dropped.
const QUEUE: usize = 16_384;

/// Keeps the writer alive, and changes the level on reload. Dropping it flushes what is queued.
pub struct Logs {
    level: reload::Handle<Targets, Registry>,
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").finish_non_exhaustive()
    }
}

/// Starts logging to standard error; once per process.
///
/// # Errors
/// A logger is installed already.
pub fn start(config: &config::Log) -> Result<Logs, tracing_subscriber::util::TryInitError> {
    let (writer, guard): (NonBlocking, WorkerGuard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .thread_name("log")
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    let (filter, level) = reload::Layer::new(targets(config));
    let human = match config.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_span_events(FmtSpan::NONE);
    if human {
        registry
            .with(layer.with_ansi(std::io::stderr().is_terminal()))
            .try_init()?;
    } else {
        registry.with(layer.json().flatten_event(true)).try_init()?;
    }
    Ok(Logs {
        level,
        dropped,
        _writer: guard,
    })
}

/// The filter for a checked level; `info` should it ever not parse.
fn targets(config: &config::Log) -> Targets {
    config
        .level
        .parse()
        .unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO))
}

#[cfg(test)]
impl Logs {
    /// Logs of nobody, for nodes that tests make beside each other.
    pub(crate) fn detached(config: &config::Log) -> Self {
        let (writer, guard) = NonBlockingBuilder::default().finish(std::io::sink());
        let (_, level) = reload::Layer::new(targets(config));
        Self {
            level,
            dropped: writer.error_counter(),
            _writer: guard,
        }
    }
}

impl Logs {
    /// Applies a new level; the format stays as it was at start.
    pub fn apply(&self, config: &config::Log) {
        // Fails only when the subscriber is gone, and with it every reader of the level.
        let _ = self.level.reload(targets(config));
    }

    /// Counts the lines dropped so far.
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}
