//! What the command line says instead of the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::config::fleet::Release;
use crate::config::{self, Config, Mistakes, XdpMode};

/// Arguments of `edge run`. What they name wins over the file, at the start and at every reload.
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// The configuration file.
    #[arg(long, short, default_value = "/etc/edge/edge.toml")]
    pub(crate) config: PathBuf,
    /// Attach to this interface instead of those in the file; may be repeated.
    #[arg(long, short)]
    pub(crate) interface: Vec<String>,
    /// How to attach XDP instead of what the file says.
    #[arg(long, value_enum)]
    pub(crate) xdp: Option<Xdp>,
    /// Short for `--xdp off`.
    #[arg(long, conflicts_with = "xdp")]
    pub(crate) no_xdp: bool,
    /// What the file would say, if there is none.
    #[arg(skip)]
    pub(crate) text: Option<Arc<str>>,
    /// How log lines look instead of what the file says.
    #[arg(long, value_enum)]
    pub(crate) log_format: Option<LogFormat>,
}

/// `--xdp`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Xdp {
    /// Native, falling back to generic with a warning.
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the network stack: slower, on any interface.
    Generic,
    /// Without XDP.
    Off,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for eyes.
    Human,
    /// One JSON object a line.
    Json,
}

impl Run {
    /// The file, with what the command line says instead.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub(super) fn configuration(&self) -> Result<Config, Mistakes> {
        self.read(Release::Current)
    }

    /// The same with the files of another manifest than the one in force.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub(super) fn configuration_with(&self, tree: &Path) -> Result<Config, Mistakes> {
        self.read(Release::Tree(tree))
    }

    fn read(&self, release: Release<'_>) -> Result<Config, Mistakes> {
        let mut config = match &self.text {
            Some(text) => Config::parse(&self.config, text)?,
            None => Config::read_with(&self.config, release)?,
        };
        if !self.interface.is_empty() {
            config.dataplane.interfaces.clone_from(&self.interface);
            config.fixed.overridden("dataplane.interfaces");
            if config.dataplane.mode == XdpMode::Off {
                config.dataplane.mode = XdpMode::Auto;
            }
        }
        let mode = if self.no_xdp { Some(Xdp::Off) } else { self.xdp };
        if mode.is_some() {
            config.fixed.overridden("dataplane.xdp");
        }
        match mode {
            Some(Xdp::Off) => config.dataplane.mode = XdpMode::Off,
            _ if config.dataplane.interfaces.is_empty() => config.dataplane.mode = XdpMode::Off,
            Some(Xdp::Auto) => config.dataplane.mode = XdpMode::Auto,
            Some(Xdp::Native) => config.dataplane.mode = XdpMode::Native,
            Some(Xdp::Generic) => config.dataplane.mode = XdpMode::Generic,
            None => {}
        }
        if self.log_format.is_some() {
            config.fixed.overridden("log.format");
        }
        match self.log_format {
            Some(LogFormat::Human) => config.log.format = config::LogFormat::Human,
            Some(LogFormat::Json) => config.log.format = config::LogFormat::Json,
            None => {}
        }
        Ok(config)
    }
}
