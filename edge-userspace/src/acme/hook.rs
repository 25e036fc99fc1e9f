//! The operator's program that sets and clears records in DNS, for challenges by DNS.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::AcmeError;

/// For one call: setting a record, and waiting until the zone's servers have it, is the program's
/// to do.
const PATIENCE: Duration = Duration::from_secs(300);
/// Of what it says, for the log.
const WORDS: usize = 400;

/// Runs `hook WHAT _acme-challenge.HOST VALUE`; `what` is `set` or `clear`.
///
/// # Errors
/// It cannot be started, takes longer than five minutes, or ends with another status than 0.
pub(super) async fn run(hook: &Path, what: &str, host: &str, value: &str) -> Result<(), AcmeError> {
    let wrong = |words: String| AcmeError::Hook {
        program: hook.display().to_string(),
        words,
    };
    let mut command = Command::new(hook);
    command
        .arg(what)
        .arg(format!("_acme-challenge.{host}"))
        .arg(value)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .map_err(|_| wrong("it did not end in time".to_owned()))?
        .map_err(|error| wrong(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(WORDS).collect();
    Err(wrong(format!("{} {said:?}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hook");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        (directory, path)
    }

    /// An operator's program gets what it needs, and its own words reach the log when it fails.
    #[tokio::test]
    async fn it_is_told_what_to_do_and_heard() {
        let (directory, hook) = script("echo \"$@\" > \"$(dirname \"$0\")/told\"");
        run(&hook, "set", "a.test", "v4lue").await.unwrap();
        let told = std::fs::read_to_string(directory.path().join("told")).unwrap();
        assert_eq!(told, "set _acme-challenge.a.test v4lue\n");
        let (_kept, hook) = script("echo no such zone >&2; exit 3");
        let error = run(&hook, "set", "a.test", "v").await.unwrap_err().to_string();
        assert!(error.contains("no such zone") && error.contains('3'), "{error}");
        assert!(run(Path::new("/no/such/hook"), "set", "a.test", "v").await.is_err());
    }
}
