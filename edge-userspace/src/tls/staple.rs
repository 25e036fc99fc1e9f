//! OCSP responses (RFC 6960) that are shown beside certificates (stapled: RFC 6066 section 8, RFC
//! 8446 section 4.4.2.1). An operator's file has one in DER; it is sent if it says that this
//! certificate is good, now, in the words of its authority. `certificates` reads the files and
//! warns of one that is of no use, which is not sent: a client that was not promised a response
//! goes on without.

use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::signed::{SEQUENCE, Signed, parsed, take};
use crate::base::validity::{element, time};

/// Bytes of a response at most: it goes into each full handshake. Those of authorities have 300 to
/// 2,500.
const MOST: usize = 16 << 10;
/// Seconds by which clocks of authorities may be ahead of ours.
const SKEW: i64 = 300;
/// `id-pkix-ocsp-basic` (RFC 6960 section 4.2.1).
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];
const SHA256_ID: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];

const GENERALIZED_TIME: u8 = 0x18;

/// Why a response is not sent: the authority's fault, or that of whoever fetched it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// No response in DER.
    #[error("is not an OCSP response in DER")]
    Malformed,
    /// Longer than [`MOST`].
    #[error("is longer than 16 KiB")]
    Long,
    /// Its responder had no answer (RFC 6960 section 4.2.1: `responseStatus`).
    #[error("has no answer in it, for its responder failed")]
    Unsuccessful,
    /// It says nothing of this certificate.
    #[error("is for another certificate")]
    Other,
    /// The certificate was taken back.
    #[error("says that the certificate is revoked")]
    Revoked,
    /// The responder does not know the certificate.
    #[error("says that its responder does not know the certificate")]
    Unknown,
    /// `thisUpdate` is to come.
    #[error("is not valid yet")]
    Early,
    /// `nextUpdate` is past.
    #[error("has expired")]
    Expired,
    /// Without `nextUpdate` nobody can tell when it is old (RFC 5019 section 2.2.4).
    #[error("does not say until when it holds")]
    Endless,
    /// Neither the authority nor a responder of its own has signed it.
    #[error("is not signed by the certificate's authority")]
    Forged,
}

impl Unfit {
    /// What the operator does about it.
    pub(super) const fn mend(self) -> &'static str {
        match self {
            Self::Malformed | Self::Long => "write what `openssl ocsp -respout FILE` writes",
            Self::Early => "check it and the clock",
            Self::Revoked => "have another certificate issued",
            Self::Other | Self::Forged => "fetch the one of this certificate, with its issuer in the chain",
            Self::Unsuccessful | Self::Unknown | Self::Expired | Self::Endless => "fetch it anew from the authority",
        }
    }
}

/// What a response says of one certificate.
#[derive(Clone, Copy, Debug)]
struct Answer {
    status: u8,
    from: i64,
    until: Option<i64>,
}

/// Until when `response`, of the certificate in front of `chain`, holds and may be sent, in seconds
/// since 1970. The signature is checked if the issuer's certificate is in the chain, after the
/// leaf.
///
/// # Errors
/// It must not be sent.
pub(super) fn until(response: &[u8], chain: &[CertificateDer<'_>], now: i64) -> Result<i64, Unfit> {
    if response.len() > MOST {
        return Err(Unfit::Long);
    }
    let basic = basic(response)?;
    let signed = Signed::of(basic).ok_or(Unfit::Malformed)?;
    let leaf = chain.first().and_then(|leaf| parsed(leaf)).ok_or(Unfit::Other)?;
    let issuer = chain.iter().skip(1).filter_map(|one| parsed(one));
    let issuer = issuer
        .into_iter()
        .find(|one| one.subject().as_raw() == leaf.issuer().as_raw());
    let responses = responses(signed.said).ok_or(Unfit::Malformed)?;
    let answer = answer(responses, &leaf, issuer.as_ref())?;
    if let Some(issuer) = &issuer
        && !is_of(&signed, issuer, now)
    {
        return Err(Unfit::Forged);
    }
    match answer.status {
        // Primitive [0] and [2], constructed [1].
        0x80 => {}
        0xa1 => return Err(Unfit::Revoked),
        0x82 => return Err(Unfit::Unknown),
        _ => return Err(Unfit::Malformed),
    }
    let until = answer.until.ok_or(Unfit::Endless)?;
    if answer.from > now.saturating_add(SKEW) {
        return Err(Unfit::Early);
    }
    match until > now {
        true => Ok(until),
        false => Err(Unfit::Expired),
    }
}

/// The contents of the `BasicOCSPResponse` in an `OCSPResponse`.
fn basic(response: &[u8]) -> Result<&[u8], Unfit> {
    let (contents, after) = take(response, SEQUENCE).ok_or(Unfit::Malformed)?;
    let (status, rest) = take(contents, 0x0a).ok_or(Unfit::Malformed)?;
    if !after.is_empty() {
        return Err(Unfit::Malformed);
    }
    if status != [0] {
        return Err(Unfit::Unsuccessful);
    }
    let inner = || {
        let (explicit, _) = take(rest, 0xa0)?;
        let (bytes, _) = take(explicit, SEQUENCE)?;
        let (kind, rest) = take(bytes, 0x06)?;
        let (text, _) = take(rest, 0x04)?;
        let (basic, _) = take(text, SEQUENCE)?;
        (kind == BASIC).then_some(basic)
    };
    inner().ok_or(Unfit::Malformed)
}

/// The contents of `responses` in a `ResponseData` (RFC 6960 section 4.2.1).
fn responses(said: &[u8]) -> Option<&[u8]> {
    let (mut data, _) = take(said, SEQUENCE)?;
    if let Some((_, rest)) = take(data, 0xa0) {
        // The version.
        data = rest;
    }
    // The responder, by its name or its key; when it said so.
    let (_, _, rest) = element(data)?;
    let (_, rest) = take(rest, GENERALIZED_TIME)?;
    take(rest, SEQUENCE).map(|(responses, _)| responses)
}

/// What the first of `responses` that is about `leaf` says.
fn answer(
    mut responses: &[u8],
    leaf: &X509Certificate<'_>,
    issuer: Option<&X509Certificate<'_>>,
) -> Result<Answer, Unfit> {
    while !responses.is_empty() {
        let (single, rest) = take(responses, SEQUENCE).ok_or(Unfit::Malformed)?;
        responses = rest;
        let (id, rest) = take(single, SEQUENCE).ok_or(Unfit::Malformed)?;
        if !names(id, leaf, issuer).ok_or(Unfit::Malformed)? {
            continue;
        }
        let times = || {
            let (status, _, rest) = element(rest)?;
            let (from, rest) = take(rest, GENERALIZED_TIME)?;
            let until = match take(rest, 0xa0) {
                Some((explicit, _)) => Some(time(GENERALIZED_TIME, take(explicit, GENERALIZED_TIME)?.0)?),
                None => None,
            };
            let from = time(GENERALIZED_TIME, from)?;
            Some(Answer { status, from, until })
        };
        return times().ok_or(Unfit::Malformed);
    }
    Err(Unfit::Other)
}

/// Whether a `CertID` is that of `leaf`: its serial number, and the digests of its issuer's name
/// and, if that is known, key.
fn names(id: &[u8], leaf: &X509Certificate<'_>, issuer: Option<&X509Certificate<'_>>) -> Option<bool> {
    let (algorithm, rest) = take(id, SEQUENCE)?;
    let (name, rest) = take(rest, 0x04)?;
    let (key, rest) = take(rest, 0x04)?;
    let (serial, _) = take(rest, 0x02)?;
    let (algorithm, _) = take(algorithm, 0x06)?;
    let algorithm: &'static Algorithm = match algorithm {
        SHA1 => &SHA1_FOR_LEGACY_USE_ONLY,
        SHA256_ID => &SHA256,
        // Nothing to compare it with.
        _ => return Some(false),
    };
    let is_key =
        |issuer: &X509Certificate<'_>| digest(algorithm, &issuer.public_key().subject_public_key.data).as_ref() == key;
    Some(
        serial == leaf.raw_serial()
            && digest(algorithm, leaf.issuer().as_raw()).as_ref() == name
            && issuer.is_none_or(is_key),
    )
}

/// Whether `issuer` has signed the response, or a responder that it has issued a certificate for
/// that (RFC 6960 section 4.2.2.2), which is in the response.
fn is_of(response: &Signed<'_>, issuer: &X509Certificate<'_>, now: i64) -> bool {
    if response.is_by(issuer) {
        return true;
    }
    let Some((certificates, _)) = take(response.rest, 0xa0).and_then(|(explicit, _)| take(explicit, SEQUENCE)) else {
        return false;
    };
    let mut rest = certificates;
    while let Ok((after, responder)) = X509Certificate::from_der(rest) {
        let certificate = rest.get(..rest.len().saturating_sub(after.len()));
        rest = after;
        let usage = responder.extended_key_usage().ok().flatten();
        let (from, until) = (responder.validity().not_before, responder.validity().not_after);
        let is_responder = usage.is_some_and(|usage| usage.value.ocsp_signing)
            && responder.issuer().as_raw() == issuer.subject().as_raw()
            && (from.timestamp()..=until.timestamp()).contains(&now)
            && certificate
                .and_then(Signed::of_certificate)
                .is_some_and(|signed| signed.is_by(issuer));
        if is_responder && response.is_by(&responder) {
            return true;
        }
    }
    false
}

#[cfg(test)]
pub(super) mod tests;
