//! One order at one authority, from the account to the files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;

use super::AcmeError;
use super::client::Client;
use super::due::Window;
use super::files::{self, Held};
use super::hook;
use crate::base::file;
use crate::config::Zone;
use crate::config::acme::{Acme, Challenge, Node};
use crate::config::value::HostPattern;
use crate::tls::challenge::Challenges;

/// Until the authority has looked at all challenges, or has made the certificate.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .timeout(Duration::from_secs(120));

/// The name of a host without `*.`, which is what is proved of it.
pub(super) fn plain_name(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) | HostPattern::Wildcard(name) => name.clone(),
    }
}

/// When the authority that issued `held` would have it renewed (RFC 9773); `None` if none of them
/// says.
pub(super) async fn window(settings: &Node, held: &Held) -> Option<Window> {
    let leaf = CertificateDer::from(held.leaf.as_slice());
    let id = CertificateIdentifier::try_from(&leaf).ok()?;
    for at in 0..settings.directories.len() {
        // Who never issued anything is not asked: that would make an account.
        let directory = settings.directories.get(at).map_or("", String::as_str);
        if !credentials(&settings.state_directory.0, directory).exists() {
            continue;
        }
        let Ok(account) = account(settings, at).await else {
            continue;
        };
        if let Ok((info, _)) = account.renewal_info(&id).await {
            let window = info.suggested_window;
            return Some(Window {
                start: window.start.unix_timestamp(),
                end: window.end.unix_timestamp(),
            });
        }
    }
    None
}

/// Orders a certificate for `zone` at authority `at`, and writes it. `replaced` is told to the
/// authority, which then does not count it against its limits.
///
/// # Errors
/// Whatever kept it from being issued.
pub(super) async fn order(
    settings: &Node,
    at: usize,
    zone: &Zone,
    challenges: &Challenges,
    replaced: Option<&Held>,
) -> Result<(), AcmeError> {
    let Some(acme) = &zone.acme else { return Ok(()) };
    let account = account(settings, at).await?;
    let names: Vec<String> = zone
        .hosts
        .iter()
        .map(|host| match host {
            HostPattern::Exact(name) => name.clone(),
            HostPattern::Wildcard(suffix) => format!("*.{suffix}"),
        })
        .collect();
    let identifiers: Vec<Identifier> = names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = begin(&account, &identifiers, replaced).await?;
    let mut set = Vec::new();
    let proved = prove(&mut order, acme, challenges, &mut set).await;
    let proved = match proved {
        Ok(()) => ready(&mut order).await,
        Err(error) => Err(error),
    };
    // Records are cleared whatever came of it.
    for (host, value) in set {
        if let Some((program, _)) = &acme.hook
            && let Err(error) = hook::run(program, "clear", &host, &value).await
        {
            tracing::warn!(target: "edge::acme", zone = %zone.name, "a record was not cleared: {error}");
        }
    }
    proved?;
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    files::directory(&settings.state_directory.0)?;
    files::write(zone, &chain, &key.serialize_pem())
}

/// An order; one that replaces is made without that if the authority does not like it.
async fn begin(
    account: &Account,
    identifiers: &[Identifier],
    replaced: Option<&Held>,
) -> Result<Order, instant_acme::Error> {
    if let Some(held) = replaced {
        let leaf = CertificateDer::from(held.leaf.as_slice());
        if let Ok(id) = CertificateIdentifier::try_from(&leaf)
            && let Ok(order) = account.new_order(&NewOrder::new(identifiers).replaces(id)).await
        {
            return Ok(order);
        }
    }
    account.new_order(&NewOrder::new(identifiers)).await
}

/// Puts up what proves each host, and says so to the authority. Records that were set are in `set`.
async fn prove(
    order: &mut Order,
    acme: &Acme,
    challenges: &Challenges,
    set: &mut Vec<(String, String)>,
) -> Result<(), AcmeError> {
    let kind = match acme.challenge {
        Challenge::Http => ChallengeType::Http01,
        Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
        Challenge::Dns => ChallengeType::Dns01,
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let Identifier::Dns(host) = authorization.identifier().identifier.clone() else {
            continue;
        };
        let mut challenge = authorization
            .challenge(kind.clone())
            .ok_or_else(|| AcmeError::NoChallenge(host.clone()))?;
        let authorized = challenge.key_authorization();
        match acme.challenge {
            Challenge::Http => challenges.by_http(&host, &challenge.token, authorized.as_str()),
            Challenge::TlsAlpn => {
                let mut bytes = [0; 32];
                bytes.copy_from_slice(digest(&SHA256, authorized.as_str().as_bytes()).as_ref());
                challenges.by_tls(&host, &bytes)?;
            }
            Challenge::Dns => {
                if let Some((program, _)) = &acme.hook {
                    let value = authorized.dns_value();
                    // A hook that failed may have set it.
                    set.push((host.clone(), value.clone()));
                    hook::run(program, "set", &host, &value).await?;
                }
            }
        }
        challenge.set_ready().await?;
    }
    Ok(())
}

/// Waits until the authority has looked; its words if it was not content.
async fn ready(order: &mut Order) -> Result<(), AcmeError> {
    let status = order.poll_ready(&PATIENCE).await?;
    if matches!(status, OrderStatus::Ready | OrderStatus::Valid) {
        return Ok(());
    }
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let state = authorization.refresh().await?;
        let words = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = words {
            return Err(AcmeError::Unproved {
                host: state.identifier().to_string(),
                words: problem.to_string(),
            });
        }
    }
    Err(AcmeError::Unproved {
        host: "an order".to_owned(),
        words: format!("{status:?}"),
    })
}

/// The account at authority `at`: the one that was made before, or a new one.
async fn account(settings: &Node, at: usize) -> Result<Account, AcmeError> {
    let directory = settings.directories.get(at).cloned().unwrap_or_default();
    let client = Client::new(settings.root().map(|(path, _)| path.as_path()))?;
    let builder = || Account::builder_with_http(Box::new(client.clone()));
    let path = credentials(&settings.state_directory.0, &directory);
    if let Ok(bytes) = file::read(&path)
        && let Ok(credentials) = serde_json::from_slice::<AccountCredentials>(&bytes)
    {
        return Ok(builder().from_credentials(credentials).await?);
    }
    let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
    let wanted = NewAccount {
        contact: &contact,
        terms_of_service_agreed: settings.terms_agreed,
        only_return_existing: false,
    };
    let external = match settings.external().filter(|_| at == 0) {
        Some((id, (path, _))) => Some(ExternalAccountKey::new(id.to_owned(), &external_key(path)?)),
        None => None,
    };
    let (account, made) = builder().create(&wanted, directory, external.as_ref()).await?;
    files::directory(&settings.state_directory.0)?;
    let text = serde_json::to_string(&made).map_err(instant_acme::Error::from)?;
    file::replace(&path, text.as_bytes()).map_err(|source| files::wrong(&path, source))?;
    tracing::info!(target: "edge::acme", account = account.id(), "account made");
    Ok(account)
}

/// The MAC key of the operator's account: base64url, as authorities hand it out.
fn external_key(path: &Path) -> Result<Vec<u8>, AcmeError> {
    let bytes = file::read(path).map_err(|source| files::wrong(path, source))?;
    let text = std::str::from_utf8(&bytes)
        .unwrap_or_default()
        .trim()
        .trim_end_matches('=');
    BASE64URL_NOPAD
        .decode(text.as_bytes())
        .ok()
        .filter(|key| !key.is_empty())
        .ok_or_else(|| AcmeError::Unusable(format!("{}: not a key in base64url", path.display())))
}

/// Where the account at `directory` is kept: a file for each authority.
fn credentials(state: &Path, directory: &str) -> PathBuf {
    let digest = digest(&SHA256, directory.as_bytes());
    let name = data_encoding::HEXLOWER.encode(digest.as_ref().get(..8).unwrap_or_default());
    state.join(format!("account-{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two authorities in one account file: neither would know the node any more.
    #[test]
    fn each_authority_has_its_account() {
        let state = Path::new("/state");
        let one = credentials(state, "https://a.test/dir");
        assert_ne!(one, credentials(state, "https://b.test/dir"));
        assert_eq!(one, credentials(state, "https://a.test/dir"));
    }

    /// Authorities hand out keys with and without padding.
    #[test]
    fn keys_of_accounts_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        for (text, right) in [("_-8", true), ("_-8=\n", true), ("", false), ("no key!", false)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(external_key(&file).is_ok(), right, "{text:?}");
        }
    }
}
