//! The zone's RSA key as BoringSSL uses it: it hands over an encrypted premaster and wants the
//! decrypted block, padding included, which it judges in constant time itself, with a random
//! premaster for one that is not sound (RFC 5246 section 7.4.7.1). A key server has judged already
//! and gives 48 bytes, right or random; around them goes a sound padding, so that BoringSSL does
//! the same whatever the client sent.

use std::sync::{Arc, OnceLock};

use boring::error::ErrorStack;
use boring::ex_data::Index;
use boring::pkey::{PKey, Private};
use boring::rsa::{Padding, Rsa};
use boring::ssl::{
    AsyncPrivateKeyMethod, AsyncPrivateKeyMethodError, BoxPrivateKeyMethodFinish, BoxPrivateKeyMethodFuture, Ssl,
    SslRef, SslSignatureAlgorithm,
};

use crate::keyserver::wire::{Answer, Ciphertext, Request};
use crate::tls::keyless::{Keyless, Whose};
use crate::tls::remote::Refusal;
use crate::tls::static_rsa::{PREMASTER, wrap};

/// Where the key is.
pub(super) enum Key {
    /// In this process.
    Here(Rsa<Private>),
    /// At the zone's key servers.
    Elsewhere,
}

/// What one handshake brings.
pub(super) struct Call {
    /// Whom to ask, where the key is elsewhere.
    pub(super) asks: Option<(Arc<Keyless>, Whose)>,
    /// Of the ClientHello.
    pub(super) version: u16,
    /// Why the key was not used.
    pub(super) ended: Arc<OnceLock<Ended>>,
}

/// Why a key was not used.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    /// No key server gave an answer.
    Refused(Refusal),
    /// The client's: what it sent is not as long as the modulus, which everybody knows.
    Length,
}

/// Where a handshake's [`Call`] is found; one place for all.
pub(super) fn calls() -> Result<Index<Ssl, Call>, ErrorStack> {
    // BoringSSL never takes a place back.
    static PLACE: OnceLock<Index<Ssl, Call>> = OnceLock::new();
    if let Some(place) = PLACE.get() {
        return Ok(*place);
    }
    let place = Ssl::new_ex_index()?;
    Ok(*PLACE.get_or_init(|| place))
}

impl Key {
    /// From DER (PKCS#1 or PKCS#8). BoringSSL wipes its copy when it is freed.
    pub(super) fn here(der: &[u8]) -> Result<Self, ErrorStack> {
        Ok(Self::Here(PKey::private_key_from_der(der)?.rsa()?))
    }

    pub(super) fn elsewhere() -> Self {
        Self::Elsewhere
    }

    pub(super) fn method(self, calls: Index<Ssl, Call>) -> impl AsyncPrivateKeyMethod {
        Method { key: self, calls }
    }
}

struct Method {
    key: Key,
    calls: Index<Ssl, Call>,
}

impl AsyncPrivateKeyMethod for Method {
    /// Static RSA signs nothing.
    fn sign(
        &self,
        _: &mut SslRef,
        _: &[u8],
        _: SslSignatureAlgorithm,
        _: &mut [u8],
    ) -> Result<BoxPrivateKeyMethodFuture, AsyncPrivateKeyMethodError> {
        Err(AsyncPrivateKeyMethodError)
    }

    fn decrypt(
        &self,
        ssl: &mut SslRef,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<BoxPrivateKeyMethodFuture, AsyncPrivateKeyMethodError> {
        let call = ssl.ex_data(self.calls).ok_or(AsyncPrivateKeyMethodError)?;
        let end = |ended: &OnceLock<Ended>, why| {
            // The first reason counts.
            let _ = ended.set(why);
            AsyncPrivateKeyMethodError
        };
        // `output` has room for a number below the modulus.
        if input.len() != output.len() {
            return Err(end(&call.ended, Ended::Length));
        }
        if let Key::Here(rsa) = &self.key {
            if rsa.private_decrypt(input, output, Padding::NONE).is_err() {
                // No number below the modulus, as its sender knows; goes on as a block that is not
                // sound.
                output.fill(0);
            }
            let written = output.len();
            return Ok(Box::pin(async move {
                Ok(Box::new(move |_: &mut SslRef, _: &mut [u8]| Ok(written)) as BoxPrivateKeyMethodFinish)
            }));
        }
        let refused = |refusal| end(&call.ended, Ended::Refused(refusal));
        let (keyless, whose) = call.asks.clone().ok_or_else(|| refused(Refusal::Outside))?;
        let request = Request::RsaPremaster {
            version: call.version,
            encrypted: Ciphertext::new(input).ok_or_else(|| end(&call.ended, Ended::Length))?,
        };
        let ended = call.ended.clone();
        Ok(Box::pin(async move {
            let premaster = match keyless.ask(&whose, request).await {
                Ok(Answer::Secret(secret)) if secret.expose().len() == PREMASTER => secret,
                Ok(_) => return Err(end(&ended, Ended::Refused(Refusal::Unfitting))),
                Err(refusal) => return Err(end(&ended, Ended::Refused(refusal))),
            };
            Ok(Box::new(move |_: &mut SslRef, block: &mut [u8]| {
                wrap(premaster.expose(), block).ok_or(AsyncPrivateKeyMethodError)
            }) as BoxPrivateKeyMethodFinish)
        }))
    }
}
