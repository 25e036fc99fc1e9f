//! When certificates and revocation lists end, from just enough DER (RFC 5280 sections 4.1 and
//! 5.1): webpki checks it only together with a chain. For the operator's warnings, of the node and
//! of the key server, and for the end of connections; a certificate that is read wrongly here is
//! still served.

use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::clock::UnixTime;

/// Days before a certificate's end from which on the operator is warned.
const SOON: i64 = 14;
const DAY: i64 = 86_400;

/// Now, in seconds since 1970.
pub fn now() -> i64 {
    i64::try_from(UnixTime::now().secs()).unwrap_or(i64::MAX)
}

/// What is to be told of a certificate whose time is `period` at `now`, all in seconds since 1970:
/// that it has expired, soon will, or is not valid yet, and the mend.
pub fn aging((from, until): (i64, i64), now: i64) -> Option<(String, &'static str)> {
    if until < now {
        Some((format!("expired {} days ago", (now - until) / DAY), "renew it"))
    } else if from > now {
        Some(("is not valid yet".to_owned(), "check it and the clock"))
    } else if until - now < SOON * DAY {
        Some((format!("expires in {} days", (until - now) / DAY), "renew it"))
    } else {
        None
    }
}

/// Seconds since 1970 when the next update of a revocation list in DER is due; `None`: it does not
/// say, or cannot be read.
pub fn next_update(list: &[u8]) -> Option<i64> {
    let (_, list) = CertificateRevocationList::from_der(list).ok()?;
    list.next_update().map(|next| next.timestamp())
}

/// Seconds since 1970 from which and until which the certificate holds; `None` when it cannot be
/// read.
pub fn period(certificate: &[u8]) -> Option<(i64, i64)> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    // version [0] is optional; then serialNumber, signature, issuer.
    let (tag, _, rest) = element(fields)?;
    if tag == 0xa0 {
        fields = rest;
    }
    for _ in 0..3 {
        (_, _, fields) = element(fields)?;
    }
    let (_, validity, _) = element(fields)?;
    let (from_tag, from, rest) = element(validity)?;
    let (until_tag, until, _) = element(rest)?;
    Some((time(from_tag, from)?, time(until_tag, until)?))
}

/// Whether the certificate demands a stapled OCSP response: the TLS feature `status_request` or
/// `status_request_v2` (RFC 7633 section 4).
pub fn must_staple(certificate: &[u8]) -> bool {
    const FEATURE: x509_parser::der_parser::oid::Oid<'_> = oid!(1.3.6.1.5.5.7.1.24);
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let feature = parsed.extensions().iter().find(|extension| extension.oid == FEATURE);
    // A sequence of small integers, each in three bytes.
    feature.is_some_and(|extension| extension.value.windows(3).any(|n| matches!(n, [2, 1, 5 | 17])))
}

/// Tag, contents and what follows of the first element.
pub fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |n, d| n << 8 | usize::from(*d)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// `UTCTime` (two digits of the year, 1950 to 2049) or `GeneralizedTime`, both in the forms RFC
/// 5280 allows. Seconds since 1970.
pub fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = text.split_at_checked(if tag == 0x17 { 2 } else { 4 })?;
    let year: i64 = year.parse().ok()?;
    let year = match tag {
        0x17 if year < 50 => 2000 + year,
        0x17 => 1900 + year,
        _ => year,
    };
    let mut numbers = [0i64; 5];
    for (i, number) in numbers.iter_mut().enumerate() {
        *number = rest.get(2 * i..2 * i + 2)?.parse().ok()?;
    }
    let [month, day, hour, minute, second] = numbers;
    // Days from civil (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients that keep to the extension refuse the certificate, and nobody would have said so.
    #[test]
    fn sees_a_demand_for_a_stapled_response() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
        assert!(!must_staple(params.self_signed(&key).unwrap().der()));
        let feature = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], vec![0x30, 3, 2, 1, 5]);
        params.custom_extensions = vec![feature];
        assert!(must_staple(params.self_signed(&key).unwrap().der()));
        assert!(!must_staple(b"no certificate"));
    }

    /// An operator warned wrongly stops reading warnings.
    #[test]
    fn reads_what_rcgen_writes() {
        let mut params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2021, 2, 28);
        params.not_after = rcgen::date_time_ymd(2051, 3, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(period(certificate.der()), Some((1_614_470_400, 2_561_241_600)));
        for cut in 0..certificate.der().len() {
            let _ = period(&certificate.der()[..cut]);
        }
        assert_eq!(time(0x17, b"700101000000Z"), Some(0));
        assert_eq!(time(0x17, b"000229120000Z"), Some(951_825_600));
        assert_eq!(time(0x17, b"7001010000"), None);
    }
}
