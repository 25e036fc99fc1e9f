//! Responses as authorities write them, and as they should not be sent.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SigningKey as _,
};
use x509_parser::certificate::X509Certificate;

use super::*;

/// An authority, and what it says of a leaf.
pub(in crate::tls) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A response to be.
pub(in crate::tls) struct Said<'a> {
    /// Tag and contents of the status.
    pub(in crate::tls) status: &'a [u8],
    /// `YYYYMMDDHHMMSSZ`.
    pub(in crate::tls) from: &'a str,
    pub(in crate::tls) until: Option<&'a str>,
    pub(in crate::tls) sha256: bool,
}

pub(in crate::tls) const GOOD: Said<'_> = Said {
    status: &[0x80, 0],
    from: "20200101000000Z",
    until: Some("20400101000000Z"),
    sha256: false,
};

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = contents.len();
    let head = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [head, contents].concat()
}

impl Authority {
    pub(in crate::tls) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub(in crate::tls) fn root(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A leaf and its key.
    pub(in crate::tls) fn leaf(&self, must_staple: bool) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        if must_staple {
            let oid = [1, 3, 6, 1, 5, 5, 7, 1, 24];
            let feature = rcgen::CustomExtension::from_oid_content(&oid, vec![0x30, 3, 2, 1, 5]);
            params.custom_extensions = vec![feature];
        }
        (params.signed_by(&key, &self.issuer).unwrap().der().clone(), key)
    }

    /// What it says of `leaf`.
    pub(in crate::tls) fn says(&self, leaf: &CertificateDer<'_>, said: &Said<'_>) -> Vec<u8> {
        self.says_by(leaf, said, self.issuer.key(), None)
    }

    /// The same, signed by `key`, with a certificate beside it.
    fn says_by(&self, leaf: &CertificateDer<'_>, said: &Said<'_>, key: &KeyPair, beside: Option<&[u8]>) -> Vec<u8> {
        let (_, leaf) = X509Certificate::from_der(leaf).unwrap();
        let root = self.root();
        let (_, issuer) = X509Certificate::from_der(&root).unwrap();
        let (algorithm, oid): (_, &[u8]) = match said.sha256 {
            true => (&SHA256, SHA256_ID),
            false => (&SHA1_FOR_LEGACY_USE_ONLY, SHA1),
        };
        let hash = |bytes: &[u8]| der(0x04, &[digest(algorithm, bytes).as_ref()]);
        let id = der(
            SEQUENCE,
            &[
                &der(SEQUENCE, &[&der(0x06, &[oid]), &der(0x05, &[])]),
                &hash(leaf.issuer().as_raw()),
                &hash(&issuer.public_key().subject_public_key.data),
                &der(0x02, &[leaf.raw_serial()]),
            ],
        );
        let stamp = |text: &str| der(GENERALIZED_TIME, &[text.as_bytes()]);
        let until = said.until.map(|until| der(0xa0, &[&stamp(until)])).unwrap_or_default();
        let single = der(SEQUENCE, &[&id, said.status, &stamp(said.from), &until]);
        let by = der(0xa1, &[issuer.subject().as_raw()]);
        let data = der(SEQUENCE, &[&by, &stamp(said.from), &der(SEQUENCE, &[&single])]);
        let signature = key.sign(&data).unwrap();
        // ecdsa-with-SHA256.
        let algorithm = der(SEQUENCE, &[&der(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]])]);
        let beside = beside
            .map(|one| der(0xa0, &[&der(SEQUENCE, &[one])]))
            .unwrap_or_default();
        let basic = der(SEQUENCE, &[&data, &algorithm, &der(0x03, &[&[0], &signature]), &beside]);
        let bytes = der(SEQUENCE, &[&der(0x06, &[BASIC]), &der(0x04, &[&basic])]);
        der(SEQUENCE, &[&der(0x0a, &[&[0]]), &der(0xa0, &[&bytes])])
    }

    /// A certificate for `usage`, and its key.
    fn responder(&self, usage: ExtendedKeyUsagePurpose) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["ocsp.example".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &self.issuer).unwrap().der().to_vec(), key)
    }
}

/// Seconds since 1970: 2030.
const NOW: i64 = 1_893_456_000;
const END: i64 = 2_208_988_800;

/// Clients would refuse the connection because of a response that is not this certificate's, is
/// past, or that anybody has made; or a good one would not be sent.
#[test]
fn only_what_the_authority_says_of_this_certificate_now() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let (leaf, _) = ours.leaf(false);
    let chain = [leaf.clone(), ours.root()];
    let judge = |response: &[u8]| until(response, &chain, NOW);
    let good = ours.says(&leaf, &GOOD);
    assert_eq!(judge(&good), Ok(END));
    assert_eq!(judge(&ours.says(&leaf, &Said { sha256: true, ..GOOD })), Ok(END));
    assert_eq!(judge(&ours.says(&ours.leaf(false).0, &GOOD)), Err(Unfit::Other));
    assert_eq!(judge(&other.says(&leaf, &GOOD)), Err(Unfit::Other), "another key");
    let revoked: &[u8] = &[0xa1, 17, 0x18, 15];
    let revoked = [revoked, b"20240101000000Z"].concat();
    for (said, why) in [
        (
            Said {
                status: &revoked,
                ..GOOD
            },
            Unfit::Revoked,
        ),
        (
            Said {
                status: &[0x82, 0],
                ..GOOD
            },
            Unfit::Unknown,
        ),
        (Said { until: None, ..GOOD }, Unfit::Endless),
        (
            Said {
                until: Some("20291231235959Z"),
                ..GOOD
            },
            Unfit::Expired,
        ),
        (
            Said {
                from: "20300101000600Z",
                ..GOOD
            },
            Unfit::Early,
        ),
    ] {
        assert_eq!(judge(&ours.says(&leaf, &said)), Err(why));
    }
    // Without the issuer beside the leaf nobody can say who signed; who it is for is still seen.
    assert_eq!(until(&good, &chain[..1], NOW), Ok(END));
    let elsewhere = ours.says(&ours.leaf(false).0, &GOOD);
    assert_eq!(until(&elsewhere, &chain[..1], NOW), Err(Unfit::Other));
    assert_eq!(judge(&[0x30, 3, 0x0a, 1, 6]), Err(Unfit::Unsuccessful));
    assert_eq!(judge(&vec![0x30; MOST + 1]), Err(Unfit::Long));
    assert_eq!(judge(b"-----BEGIN OCSP RESPONSE-----"), Err(Unfit::Malformed));
}

/// Whoever has some certificate of the authority would speak in its place.
#[test]
fn a_responder_needs_a_certificate_for_that() {
    let ours = Authority::new("ours");
    let (leaf, _) = ours.leaf(false);
    let chain = [leaf.clone(), ours.root()];
    let judge = |certificate: &[u8], key: &KeyPair| {
        let response = ours.says_by(&leaf, &GOOD, key, Some(certificate));
        until(&response, &chain, NOW)
    };
    let (certificate, key) = ours.responder(ExtendedKeyUsagePurpose::OcspSigning);
    assert_eq!(judge(&certificate, &key), Ok(END));
    assert_eq!(judge(&certificate, &KeyPair::generate().unwrap()), Err(Unfit::Forged));
    let (server, key) = ours.responder(ExtendedKeyUsagePurpose::ServerAuth);
    assert_eq!(judge(&server, &key), Err(Unfit::Forged));
    let (foreign, key) = Authority::new("ours").responder(ExtendedKeyUsagePurpose::OcspSigning);
    assert_eq!(judge(&foreign, &key), Err(Unfit::Forged), "of the same name");
}

/// A file that is cut or damaged would end the process, or be sent.
#[test]
fn what_is_damaged_is_not_sent() {
    let ours = Authority::new("ours");
    let (leaf, _) = ours.leaf(false);
    let chain = [leaf.clone(), ours.root()];
    let good = ours.says(&leaf, &GOOD);
    for cut in 0..good.len() {
        assert!(until(&good[..cut], &chain, NOW).is_err(), "{cut}");
    }
    for at in 0..good.len() {
        for bit in [1, 0x10, 0x80] {
            let mut changed = good.clone();
            changed[at] ^= bit;
            assert!(until(&changed, &chain, NOW).is_err(), "{at} {bit}");
        }
    }
}
