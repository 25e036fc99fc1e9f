//! A local certificate authority: ECDSA P-256 leaves with any names, written as PEM.
//!
//! The demo, benches and tests ask for certificates; the daemon and the clients read the files.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

/// A certificate authority whose key lives only in this process.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Where a leaf was written.
#[derive(Clone, Debug)]
pub struct Files {
    /// The chain, leaf first, without the root.
    pub certificate: PathBuf,
    /// PKCS#8 PEM, mode 0600.
    pub key: PathBuf,
}

impl Authority {
    /// A new root, valid since the first day of last year and for years to come.
    pub fn new(name: &str) -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut parameters, 20);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self {
            issuer: CertifiedIssuer::self_signed(parameters, key)?,
        })
    }

    /// The root's certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes the root's certificate for clients to trust.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.pem()).with_context(|| format!("writing {}", path.display()))
    }

    /// A leaf for servers and clients, as PEM: certificate, key. Names may be wildcards or IP
    /// addresses.
    pub fn leaf(&self, names: &[&str]) -> Result<(String, String)> {
        self.leaf_of(names, &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
    }

    /// As [`Authority::leaf`], with a key that is there: PKCS#8 PEM, RSA for one, which this cannot
    /// make.
    pub fn leaf_with(&self, names: &[&str], key: &str) -> Result<(String, String)> {
        self.leaf_of(names, &KeyPair::from_pem(key)?)
    }

    fn leaf_of(&self, names: &[&str], key: &KeyPair) -> Result<(String, String)> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters = CertificateParams::new(names.clone())?;
        if let Some(first) = names.first() {
            parameters.distinguished_name.push(DnType::CommonName, first.as_str());
        }
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        validity(&mut parameters, 10);
        Ok((parameters.signed_by(key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// Writes a leaf as `DIRECTORY/STEM.pem` and `DIRECTORY/STEM.key`.
    pub fn write_leaf(&self, directory: &Path, stem: &str, names: &[&str]) -> Result<Files> {
        let (certificate, key) = self.leaf(names)?;
        let files = Files {
            certificate: directory.join(stem).with_extension("pem"),
            key: directory.join(stem).with_extension("key"),
        };
        fs::write(&files.certificate, certificate)
            .with_context(|| format!("writing {}", files.certificate.display()))?;
        write_key(&files.key, &key)?;
        Ok(files)
    }
}

/// Writes a private key that only its owner can read.
pub fn write_key(path: &Path, pem: &str) -> Result<()> {
    // A key of an earlier run keeps its own mode when it is only overwritten.
    let _ = fs::remove_file(path);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(pem.as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
}

/// Valid now, whatever the machine's clock says: the range starts a year before the clock's own
/// year.
fn validity(parameters: &mut CertificateParams, years: i32) {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let year = 1970 + i32::try_from(seconds / 31_556_952).unwrap_or(0);
    parameters.not_before = date_time_ymd(year - 1, 1, 1);
    parameters.not_after = date_time_ymd(year + years, 1, 1);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn openssl_trusts_a_wildcard_leaf_and_keys_are_private() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("Edge test CA").unwrap();
        let root = directory.path().join("ca.pem");
        authority.write(&root).unwrap();
        let files = authority
            .write_leaf(directory.path(), "shop", &["shop.test", "*.shop.test", "10.77.0.1"])
            .unwrap();
        assert_eq!(fs::metadata(&files.key).unwrap().mode() & 0o777, 0o600);
        // Written again over an old key that the world could read.
        fs::set_permissions(&files.key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let files = authority
            .write_leaf(directory.path(), "shop", &["shop.test", "*.shop.test"])
            .unwrap();
        assert_eq!(fs::metadata(&files.key).unwrap().mode() & 0o777, 0o600);

        let Ok(verified) = Command::new("openssl")
            .args([
                "verify",
                "-x509_strict",
                "-purpose",
                "sslserver",
                "-verify_hostname",
                "a.shop.test",
                "-CAfile",
            ])
            .args([&root, &files.certificate])
            .output()
        else {
            eprintln!("SKIPPED in part: `openssl` is not installed");
            return;
        };
        assert!(verified.status.success(), "{verified:?}");
    }
}
