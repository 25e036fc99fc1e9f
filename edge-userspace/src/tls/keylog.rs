//! Session keys for debugging: in a build with feature `keylog`, each handshake's secrets are added
//! to the file that the environment's `SSLKEYLOGFILE` names, in the form that Wireshark reads.
//! Whoever has the file reads every recorded connection, so no other build knows how. `settings`
//! hands it to rustls.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use data_encoding::HEXLOWER;
use rustls::KeyLog;
use zeroize::Zeroizing;

const VARIABLE: &str = "SSLKEYLOGFILE";

/// The process's log; `None`: the variable is not set, or its file cannot be written.
static LOG: LazyLock<Option<Arc<KeyFile>>> = LazyLock::new(|| {
    let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty())?;
    let path = Path::new(&path);
    match KeyFile::open(path) {
        Ok(file) => {
            tracing::warn!(
                target: "edge::tls",
                file = %path.display(),
                "the keys of all connections are written to a file; whoever has it reads them all"
            );
            Some(Arc::new(file))
        }
        Err(error) => {
            tracing::error!(target: "edge::tls", file = %path.display(), %error, "session keys are not written");
            None
        }
    }
});

/// What rustls tells its secrets to.
pub(super) fn log() -> Option<Arc<dyn KeyLog>> {
    LOG.clone().map(|log| -> Arc<dyn KeyLog> { log })
}

/// A file that nobody else may read, which lines are added to.
#[derive(Debug)]
struct KeyFile(Mutex<File>);

impl KeyFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self(Mutex::new(file)))
    }
}

impl KeyLog for KeyFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let secret = Zeroizing::new(HEXLOWER.encode(secret));
        let line = format!("{label} {} {}\n", HEXLOWER.encode(client_random), *secret);
        let line = Zeroizing::new(line);
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A whole line in one write, or none: several processes may add to the file.
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::debug!(target: "edge::tls", %error, "session keys could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Wireshark would not read it, or everybody on the machine would.
    #[test]
    fn lines_and_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        for _ in 0..2 {
            let file = KeyFile::open(&path).unwrap();
            file.log("CLIENT_RANDOM", &[0xab; 32], &[1, 0xff]);
        }
        let line = format!("CLIENT_RANDOM {} 01ff\n", "ab".repeat(32));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{line}{line}"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(KeyFile::open(directory.path()).is_err());
    }
}
