//! What a zone asks of its clients' certificates, as one object for each zone and reload: tickets
//! are bound to it, and connections keep what they have `shown`. `certificates` makes a [`Policy`]
//! for each entry, and `tickets` seals with it.

use std::fmt;
use std::sync::Arc;

use ring::digest::{Context, SHA256};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

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

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::RootCertStore;
    use rustls::server::WebPkiClientVerifier;

    use super::*;

    /// Signs clients' certificates.
    pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        pub(crate) fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        pub(crate) fn client(&self) -> CertificateDer<'static> {
            let params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
            let key = KeyPair::generate().unwrap();
            params.signed_by(&key, &self.0).unwrap().der().clone()
        }

        pub(crate) fn policy(&self, zone: &str, required: bool) -> Policy {
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
