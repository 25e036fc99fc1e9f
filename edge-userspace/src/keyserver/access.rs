//! Who may ask for what: the access list, looked up by the client's certificate, and the judgement
//! on each query. Pure: `now`, keys and queries come in.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ring::digest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::audit::Audit;
use super::key::Key;
use super::store::Keys;
use super::wire::{ErrorCode, KeyId, Op, Ops, Query, Request, Scheme};
use crate::config::keyserver::{self as config, Identity, Selector};
use crate::config::{Mistake, Mistakes};

/// The access list at one moment.
#[derive(Debug)]
pub(super) struct Access {
    clients: HashMap<Identity, Arc<Client>>,
}

/// A client on the list. Its bucket is shared by its connections, and outlives a reload that leaves
/// its rate as it is.
#[derive(Debug)]
pub(super) struct Client {
    /// In logs and metrics.
    pub(super) name: Arc<str>,
    grants: Vec<Grant>,
    rate: Option<(u32, u32)>,
    bucket: Arc<Mutex<Bucket>>,
    /// Its lines in the log.
    pub(super) audit: Mutex<Audit>,
}

#[derive(Debug)]
struct Grant {
    all: bool,
    names: HashSet<String>,
    ids: HashSet<KeyId>,
    ops: Ops,
}

/// Tokens, filled by the rate.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Why a query is refused; what the client is told is its [`code`](Refusal::code).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No such key.
    NoKey,
    /// The client has no grant on the key.
    NoGrant,
    /// The client's grants on the key do not cover the op.
    NotGranted,
    /// The op means nothing for the key's kind.
    Kind,
    /// The scheme is not the key's, or not one that this TLS version allows.
    Scheme,
    /// More queries a second than granted.
    Rate,
}

impl Refusal {
    /// What the client is told.
    pub(super) const fn code(self) -> ErrorCode {
        match self {
            Self::NoKey | Self::NoGrant => ErrorCode::UnknownKey,
            Self::NotGranted => ErrorCode::NotAllowed,
            Self::Kind | Self::Scheme => ErrorCode::Mismatch,
            Self::Rate => ErrorCode::Rate,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoKey => "no such key",
            Self::NoGrant => "no grant on this key",
            Self::NotGranted => "the grants on this key do not cover the op",
            Self::Kind => "the key's kind does not have the op",
            Self::Scheme => "the scheme is not the key's in this op",
            Self::Rate => "more queries a second than granted",
        })
    }
}

impl Access {
    /// From the checked configuration; buckets of `before` live on.
    ///
    /// # Errors
    /// Ops that do not exist, each with its place.
    pub(super) fn new(clients: &[config::Client], before: Option<&Self>, now: Instant) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let mut list = HashMap::new();
        for client in clients {
            let grants = client
                .grants
                .iter()
                .map(|grant| Grant::new(grant, &mut mistakes))
                .collect();
            let kept = before
                .and_then(|before| before.clients.get(&client.identity))
                .filter(|old| old.rate == client.rate)
                .map(|old| old.bucket.clone());
            let bucket = kept.unwrap_or_else(|| {
                let tokens = client.rate.map_or(0.0, |(_, burst)| f64::from(burst));
                Arc::new(Mutex::new(Bucket { tokens, at: now }))
            });
            let entry = Client {
                name: client.name.clone(),
                grants,
                rate: client.rate,
                bucket,
                audit: Mutex::new(Audit::new(now)),
            };
            list.insert(client.identity.clone(), Arc::new(entry));
        }
        if mistakes.is_empty() {
            Ok(Self { clients: list })
        } else {
            Err(Mistakes(mistakes))
        }
    }

    /// The client with this certificate (DER; its signature and dates are checked before). By its
    /// key first, then by its DNS names in their order.
    pub(super) fn client(&self, certificate: &[u8]) -> Option<&Arc<Client>> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let hash = digest::digest(&digest::SHA256, certificate.tbs_certificate.subject_pki.raw);
        let spki = Identity::Spki(hash.as_ref().try_into().ok()?);
        if let Some(client) = self.clients.get(&spki) {
            return Some(client);
        }
        let names = certificate.subject_alternative_name().ok().flatten()?;
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) => self.clients.get(&Identity::Dns(name.to_ascii_lowercase())),
            _ => None,
        })
    }
}

impl Grant {
    fn new(grant: &config::Grant, mistakes: &mut Vec<Mistake>) -> Self {
        let mut this = Self {
            all: false,
            names: HashSet::new(),
            ids: HashSet::new(),
            ops: Ops::NONE,
        };
        for key in &grant.keys {
            match key {
                Selector::All => this.all = true,
                Selector::Name(name) => {
                    this.names.insert(name.clone());
                }
                Selector::Id(id) => {
                    this.ids.insert(KeyId(*id));
                }
            }
        }
        for (name, place) in &grant.ops {
            match Op::from_name(name).filter(|op| op.is_granted()) {
                Some(op) => this.ops = this.ops.with(op),
                None => {
                    let known: Vec<&str> = Op::ALL
                        .iter()
                        .filter(|op| op.is_granted())
                        .map(|op| op.name())
                        .collect();
                    let mend = format!("write some of: {}", known.join(", "));
                    mistakes.push(place.mistake(format!("\"{name}\" is no op that is granted"), mend));
                }
            }
        }
        this
    }

    fn covers(&self, key: &Key) -> bool {
        self.all || self.names.contains(&*key.name) || self.ids.contains(&key.id)
    }
}

impl Client {
    /// What the client may do with `key`, if anything is granted on it at all; less what the key's
    /// kind does not have.
    pub(super) fn ops(&self, key: &Key) -> Option<Ops> {
        let mut grants = self.grants.iter().filter(|grant| grant.covers(key)).peekable();
        grants.peek()?;
        Some(grants.fold(Ops::NONE, |ops, grant| ops.union(grant.ops)))
    }

    /// Takes one query's token.
    pub(super) fn admit(&self, now: Instant) -> Result<(), Refusal> {
        let Some((rate, burst)) = self.rate else { return Ok(()) };
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * f64::from(rate)).min(f64::from(burst));
        bucket.at = bucket.at.max(now);
        if bucket.tokens < 1.0 {
            return Err(Refusal::Rate);
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Whether the client may ask this, and of which key. `list` and `ping` name none.
    pub(super) fn judge<'a>(&self, keys: &'a Keys, query: &Query) -> Result<&'a Arc<Key>, Refusal> {
        let key = keys.get(&query.key).ok_or(Refusal::NoKey)?;
        let ops = self.ops(key).ok_or(Refusal::NoGrant)?;
        let op = query.request.op();
        if !ops.contains(op) {
            return Err(Refusal::NotGranted);
        }
        if !key.kind.ops().contains(op) {
            return Err(Refusal::Kind);
        }
        let sound = |scheme: &Scheme| key.kind.schemes().contains(scheme);
        let matches = match &query.request {
            Request::SignTls13 { scheme, .. } => sound(scheme) && scheme.is_tls13(),
            Request::SignTls12 { scheme, .. } | Request::KxSignTls12 { scheme, .. } => sound(scheme),
            _ => true,
        };
        if matches { Ok(key) } else { Err(Refusal::Scheme) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};

    use super::super::store::Directory;
    use super::super::wire::{Ciphertext, Group, Transcript};
    use super::*;
    use crate::config::keyserver::Config;

    fn access(text: &str, before: Option<&Access>, now: Instant) -> Result<Access, Mistakes> {
        let server = "[server]\nlisten = [\"127.0.0.1:1\"]\ncertificate = \"a\"\nkey = \"b\"\nclient_ca = \"c\"\n";
        let config = Config::parse(Path::new("k.toml"), &format!("{server}{text}"))?;
        Access::new(&config.clients, before, now)
    }

    fn keys(kinds: &[(&str, &'static SignatureAlgorithm)]) -> (Arc<Keys>, Vec<KeyId>) {
        let directory = tempfile::tempdir().unwrap();
        for (name, kind) in kinds {
            use std::os::unix::fs::PermissionsExt;
            let path = directory.path().join(name);
            std::fs::write(&path, KeyPair::generate_for(kind).unwrap().serialize_pem()).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut directory = Directory::new(directory.path().to_owned());
        let look = directory.look().unwrap();
        assert_eq!(look.errors.len(), 0, "{:?}", look.errors);
        let keys = directory.current().load_full();
        let id = |name: &str| {
            keys.after(KeyId::NONE)
                .find(|key| format!("{}.pem", key.name) == name)
                .unwrap()
                .id
        };
        let ids = kinds.iter().map(|(name, _)| id(name)).collect();
        (keys, ids)
    }

    fn certificate(names: &[&str]) -> (Vec<u8>, String) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let parameters = rcgen::CertificateParams::new(names).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        (certificate.der().to_vec(), KeyId::of_spki(&spki).to_string())
    }

    fn sign(scheme: Scheme) -> Request {
        Request::SignTls13 {
            scheme,
            transcript: Transcript::Sha256([0; 32]),
        }
    }

    /// An edge that gets more than it was granted is a stolen key in waiting.
    #[test]
    fn only_what_is_granted() {
        let (keys, ids) = keys(&[("shop.pem", &PKCS_ECDSA_P256_SHA256), ("mail.pem", &PKCS_ED25519)]);
        let [shop, mail] = ids[..] else { panic!() };
        let now = Instant::now();
        let text = format!(
            "[[client]]\nname = \"a\"\ndns = \"a.example\"\n[[client.grant]]\nkeys = [\"shop\"]\nops = [\"sign-tls13\", \
             \"rsa-master\"]\n[[client.grant]]\nkeys = [\"{mail}\"]\nops = [\"kx-tls13\"]\n[[client]]\nname = \"b\"\ndns = \
             \"b.example\"\n[[client.grant]]\nkeys = [\"*\"]\nops = [\"sign-tls12\"]\n"
        );
        let list = access(&text, None, now).unwrap();
        let a = list.client(&certificate(&["other.example", "A.example"]).0).unwrap();
        let b = list.client(&certificate(&["b.example"]).0).unwrap();
        assert!(list.client(&certificate(&["c.example"]).0).is_none());
        assert!(list.client(b"no certificate").is_none());

        let ask = |client: &Client, key, request| client.judge(&keys, &Query { id: 1, key, request }).map(|key| key.id);
        let p256 = Scheme::EcdsaP256Sha256;
        assert_eq!(ask(a, shop, sign(p256)), Ok(shop));
        assert_eq!(ask(a, shop, sign(Scheme::RsaPssSha256)), Err(Refusal::Scheme));
        assert_eq!(
            ask(a, shop, Request::KxStart { group: Group::X25519 }),
            Err(Refusal::NotGranted)
        );
        assert_eq!(ask(a, mail, sign(Scheme::Ed25519)), Err(Refusal::NotGranted));
        assert_eq!(ask(b, mail, sign(Scheme::Ed25519)), Err(Refusal::NotGranted));
        assert_eq!(ask(b, KeyId::NONE, sign(p256)), Err(Refusal::NoKey));
        // Whether the key exists is nobody's business who has no grant on it.
        assert_eq!(Refusal::NoKey.code(), Refusal::NoGrant.code());
        let encrypted = Ciphertext::new(&[1; 256]).unwrap();
        let premaster = Request::RsaMaster {
            version: 0x0303,
            seed: super::super::wire::Seed::Session(Transcript::Sha256([0; 32])),
            encrypted,
        };
        assert_eq!(ask(a, shop, premaster), Err(Refusal::Kind));
    }

    /// PKCS#1 v1.5 in a TLS 1.3 handshake is no signature of TLS 1.3.
    #[test]
    fn schemes_of_the_version() {
        let one = |scheme: Scheme| scheme.is_tls13();
        assert!(one(Scheme::RsaPssSha256) && !one(Scheme::RsaPkcs1Sha256));
    }

    /// A certificate is known by its key, whatever its names say.
    #[test]
    fn identities() {
        let (der, spki) = certificate(&["a.example"]);
        let text =
            format!("[[client]]\nname = \"a\"\nspki = \"{spki}\"\n[[client]]\nname = \"b\"\ndns = \"a.example\"\n");
        let list = access(&text, None, Instant::now()).unwrap();
        assert_eq!(&*list.client(&der).unwrap().name, "a");
        assert_eq!(&*list.client(&certificate(&["a.example"]).0).unwrap().name, "b");
        let wrong =
            "[[client]]\nname = \"a\"\ndns = \"a\"\n[[client.grant]]\nkeys = [\"*\"]\nops = [\"sign\", \"list\"]\n";
        let mistakes = access(wrong, None, Instant::now()).unwrap_err();
        assert_eq!(mistakes.0.len(), 2, "{mistakes}");
        assert!(
            mistakes
                .to_string()
                .contains("k.toml:11: client.grant.ops: \"sign\" is no op"),
            "{mistakes}"
        );
    }

    /// One edge gone wild must not use up the keys' time for the others; a reload must not give it
    /// a new budget.
    #[test]
    fn rates() {
        let now = Instant::now();
        let text = "[[client]]\nname = \"a\"\ndns = \"a.example\"\nrate = 10\nburst = 3\n";
        let list = access(text, None, now).unwrap();
        let der = certificate(&["a.example"]).0;
        let client = list.client(&der).unwrap();
        let passed = |client: &Client, now| (0..100).filter(|_| client.admit(now).is_ok()).count();
        assert_eq!(passed(client, now), 3);
        assert_eq!(passed(client, now + Duration::from_millis(250)), 2);
        let again = access(text, Some(&list), now).unwrap();
        assert_eq!(passed(again.client(&der).unwrap(), now + Duration::from_millis(250)), 0);
        let other = access(&text.replace("10", "20"), Some(&list), now).unwrap();
        assert_eq!(passed(other.client(&der).unwrap(), now), 3);
    }
}
