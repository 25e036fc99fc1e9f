//! `edge doctor`: looks at this machine with the configuration in hand, and says what will hurt,
//! each with its mend. With `--fix` it mends what is safe to: kernel settings that are too small,
//! the BPF file system, directories that are missing.
//!
//! [`ground`] looks at the machine, [`reach`] at ports and servers elsewhere; this file is what
//! they share, and what is printed.

mod ground;
mod reach;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::config::Config;
use crate::config::value::AdminAddress;
use crate::node;

/// Of this process, for automation: nothing found, something to look at, something that keeps the
/// node from its work.
const WARNED: u8 = 1;
const FAILED: u8 = 2;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The configuration file.
    #[arg(long, short, default_value = "/etc/edge/edge.toml")]
    config: PathBuf,
    /// Mend what is safe to mend, as root: kernel settings (until the next boot), the BPF file
    /// system, directories.
    #[arg(long)]
    fix: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// The running node's admin endpoint, which tells whose the ports are.
    #[arg(long, env = "EDGE_ADMIN", default_value_t = AdminAddress::commands())]
    admin: AdminAddress,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Weight {
    /// As it should be.
    Sound,
    /// It works, and will hurt under load or later.
    Warning,
    /// It keeps the node, or a part of it, from its work.
    Failure,
}

/// Something that can be mended here without a danger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Fix {
    /// A file below /proc/sys gets this value.
    Setting(PathBuf, String),
    /// A BPF file system is mounted here.
    BpfFileSystem(PathBuf),
    /// A directory is made, for its owner alone.
    Directory(PathBuf),
}

/// What was looked at, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    weight: Weight,
    /// What was looked at.
    about: String,
    /// What was seen.
    seen: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    mend: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<Fix>,
}

impl Finding {
    fn sound(about: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            weight: Weight::Sound,
            about: about.into(),
            seen: seen.into(),
            mend: String::new(),
            fix: None,
        }
    }

    fn warning(about: impl Into<String>, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            weight: Weight::Warning,
            mend: mend.into(),
            ..Self::sound(about, seen)
        }
    }

    fn failure(about: impl Into<String>, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            weight: Weight::Failure,
            mend: mend.into(),
            ..Self::sound(about, seen)
        }
    }

    fn with(self, fix: Fix) -> Self {
        Self { fix: Some(fix), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.weight {
            Weight::Sound => "ok     ",
            Weight::Warning => "warning",
            Weight::Failure => "FAILURE",
        };
        write!(f, "{mark}  {}: {}", self.about, self.seen)?;
        if !self.mend.is_empty() {
            write!(f, "\n         mend: {}", self.mend)?;
        }
        match self.fix {
            Some(_) => f.write_str(" (--fix does it)"),
            None => Ok(()),
        }
    }
}

/// Looks, mends if that is asked for, and prints.
pub(super) fn run(doctor: &Doctor) -> ExitCode {
    let mut findings = look(doctor);
    if doctor.fix {
        let mut words = Vec::new();
        for fix in findings.iter().filter_map(|finding| finding.fix.as_ref()) {
            words.push(match ground::apply(fix) {
                Ok(()) => Finding::sound("mended", fix.to_string()),
                Err(error) => Finding::warning("not mended", format!("{fix}: {error}"), "do it as root"),
            });
        }
        // As it is now.
        findings = look(doctor);
        findings.extend(words);
    }
    let worst = findings.iter().map(|finding| finding.weight).max();
    let text = match doctor.json {
        true => serde_json::to_string_pretty(&findings).unwrap_or_default() + "\n",
        false => findings.iter().map(|finding| format!("{finding}\n")).collect(),
    };
    super::print(&text);
    match worst {
        Some(Weight::Failure) => ExitCode::from(FAILED),
        Some(Weight::Warning) => ExitCode::from(WARNED),
        _ => ExitCode::SUCCESS,
    }
}

fn look(doctor: &Doctor) -> Vec<Finding> {
    let mut findings = ground::kernel();
    match Config::read(&doctor.config) {
        Ok(config) => {
            findings.extend(ground::settings(&config));
            findings.extend(ground::interfaces(&config));
            findings.extend(ground::disk(&config));
            findings.extend(reach::ports(&config, &doctor.admin));
            findings.extend(reach::servers(&config));
            findings.extend(files(&doctor.config, config));
        }
        Err(mistakes) => {
            for line in mistakes.to_string().lines() {
                findings.push(Finding::failure("configuration", line, "mend the file"));
            }
        }
    }
    findings
}

/// What the file names, as a start would find it.
fn files(path: &std::path::Path, config: Config) -> Vec<Finding> {
    let zones = config.zones.len();
    match node::check(config) {
        Ok(warnings) if warnings.is_empty() => {
            vec![Finding::sound(
                "configuration",
                format!("{}: {zones} zones, sound", path.display()),
            )]
        }
        Ok(warnings) => warnings
            .iter()
            .map(|warning| Finding::warning("configuration", warning.to_string(), ""))
            .collect(),
        Err(error) => error
            .to_string()
            .lines()
            .map(|line| Finding::failure("configuration", line, ""))
            .collect(),
    }
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(path, value) => write!(f, "{} = {value}", path.display()),
            Self::BpfFileSystem(path) => write!(f, "BPF file system on {}", path.display()),
            Self::Directory(path) => write!(f, "directory {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Automation that is told 0 goes on.
    #[test]
    fn the_worst_finding_counts() {
        assert!(Weight::Failure > Weight::Warning && Weight::Warning > Weight::Sound);
        let finding = Finding::failure("port", "taken", "stop it");
        assert_eq!(finding.to_string(), "FAILURE  port: taken\n         mend: stop it");
        let finding = finding.with(Fix::Directory("/x".into()));
        assert!(finding.to_string().ends_with("(--fix does it)"));
    }
}
