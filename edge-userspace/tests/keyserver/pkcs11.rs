//! Keys in a token: SoftHSM, in the same sandbox as other key servers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use edge::keyserver::wire::{Ciphertext, KeyId, KeyKind};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};

use super::bed::{ALL, Bed, block_on, key, openssl, rsa};
use super::ops::{every_signature, keys, premasters};

const NOBODY: u32 = 65_534;

/// Where distributions have the module.
fn module() -> PathBuf {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/lib/pkcs11/libsofthsm2.so",
    ];
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    found.expect("SoftHSM's module (package softhsm2): `cargo xtask test --pkcs11` installs it")
}

/// A token with the label `edge`, and keys imported into it by PEM.
struct Token(tempfile::TempDir);

impl Token {
    fn new(keys: &[(&str, &str)]) -> Self {
        let token = Self(tempfile::tempdir().unwrap());
        fs::create_dir(token.path("tokens")).unwrap();
        let configuration = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            token.path("tokens").display()
        );
        fs::write(token.path("softhsm2.conf"), configuration).unwrap();
        token.softhsm(&[
            "--init-token",
            "--free",
            "--label",
            "edge",
            "--pin",
            "4321",
            "--so-pin",
            "87654321",
        ]);
        for (number, (name, pem)) in keys.iter().enumerate() {
            let file = token.path("import");
            fs::write(&file, pem).unwrap();
            let id = format!("{:02x}", number + 1);
            let file = file.display().to_string();
            token.softhsm(&[
                "--import", &file, "--token", "edge", "--label", name, "--id", &id, "--pin", "4321",
            ]);
        }
        fs::remove_file(token.path("import")).unwrap();
        token.pin("4321");
        token
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn softhsm(&self, arguments: &[&str]) {
        let output = Command::new("softhsm2-util")
            .args(arguments)
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    /// Writes the PIN's file, and gives all to the key server's user.
    fn pin(&self, pin: &str) {
        fs::write(self.path("pin"), format!("{pin}\n")).unwrap();
        fs::set_permissions(self.path("pin"), fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            give(self.0.path());
        }
    }

    /// What a file in the key directory says of a key.
    fn entry(&self, which: &str) -> String {
        format!(
            "module = \"{}\"\ntoken = \"edge\"\n{which}\npin = \"{}\"\n",
            module().display(),
            self.path("pin").display()
        )
    }

    fn bed(&self, files: &[(&str, &str)]) -> Bed {
        Bed::start_with(files, ALL, Some(("SOFTHSM2_CONF", &self.path("softhsm2.conf"))))
    }
}

fn give(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

/// Every op that needs a private key, with every kind of key, none of which is in the process: by
/// label and by id.
#[test]
fn every_op() {
    let curves = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384].map(key);
    let [(p256, _), (p384, _)] = &curves;
    // In the older form, which is what SoftHSM reads.
    let ed = openssl(&["genpkey", "-algorithm", "ed25519"], Path::new("/"));
    let (ed, rsa) = (String::from_utf8(ed).unwrap(), rsa());
    let token = Token::new(&[("p256", p256), ("p384", p384), ("ed", &ed), ("rsa", &rsa)]);
    let bed = token.bed(&[
        ("p256.pkcs11", &token.entry("key = \"p256\"")),
        ("p384.pkcs11", &token.entry("id = \"02\"")),
        ("ed.pkcs11", &token.entry("key = \"ed\"")),
        ("rsa.pkcs11", &token.entry("key = \"rsa\"")),
    ]);
    fs::write(bed.path("rsa.pem"), &rsa).unwrap();
    let premaster: Vec<u8> = [0x03, 0x03].into_iter().chain(1..47).collect();
    fs::write(bed.path("premaster"), &premaster).unwrap();
    let arguments = ["pkeyutl", "-encrypt", "-inkey", "rsa.pem", "-in", "premaster"];
    let encrypted = Ciphertext::new(&openssl(&arguments, bed.path("").as_path())).unwrap();
    block_on(async {
        let mut client = bed.connect().await;
        let listed = keys(&mut client).await;
        let mut found: Vec<KeyKind> = listed.iter().map(|key| key.kind).collect();
        found.sort();
        assert_eq!(found, KeyKind::ALL, "{}", bed.log());
        // As edges reckon them from certificates.
        let ids: Vec<KeyId> = listed.iter().map(|key| key.id()).collect();
        for (_, id) in &curves {
            assert!(ids.contains(id), "{id} is not among {ids:?}");
        }
        every_signature(&mut client, &listed).await;
        let key = listed.iter().find(|key| key.kind == KeyKind::Rsa).unwrap().id();
        premasters(&mut client, key, &encrypted, &premaster).await;
    });
    assert!(!bed.log().contains("a token failed"), "{}", bed.log());
}

/// A wrong PIN is tried once, not for every key and at every look: tokens lock themselves after a
/// few. With the right one the keys come without a restart. A key that is not there yet is looked
/// for until it is.
#[test]
fn mistakes() {
    let (pem, id) = key(&PKCS_ECDSA_P256_SHA256);
    let token = Token::new(&[("shop", &pem)]);
    token.pin("1111");
    let late = token.entry("key = \"late\"");
    let bed = token.bed(&[("shop.pkcs11", &token.entry("key = \"shop\"")), ("late.pkcs11", &late)]);
    bed.wait("a second look", || bed.log().contains("not taken this PIN"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(bed.log().matches("PIN is incorrect").count(), 1, "{}", bed.log());
    assert_eq!(bed.metric("edge_keyserver_keys"), 0.0);
    token.pin("4321");
    bed.wait("the key", || bed.metric("edge_keyserver_keys") == 1.0);
    assert!(bed.log().contains(&id.to_string()), "{}", bed.log());
    bed.wait("the other key's fault", || bed.log().contains("no such private key"));
    assert_eq!(bed.metric("edge_keyserver_key_errors"), 1.0);
}
