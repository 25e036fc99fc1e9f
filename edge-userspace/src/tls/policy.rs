//! What a zone asks of its clients' certificates, as one object for each zone and reload: tickets
//! are bound to it, and connections keep what they have shown, so that a reload binds those that
//! exist too. `certificates` makes a [`Policy`] for each entry, `tickets` seals with it, `accept`
//! and `quic` give each connection its [`Shown`], and `http` asks that before each request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use ring::digest::{Context, SHA256};
use rustls::CommonState;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use super::certificates::{Entry, Store};
use crate::base::clock::UnixTime as Moment;
use crate::base::peer::Standing;
use crate::base::validity;

/// Bytes of a policy's name.
const NAME: usize = 32;

/// A zone's policy.
#[derive(Clone)]
pub struct Policy {
    name: [u8; NAME],
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("asks", &self.clients.is_some())
            .finish_non_exhaustive()
    }
}

impl Policy {
    /// Of a zone that asks for no certificate.
    pub fn open(zone: &str) -> Self {
        Self {
            name: name(zone, &[]),
            clients: None,
        }
    }

    /// Of a zone whose clients' certificates `verifier` judges; `parts` are all that it was made
    /// of, so that another policy has another name.
    pub fn asking(zone: &str, verifier: Arc<dyn ClientCertVerifier>, parts: &[&[u8]]) -> Self {
        let mandatory = [u8::from(verifier.client_auth_mandatory())];
        let all = [&[&mandatory[..]], parts].concat();
        Self {
            name: name(zone, &all),
            clients: Some(verifier),
        }
    }

    /// Who judges clients' certificates; `None`: none is asked for.
    pub fn clients(&self) -> Option<&Arc<dyn ClientCertVerifier>> {
        self.clients.as_ref()
    }

    /// The same for the same zone and policy, also after a reload or a restart.
    pub fn name(&self) -> &[u8; NAME] {
        &self.name
    }

    /// Whether a client that has shown `chain`, leaf first, would be let in now.
    pub fn admits(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        match (&self.clients, chain.split_first()) {
            (None, _) => true,
            (Some(verifier), None) => !verifier.client_auth_mandatory(),
            (Some(verifier), Some((leaf, rest))) => verifier.verify_client_cert(leaf, rest, now).is_ok(),
        }
    }
}

fn name(zone: &str, parts: &[&[u8]]) -> [u8; NAME] {
    let mut context = Context::new(&SHA256);
    for part in [&[b"edge policy 1", zone.as_bytes()], parts].concat() {
        // Lengths first: no two lists of parts are the same bytes.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut name = [0; NAME];
    name.copy_from_slice(context.finish().as_ref());
    name
}

/// What a connection was let in with. It asks the policy of the present once after each reload.
pub struct Shown {
    store: Arc<Store>,
    server_name: Option<Arc<str>>,
    policy: [u8; NAME],
    chain: Vec<CertificateDer<'static>>,
    /// Seconds since 1970 when the client's certificate ends.
    ends: Option<i64>,
    /// The snapshot of `store` that was asked last, and let it be.
    judged: AtomicU64,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

impl Shown {
    /// For a connection to `server_name` that was let in by `entry`, of a `session` whose handshake
    /// is over; `None`: which has shown no certificate.
    pub fn of(
        store: &Arc<Store>,
        server_name: Option<Arc<str>>,
        entry: &Entry,
        session: Option<&CommonState>,
    ) -> Arc<dyn Standing> {
        let chain = match entry.policy.clients() {
            Some(_) => session.and_then(CommonState::peer_certificates).unwrap_or_default(),
            None => &[],
        };
        let chain: Vec<_> = chain.iter().map(|one| one.clone().into_owned()).collect();
        Arc::new(Self {
            store: store.clone(),
            server_name,
            policy: *entry.policy.name(),
            ends: chain
                .first()
                .and_then(|leaf| validity::period(leaf))
                .map(|(_, until)| until),
            chain,
            // No snapshot's number.
            judged: AtomicU64::new(u64::MAX),
        })
    }
}

impl Standing for Shown {
    fn holds(&self) -> bool {
        if let Some(ends) = self.ends {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs();
            if i64::try_from(now).is_ok_and(|now| now > ends) {
                return false;
            }
        }
        let number = self.store.number();
        if self.judged.load(Ordering::Relaxed) == number {
            return true;
        }
        let holds = self.store.find(self.server_name.as_deref()).is_some_and(|entry| {
            *entry.policy.name() == self.policy || entry.policy.admits(&self.chain, UnixTime::now())
        });
        if holds {
            self.judged.store(number, Ordering::Relaxed);
        }
        holds
    }

    fn ends(&self) -> Option<Moment> {
        self.ends
            .map(|ends| Moment::from_secs(u64::try_from(ends).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::RootCertStore;
    use rustls::server::WebPkiClientVerifier;
    use rustls::sign::CertifiedKey;

    use super::*;
    use crate::tls::certificates::{Credential, Snapshot};

    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        fn client(&self) -> CertificateDer<'static> {
            let params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
            let key = KeyPair::generate().unwrap();
            params.signed_by(&key, &self.0).unwrap().der().clone()
        }

        fn policy(&self, zone: &str, required: bool) -> Policy {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            if !required {
                builder = builder.allow_unauthenticated();
            }
            Policy::asking(zone, builder.build().unwrap(), &[self.0.der()])
        }
    }

    fn entry(policy: Policy) -> Arc<Entry> {
        let certified = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Arc::new(Entry {
            first: Credential::here(Arc::new(CertifiedKey::new(vec![certified.cert.der().clone()], key))),
            more: Vec::new(),
            exchange: false,
            policy,
            early_data: false,
            min_version: None,
            #[cfg(feature = "legacy-rsa")]
            legacy: None,
            config: OnceLock::new(),
        })
    }

    fn shown(store: &Arc<Store>, policy: &Policy, chain: Vec<CertificateDer<'static>>) -> Shown {
        Shown {
            store: store.clone(),
            server_name: Some("a.test".into()),
            policy: *policy.name(),
            ends: chain
                .first()
                .and_then(|leaf| validity::period(leaf))
                .map(|(_, until)| until),
            chain,
            judged: AtomicU64::new(u64::MAX),
        }
    }

    /// A zone that asks for certificates from now on would serve for ever whoever is connected; one
    /// whose authority is replaced would serve those whom it does not trust any more, or lock out
    /// whoever has a certificate of both.
    #[test]
    fn a_reload_binds_connections_that_exist() {
        let (old, new) = (Authority::new(), Authority::new());
        let store = Arc::new(Store::default());
        let put = |policy: Policy| store.swap(Snapshot::of_one("a.test", entry(policy)));
        let open = Policy::open("a");
        put(open.clone());
        let nobody = shown(&store, &open, Vec::new());
        assert!(nobody.holds() && nobody.holds());
        put(old.policy("a", false));
        assert!(nobody.holds(), "none is required");
        put(old.policy("a", true));
        assert!(!nobody.holds());
        let somebody = shown(&store, &old.policy("a", true), vec![old.client()]);
        assert!(somebody.holds());
        put(old.policy("a", true));
        assert!(somebody.holds(), "the same again");
        put(new.policy("a", true));
        assert!(!somebody.holds(), "another authority");
        put(new.policy("a", false));
        assert!(!somebody.holds(), "what it has shown is not believed any more");
        put(open.clone());
        assert!(somebody.holds(), "none is asked for");
        store.swap(Snapshot::default());
        assert!(!somebody.holds(), "the zone is gone");
    }

    /// A client could stay for ever with a certificate that has ended.
    #[test]
    fn a_connection_ends_with_its_certificate() {
        let authority = Authority::new();
        let policy = authority.policy("a", true);
        let store = Arc::new(Store::default());
        store.swap(Snapshot::of_one("a.test", entry(policy.clone())));
        let mut one = shown(&store, &policy, vec![authority.client()]);
        assert!(one.holds());
        assert_eq!(one.ends(), one.ends.map(|ends| Moment::from_secs(ends as u64)));
        one.ends = Some(1_000_000_000);
        assert!(!one.holds());
    }

    /// A ticket of a zone without certificates would open one that requires them, or of one
    /// authority's the other's.
    #[test]
    fn policies_have_names_of_their_own() {
        let (one, other) = (Authority::new(), Authority::new());
        let policies = [
            Policy::open("a"),
            Policy::open("b"),
            one.policy("a", true),
            one.policy("a", false),
            one.policy("b", true),
            other.policy("a", true),
        ];
        let names: std::collections::HashSet<_> = policies.iter().map(Policy::name).collect();
        assert_eq!(names.len(), policies.len());
        assert_eq!(one.policy("a", true).name(), one.policy("a", true).name());
    }
}
