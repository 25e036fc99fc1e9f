//! Runs of `tls-load`, and of `openssl speed`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edge_testbed::process;
use serde::Deserialize;

use crate::workspace;

/// The longest run: ten thousand handshakes on a slow machine.
const LIMIT: Duration = Duration::from_secs(180);

/// What a handshake is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shake {
    /// Of TLS.
    pub(super) version: &'static str,
    /// The certificate's: p256 or rsa.
    pub(super) key: &'static str,
    /// The key exchange: x25519 or hybrid.
    pub(super) group: &'static str,
    pub(super) resume: bool,
}

/// What a load says of itself.
#[derive(Debug, Deserialize)]
pub(super) struct Run {
    pub(super) ok: usize,
    failed: usize,
    error: Option<String>,
    pub(super) seconds: f64,
    pub(super) p50_ms: f64,
    #[serde(default)]
    pub(super) tls: String,
    #[serde(skip)]
    pub(super) per_second: f64,
}

impl Run {
    /// Reads the load's line; a handshake that failed is an error.
    pub(super) fn parse(output: &str) -> Result<Self> {
        let mut run: Self = serde_json::from_str(output.trim()).with_context(|| format!("the load said {output:?}"))?;
        ensure!(
            run.failed == 0,
            "{} handshakes failed, one by: {}",
            run.failed,
            run.error.unwrap_or_default()
        );
        run.per_second = run.ok as f64 / run.seconds;
        Ok(run)
    }
}

/// Runs a command to its end for what it prints.
pub(in crate::bench) fn output(command: &mut Command) -> Result<String> {
    let output = process::output(command, LIMIT)?;
    ensure!(
        output.status.success(),
        "{}: {}",
        workspace::show(command),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Signatures per CPU-second of `openssl speed ecdsap256`, which counts CPU time itself.
pub(super) fn openssl_speed(core: usize, seconds: u32) -> Result<f64> {
    let mut command = Command::new("taskset");
    command
        .args(["-c", &core.to_string()])
        .arg(workspace::need("openssl", workspace::SETUP_BENCH)?)
        .args(["speed", "-seconds", &seconds.to_string(), "ecdsap256"]);
    let text = output(&mut command)?;
    signatures(&text).with_context(|| format!("openssl said {text:?}"))
}

/// ` 256 bits ecdsa (nistp256)   0.0000s   0.0001s  41935.0  15347.4`: times, then rates, of signing first.
fn signatures(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("ecdsa (nistp256)"))?;
    line.split_whitespace().rev().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_table_of_openssl_3() {
        let text = "                              sign    verify    sign/s verify/s\n \
                    256 bits ecdsa (nistp256)   0.0000s   0.0001s  41935.0  15347.4\n";
        assert_eq!(signatures(text), Some(41_935.0));
        assert_eq!(signatures("nothing"), None);
    }

    #[test]
    fn a_failed_handshake_is_an_error() {
        let line = |failed| format!("{{\"ok\":5,\"failed\":{failed},\"error\":null,\"seconds\":2.0,\"p50_ms\":1.5}}");
        assert_eq!(Run::parse(&line(0)).unwrap().per_second, 2.5);
        assert!(Run::parse(&line(1)).is_err());
    }
}
