//! Why there is no connection to a server, and whose fault that is.

use std::io;

use rustls::CertificateError;

use super::health::Trouble;
use crate::tls::trust;

/// Why there is no connection. The words are ours: certificates and names of the peer stay out of
/// them.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The operator or the network: the name has no address.
    #[error("the name does not resolve")]
    Resolve,
    /// The operator or the owner of the name: it has none but addresses that this upstream must not
    /// be asked at.
    #[error("the name has private addresses only")]
    Private,
    /// The origin: nothing listens.
    #[error("connection refused")]
    Refused,
    /// The network.
    #[error("unreachable: {0}")]
    Unreachable(io::ErrorKind),
    /// The origin or the network.
    #[error("no connection in time")]
    Timeout,
    /// The origin or the operator: the certificate is for another name.
    #[error("the certificate is for another name")]
    TlsName,
    /// The origin: an untrusted certificate, no common version, not TLS at all.
    #[error("TLS failed: {0}")]
    Tls(&'static str),
    /// The origin: it does not speak the HTTP version that is configured.
    #[error("the origin does not speak HTTP/2")]
    Alpn,
    /// The operator: the roots cannot be read any more.
    #[error("the roots to trust cannot be loaded")]
    Roots,
    /// The HTTP/2 preface could not be sent.
    #[error("the HTTP handshake failed")]
    Handshake,
}

impl ConnectError {
    /// As shown in `/status`.
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Resolve | Self::Private => Trouble::Resolve,
            Self::Refused => Trouble::Refused,
            Self::Unreachable(_) => Trouble::Unreachable,
            Self::Timeout => Trouble::Timeout,
            Self::TlsName => Trouble::TlsName,
            Self::Tls(_) | Self::Roots => Trouble::Tls,
            Self::Alpn | Self::Handshake => Trouble::Protocol,
        }
    }

    /// Of connecting.
    pub(super) fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Timeout,
            kind => Self::Unreachable(kind),
        }
    }

    /// Of the handshake.
    pub(super) fn from_tls(error: &io::Error) -> Self {
        match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Self::TlsName,
            Some(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Self::Tls("the certificate has expired"),
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                Self::Tls("the certificate's issuer is not trusted")
            }
            Some(rustls::Error::InvalidCertificate(error)) if trust::is_authority(error) => {
                Self::Tls("the certificate is an authority's (CA:TRUE), and not itself among those in `ca`")
            }
            Some(rustls::Error::InvalidCertificate(_)) => Self::Tls("the certificate is not valid"),
            Some(rustls::Error::AlertReceived(_)) => Self::Tls("the origin ended it by an alert"),
            Some(rustls::Error::NoApplicationProtocol) => Self::Alpn,
            Some(_) => Self::Tls("the handshake failed"),
            None => Self::Tls("the connection broke off"),
        }
    }
}
