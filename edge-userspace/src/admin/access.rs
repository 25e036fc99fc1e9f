//! The logs of a node: what its rooms tell, and a line for every request (`base::lines`). Both go
//! to standard error, in the same form.

use std::io;

use anyhow::Context;

use super::log::{self, Logs};
use crate::base::lines::{ACCESS, Form, Lines, Writer};
use crate::config;

/// Both logs. Dropped, they write what is left.
#[derive(Debug)]
pub struct NodeLogs {
    rooms: Logs,
    lines: Lines,
    _writer: Option<Writer>,
}

impl NodeLogs {
    /// Starts logging; once per process.
    ///
    /// # Errors
    /// A logger is installed already; the system gives no thread.
    pub fn start(config: &config::Log) -> anyhow::Result<Self> {
        let rooms = log::start(config)?;
        let form = match log::human(config.format) {
            true => Form::Human,
            false => Form::Json,
        };
        let (lines, writer) = Lines::start(form, io::stderr()).context("the log has no thread")?;
        let this = Self {
            rooms,
            lines,
            _writer: Some(writer),
        };
        this.apply(config);
        Ok(this)
    }

    /// Applies a new level; the format stays as it was at start.
    pub fn apply(&self, config: &config::Log) {
        self.rooms.apply(config);
        let wanted = log::targets(config).would_enable(ACCESS, &tracing::Level::INFO);
        self.lines.switch(wanted);
    }

    /// Where requests write.
    pub fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// Counts the lines dropped so far.
    pub fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let (rooms, lines) = (self.rooms.dropped(), self.lines.clone());
        move || rooms() + lines.dropped()
    }
}

#[cfg(test)]
impl NodeLogs {
    /// Logs of nobody, for nodes that tests make beside each other.
    pub(crate) fn detached(config: &config::Log) -> Self {
        Self {
            rooms: Logs::detached(config),
            lines: Lines::none(),
            _writer: None,
        }
    }
}
