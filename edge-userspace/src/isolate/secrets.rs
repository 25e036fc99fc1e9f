//! Secrets that an operator gave a zone's worker by a command (`edge worker secret`), beside those
//! that the configuration names: one file for each zone, for this user alone. In force from the
//! next request on, without a deployment; told to nobody but the worker. At most [`MOST`] of
//! [`BYTES`] for each zone: 16 MiB.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::artifact;
use super::error::Error;
use crate::config::isolate::Secret;

/// Secrets of one zone.
pub(super) const MOST: usize = 256;
/// Bytes of one.
const BYTES: usize = 64 << 10;
/// Characters of a name.
const NAME: usize = 128;

/// A zone's, by name.
pub(super) type Secrets = BTreeMap<String, Secret>;

fn file(state: &Path, zone: &str) -> PathBuf {
    // A zone may be called "..".
    state.join("secrets").join(format!("zone-{zone}.json"))
}

/// Those of `zone`; none if there is no file.
///
/// # Errors
/// [`Error::State`]: it cannot be read or was damaged.
pub(super) fn read(state: &Path, zone: &str) -> Result<Secrets, Error> {
    let path = file(state, zone);
    let text = match std::fs::read(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Secrets::new()),
        Err(error) => return Err(artifact::failed(&path, "cannot be read")(error)),
    };
    let plain: BTreeMap<String, String> =
        serde_json::from_slice(&text).map_err(|e| artifact::failed(&path, "is damaged")(e.into()))?;
    let secrets = plain.into_iter();
    Ok(secrets
        .map(|(name, value)| (name, Secret(Arc::new(Zeroizing::new(value)))))
        .collect())
}

pub(super) fn write(state: &Path, zone: &str, secrets: &Secrets) -> Result<(), Error> {
    artifact::directory(&state.join("secrets"))?;
    let path = file(state, zone);
    let plain: BTreeMap<&str, &str> = secrets
        .iter()
        .map(|(name, secret)| (name.as_str(), secret.0.as_str()))
        .collect();
    let text = serde_json::to_vec(&plain).map_err(|e| artifact::failed(&path, "cannot be written")(e.into()))?;
    artifact::replace(&path, &Zeroizing::new(text))
}

/// What a secret is, if it can be one.
pub(super) fn sound(name: &str, value: &[u8]) -> Result<Secret, Error> {
    let refused = |why: &str| Err(Error::Secret(why.to_owned()));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > NAME || !name.chars().all(plain) {
        return refused(&format!(
            "its name is not one of at most {NAME} letters, digits, `_`, `-` and `.`"
        ));
    }
    if value.len() > BYTES {
        return refused(&format!("it is longer than {BYTES} bytes"));
    }
    match std::str::from_utf8(value) {
        Ok(text) => Ok(Secret(Arc::new(Zeroizing::new(text.to_owned())))),
        Err(_) => refused("it is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A secret would be readable by others on the machine, or lost by a restart.
    #[test]
    fn what_is_given_is_kept_for_this_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        assert!(read(state.path(), "shop").unwrap().is_empty());
        let mut secrets = Secrets::new();
        secrets.insert("API".to_owned(), sound("API", "swördfish".as_bytes()).unwrap());
        write(state.path(), "shop", &secrets).unwrap();
        assert_eq!(read(state.path(), "shop").unwrap(), secrets);
        assert!(read(state.path(), "other").unwrap().is_empty());
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file(state.path(), "shop")), 0o600);
        assert_eq!(mode(state.path().join("secrets")), 0o700);
        assert!(!format!("{secrets:?}").contains("fish"));
        std::fs::write(file(state.path(), "shop"), "{").unwrap();
        assert!(read(state.path(), "shop").is_err());
    }

    /// A name could not be written in a script, or a value not be had as it was given.
    #[test]
    fn what_cannot_be_a_secret_is_refused() {
        for name in ["", "a b", "é", "a\n", &"a".repeat(NAME + 1)] {
            assert!(sound(name, b"x").is_err(), "{name}");
        }
        assert!(sound("A_1-b.c", b"").is_ok());
        assert!(sound("A", b"\xff").is_err() && sound("A", &[b'a'; BYTES + 1]).is_err());
    }
}
