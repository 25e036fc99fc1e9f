//! Log output: human lines on a terminal, JSON otherwise, written by a thread of its own so that a
//! full pipe never stops a worker. Lines that find the queue full are dropped and counted. Lines of
//! requests go another way (`base::lines`).

use std::io::IsTerminal;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
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
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_span_events(FmtSpan::NONE);
    if human(config.format) {
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

/// Whether lines are for people.
pub(super) fn human(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    }
}

/// Libraries that warn of what strangers send, with what they sent in the line, and the most that
/// they may say unless the level names them: a ClientHello that nobody has to answer for would grow
/// the log by several times its own length.
const LIBRARIES: [(&str, LevelFilter); 8] = [
    ("rustls", LevelFilter::ERROR),
    ("tokio_rustls", LevelFilter::ERROR),
    ("quinn", LevelFilter::ERROR),
    ("quinn_proto", LevelFilter::ERROR),
    ("quinn_udp", LevelFilter::ERROR),
    ("hyper", LevelFilter::ERROR),
    ("hyper_util", LevelFilter::ERROR),
    ("h2", LevelFilter::ERROR),
];

/// The filter for a checked level; `info` should it ever not parse.
pub(super) fn targets(config: &config::Log) -> Targets {
    let asked: Targets = config
        .level
        .parse()
        .unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    let default = asked.default_level().unwrap_or(LevelFilter::OFF);
    let named = |library: &str| {
        asked.iter().any(|(target, _)| {
            let rest = target.strip_prefix(library);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
    };
    let quiet: Vec<_> = LIBRARIES
        .into_iter()
        .filter(|(library, _)| !named(library))
        .map(|(library, most)| (library, most.min(default)))
        .collect();
    asked.with_targets(quiet)
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
    pub fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let dropped = self.dropped.clone();
        move || dropped.dropped_lines() as u64
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    /// Whoever sends broken hellos would fill the disk, and push the lines out that somebody needs.
    #[test]
    fn libraries_speak_when_they_are_asked() {
        let enabled = |level: &str, target: &str, of: Level| {
            let log = config::Log {
                format: LogFormat::Json,
                level: level.to_owned(),
                access_sample: None,
                access_file: None,
                access_file_bytes: 0,
                access_files: 0,
            };
            targets(&log).would_enable(target, &of)
        };
        for level in ["info", "warn", "debug", "trace", "info,edge::tls=debug"] {
            for target in [
                "rustls::msgs::handshake",
                "quinn_proto::connection",
                "quinn_udp",
                "h2::proto",
            ] {
                assert!(!enabled(level, target, Level::WARN), "{level} {target}");
            }
            assert!(enabled(level, "rustls", Level::ERROR));
            assert!(enabled(level, "edge::tls", Level::WARN));
        }
        assert!(enabled("info,rustls=debug", "rustls::conn", Level::DEBUG));
        assert!(enabled("info,rustls::conn=warn", "rustls::conn", Level::WARN));
        assert!(!enabled("info,rustls=debug", "quinn", Level::WARN));
        assert!(!enabled("off", "rustls", Level::ERROR) && !enabled("error", "edge::tls", Level::WARN));
    }
}
