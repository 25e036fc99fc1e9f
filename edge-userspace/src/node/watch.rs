//! Watches the files of certificates and keys, OCSP responses, revocation lists, and the keys that
//! tokens are checked with, so that whoever renews them (an ACME client, a person) need not tell
//! the daemon. By looking: files are replaced by renames, behind symbolic links, and on mounts that
//! send no events.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Node;
use crate::base::shutdown::Phase;
use crate::config::rule::jwt::KeyFile;
use crate::config::{Config, Key, Zone};
use crate::tls::certificates;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(3);
/// Looks between two warnings of certificates that soon expire: half a day.
const WARNED_EVERY: u32 = 14_400;

/// The files with certificates and keys that `config` names.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    let mut files = Vec::new();
    files.extend(config.zones.iter().flat_map(of));
    files.extend(key_files(config).map(|file| file.path.clone()));
    for server in &config.key_servers {
        files.extend([&server.ca.0, &server.certificate.0, &server.key.0].map(Clone::clone));
    }
    files
}

/// The files with keys that tokens are checked with.
pub(super) fn key_files(config: &Config) -> impl Iterator<Item = &KeyFile> {
    let rules = config.zones.iter().filter_map(|zone| zone.rules.as_deref());
    rules.flat_map(|rules| rules.key_files())
}

/// Reads those of `changed` again that hold such keys, and gives the others.
fn keys_again(config: &Config, mut changed: Vec<PathBuf>) -> Vec<PathBuf> {
    for file in key_files(config).filter(|file| changed.contains(&file.path)) {
        let path = file.path.display();
        match file.read_again() {
            Ok(()) => {
                tracing::info!(file = %path, "the keys that tokens are checked with were changed and are read again")
            }
            Err(why) => {
                tracing::error!(file = %path, why, "keys that tokens are checked with cannot be used; those of before stay")
            }
        }
    }
    changed.retain(|path| !key_files(config).any(|file| file.path == *path));
    changed
}

/// Those that one zone names.
pub(super) fn of(zone: &Zone) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if let Some(certificate) = &zone.certificate {
        files.push(certificate.chain.clone());
        if let Key::File(path, _) = &certificate.key {
            files.push(path.clone());
        }
        let path = |(path, _): &(PathBuf, _)| path.clone();
        files.extend(certificate.ocsp.iter().map(path));
        for more in &certificate.more {
            files.push(more.chain.clone());
            files.extend(more.key.iter().chain(&more.ocsp).map(path));
        }
        if let Some(clients) = &certificate.clients {
            files.push(path(&clients.ca));
            files.extend(clients.revoked.iter().map(path));
        }
    }
    files
}

/// Looks until the node drains.
pub(super) async fn tend(node: Arc<Node>) {
    let mut shutdown = node.shutdown.clone();
    let drain = shutdown.reached(Phase::Draining);
    tokio::pin!(drain);
    let mut tick = tokio::time::interval(EVERY);
    let mut looks = 0_u32;
    loop {
        tokio::select! {
            () = &mut drain => return,
            _ = tick.tick() => {}
        }
        // Told once: not while somebody else changes all, who may be refused.
        let Ok(turn) = node.changes.clone().try_lock_owned() else {
            continue;
        };
        let changed = keys_again(&node.state.load().config, node.watched.changed());
        if !changed.is_empty() {
            let out = |file: &PathBuf| node.of_zone_out(file);
            if changed.iter().any(out) {
                // What it lacked has come, perhaps: everything else of the zone has to be prepared,
                // too.
                drop(turn);
                node.reload();
            } else {
                node.renew(turn);
            }
        }
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(WARNED_EVERY) {
            let state = node.state.load();
            let zones = node.front.certificates().snapshot().aging(&state.config.zones);
            let config = &state.config;
            let ending = certificates::ending(&config.zones, &config.key_servers, &config.far_ends);
            for warning in zones.into_iter().chain(ending) {
                tracing::warn!(target: "edge::tls", "{warning}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What somebody renews beside the certificate would be in force after a restart alone.
    #[test]
    fn every_file_of_a_zone_is_watched() {
        let zone = |keys: &str| {
            let text = format!(
                "[server]\nhttps = [\"127.0.0.1:443\"]\n\
                 [[key_server]]\nname = \"k\"\naddress = \"127.0.0.1:1\"\nca = \"k.ca\"\ncertificate = \"k.pem\"\nkey = \"k.key\"\n\
                 [[zone]]\nname = \"a\"\nhosts = [\"a.example\"]\ncertificate = \"a.pem\"\nocsp = \"a.ocsp\"\n{keys}\
                 client_certificates = {{ ca = \"ca.pem\", revoked = [\"one.crl\", \"two.crl\"] }}\n\
                 [zone.origin]\nservers = [{{ address = \"http://127.0.0.1:1\" }}]\n"
            );
            let config = Config::parse(std::path::Path::new("edge.toml"), &text).unwrap();
            let name = |file: &PathBuf| file.display().to_string();
            let mut names: Vec<_> = files(&config).iter().map(name).collect();
            names.sort();
            names.join(" ")
        };
        let around = "ca.pem k.ca k.key k.pem one.crl two.crl";
        let here = zone(
            "key = \"a.key\"\nmore_certificates = [{ certificate = \"b.pem\", key = \"b.key\", ocsp = \"b.ocsp\" }]\n",
        );
        assert_eq!(here, format!("a.key a.ocsp a.pem b.key b.ocsp b.pem {around}"));
        let elsewhere = zone("key_servers = [\"k\"]\nmore_certificates = [{ certificate = \"b.pem\" }]\n");
        assert_eq!(elsewhere, format!("a.ocsp a.pem b.pem {around}"));
    }
}
