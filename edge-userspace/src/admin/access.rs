//! The logs of a node: what its rooms tell, and a line for every request (`base::lines`). Both go
//! to standard error, in the same form, unless access lines have a file.

use std::io;
use std::path::Path;

use anyhow::Context;

use super::log::{self, Logs};
use crate::base::lines::{ACCESS, Form, Lines, Writer};
use crate::base::rolling::Rolling;
use crate::config::{self, LogFormat, Mistake, Mistakes, Place};

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
    /// A logger is installed already; the system gives no thread; the file of access lines cannot
    /// be written.
    pub fn start(config: &config::Log) -> anyhow::Result<Self> {
        let file = config.access_file.as_ref().map(|(path, place)| {
            let opened = Rolling::open(path, config.access_file_bytes, config.access_files);
            opened.map_err(|error| Mistakes(vec![refused(path, place, &error)]))
        });
        let file = file.transpose()?;
        let rooms = log::start(config)?;
        let form = |human| if human { Form::Human } else { Form::Json };
        let started = match file {
            Some(file) => Lines::start(form(config.format == LogFormat::Human), file),
            None => Lines::start(form(log::human(config.format)), io::stderr()),
        };
        let (lines, writer) = started.context("the log has no thread")?;
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

/// The mistake that a start would find: the directory of the access lines' file is not there.
/// Nothing is made.
///
/// # Errors
/// The mistake.
pub fn check(config: &config::Log) -> Result<(), Mistake> {
    let Some((path, place)) = &config.access_file else {
        return Ok(());
    };
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let there = directory.is_none_or(Path::is_dir);
    let usable = !path.exists() || path.is_file();
    match there && usable {
        true => Ok(()),
        false => {
            let kind = if there {
                io::ErrorKind::InvalidInput
            } else {
                io::ErrorKind::NotFound
            };
            Err(refused(path, place, &kind.into()))
        }
    }
}

fn refused(path: &Path, place: &Place, error: &io::Error) -> Mistake {
    place.mistake(
        format!("access lines cannot be written to {}: {error}", path.display()),
        "name a file in a directory that there is and that this user may write",
    )
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
