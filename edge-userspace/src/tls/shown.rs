//! What connections were let in with, so that a reload binds those that exist too: `accept` and
//! `quic` give each connection its [`Shown`], and `http` asks that before each request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::CommonState;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::certificates::{Entry, Store};
use crate::base::clock::UnixTime as Moment;
use crate::base::peer::Standing;
use crate::base::validity;

/// What a connection was let in with. It asks the policy of the present once after each reload.
pub struct Shown {
    store: Arc<Store>,
    server_name: Option<Arc<str>>,
    policy: [u8; 32],
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
        if self.ends.is_some_and(|ends| validity::now() > ends) {
            return false;
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

    use rustls::sign::CertifiedKey;

    use super::super::policy::Policy;
    use super::super::policy::tests::Authority;
    use super::*;
    use crate::tls::certificates::{Credential, Snapshot};

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
}
