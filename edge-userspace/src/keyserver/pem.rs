//! Private keys out of PEM (RFC 7468), without leaving a copy behind: every buffer between the file
//! and the library is wiped.

use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::base::pem::outline;

/// How the bytes inside are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `PRIVATE KEY`: PKCS#8 (RFC 5208).
    Pkcs8,
    /// `EC PRIVATE KEY`: SEC1 (RFC 5915).
    Sec1,
    /// `RSA PRIVATE KEY`: PKCS#1 (RFC 8017 appendix A.1.2).
    Pkcs1,
}

/// Why a file holds no usable key. The operator's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PemError {
    #[error("it holds no private key; write one as PEM (PKCS#8, SEC1 or PKCS#1)")]
    None,
    #[error("it holds several private keys; write each to a file of its own")]
    Several,
    #[error("its private key is encrypted; decrypt it: openssl pkey -in OLD -out NEW")]
    Encrypted,
    #[error("its PEM is damaged; write it again")]
    Damaged,
}

/// The one private key in `text`. Other blocks (certificates, EC parameters) are passed over.
pub(super) fn private_key(text: &[u8]) -> Result<(Form, Zeroizing<Vec<u8>>), PemError> {
    outline(text).map_err(|_| PemError::Damaged)?;
    let mut found = None;
    let mut lines = text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    while let Some(line) = lines.next() {
        let form = match line {
            b"-----BEGIN PRIVATE KEY-----" => Form::Pkcs8,
            b"-----BEGIN EC PRIVATE KEY-----" => Form::Sec1,
            b"-----BEGIN RSA PRIVATE KEY-----" => Form::Pkcs1,
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----" => return Err(PemError::Encrypted),
            _ => continue,
        };
        // As large as the file at once, so that growing leaves nothing behind.
        let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
        loop {
            let line = lines.next().ok_or(PemError::Damaged)?;
            if line.starts_with(b"-----END ") {
                break;
            }
            // Headers of the old encryption (RFC 1421).
            if line.contains(&b':') {
                return Err(PemError::Encrypted);
            }
            digits.extend_from_slice(line);
        }
        let length = BASE64.decode_len(digits.len()).map_err(|_| PemError::Damaged)?;
        let mut der = Zeroizing::new(vec![0; length]);
        let written = BASE64.decode_mut(&digits, &mut der).map_err(|_| PemError::Damaged)?;
        der.truncate(written);
        if found.replace((form, der)).is_some() {
            return Err(PemError::Several);
        }
    }
    found.ok_or(PemError::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN PRIVATE KEY-----\nAAEC\r\nAwQ=\n-----END PRIVATE KEY-----\n";

    /// Files as openssl writes them are read; what cannot be used is said so, not half read.
    #[test]
    fn files() {
        let other = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let (form, der) = private_key(format!("{other}{ONE}").as_bytes()).unwrap();
        assert_eq!((form, der.as_slice()), (Form::Pkcs8, &[0, 1, 2, 3, 4][..]));
        let sec1 = ONE.replace("PRIVATE", "EC PRIVATE");
        assert_eq!(private_key(sec1.as_bytes()).unwrap().0, Form::Sec1);
        for (text, error) in [
            (other.to_owned(), PemError::None),
            (format!("{ONE}{sec1}"), PemError::Several),
            (ONE.replace("PRIVATE", "ENCRYPTED PRIVATE"), PemError::Encrypted),
            (ONE.replace("AAEC", "Proc-Type: 4,ENCRYPTED"), PemError::Encrypted),
            (ONE.replace("AwQ=", "AwQ"), PemError::Damaged),
            (ONE.replace("-----END PRIVATE KEY-----", ""), PemError::Damaged),
        ] {
            assert_eq!(private_key(text.as_bytes()).unwrap_err(), error, "{text}");
        }
    }
}
