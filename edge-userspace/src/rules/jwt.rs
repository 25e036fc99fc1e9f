//! Checks signed tokens of requests (RFC 7519, RFC 8725): the signature by a key that the operator
//! trusts, then what it says. Pure; `evaluate` asks. A check costs the verification of a signature,
//! at most `TRIES` times.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::{hmac, signature};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::base::clock::UnixTime;
use crate::config::rule::jwt::{Algorithm, Jwt, Key, Material};
use crate::http::fields;

/// Bytes of a token; longer ones are not looked at.
const LONGEST: usize = 8 << 10;
/// Keys that are tried for a token that names none.
const TRIES: usize = 8;

/// What a verified token says.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// A claim as text; `None`: there is none, or it is a list or an object.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        text(self.0.get(name)?)
    }

    /// All claims that have a text.
    pub fn texts(&self) -> HashMap<&str, Cow<'_, str>> {
        let texts = self
            .0
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), text(value)?)));
        texts.collect()
    }
}

/// Why a request does not pass. The client learns only whether there was a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is none.
    Missing,
    /// It cannot be read, asks for what is not supported, or is there twice.
    Malformed,
    /// No key fits.
    Key,
    /// The signature is wrong.
    Signature,
    /// Its time is over, has not come, or is not said.
    Time,
    /// It is another issuer's, for another audience, or lacks a claim.
    Claims,
}

/// What the token of a request with `headers` says at `now`, by one of `keys`.
///
/// # Errors
/// It does not pass.
pub fn check(jwt: &Jwt, keys: &[Key], headers: &HeaderMap, now: UnixTime) -> Result<Claims, Refused> {
    let token = token(jwt, headers)?;
    if token.len() > LONGEST {
        return Err(Refused::Malformed);
    }
    // Two dots, no more: a third one would be in the payload, which no base64 has.
    let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Refused::Malformed)?;
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| Refused::Malformed);
    let header = object(&decode(header)?)?;
    // Extensions that must be understood; none is (RFC 7515 section 4.1.11).
    if header.contains_key("crit") {
        return Err(Refused::Malformed);
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::named);
    let algorithm = algorithm.ok_or(Refused::Malformed)?;
    let id = match header.get("kid") {
        None => None,
        Some(id) => Some(id.as_str().ok_or(Refused::Malformed)?),
    };
    let signature = decode(signature)?;
    // The key says by which algorithms it may be used, never the token (RFC 8725 section 3.1).
    let named = |key: &Key| match (id, key.id.as_deref()) {
        (Some(id), Some(known)) => id == known,
        _ => true,
    };
    let fits = |key: &&Key| key.takes(algorithm) && named(key);
    let mut keys = keys.iter().filter(fits).take(TRIES).peekable();
    if keys.peek().is_none() {
        return Err(Refused::Key);
    }
    if !keys.any(|key| verified(key, algorithm, signed.as_bytes(), &signature)) {
        return Err(Refused::Signature);
    }
    // Read only now: nobody else's bytes are parsed further than their head.
    let claims = object(&decode(payload)?)?;
    timely(&claims, now, jwt.leeway.as_secs())?;
    if !meant(jwt, &claims) {
        return Err(Refused::Claims);
    }
    Ok(Claims(claims))
}

/// The one token of a request: who stands after the edge could take another one of two.
fn token<'a>(jwt: &Jwt, headers: &'a HeaderMap) -> Result<&'a str, Refused> {
    let mut fields = headers.get_all(&jwt.header).iter();
    match (fields.next(), fields.next()) {
        (Some(_), Some(_)) => return Err(Refused::Malformed),
        (Some(field), None) => {
            let value = field.to_str().map_err(|_| Refused::Malformed)?;
            if jwt.header != AUTHORIZATION {
                return Ok(value);
            }
            if let Some(token) = bearer(value) {
                return Ok(token);
            }
        }
        (None, _) => {}
    }
    let name = jwt.cookie.as_deref().ok_or(Refused::Missing)?;
    let mut cookies = fields::cookies(headers, name);
    match (cookies.next(), cookies.next()) {
        (Some(token), None) => Ok(token),
        (None, _) => Err(Refused::Missing),
        (Some(_), Some(_)) => Err(Refused::Malformed),
    }
}

/// The token of a value of `Authorization` (RFC 6750 section 2.1).
pub(super) fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

/// A JSON object in which no name is there twice, however deep: of two values, two readers could
/// take different ones (RFC 7519 section 4).
fn object(text: &[u8]) -> Result<Map<String, Value>, Refused> {
    match serde_json::from_slice(text) {
        Ok(Unique(Value::Object(map))) => Ok(map),
        Ok(_) | Err(_) => Err(Refused::Malformed),
    }
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values).map(Self)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON in which no name is there twice")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, is: bool) -> Result<Value, E> {
        Ok(Value::Bool(is))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_f64<E>(self, n: f64) -> Result<Value, E> {
        Ok(Number::from_f64(n).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = pairs.next_key::<String>()? {
            let Unique(value) = pairs.next_value()?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a name twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

fn verified(key: &Key, algorithm: Algorithm, signed: &[u8], said: &[u8]) -> bool {
    let by = |way: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
        signature::UnparsedPublicKey::new(way, key).verify(signed, said).is_ok()
    };
    match &key.material {
        Material::Secret(secret) => {
            let hash = match algorithm {
                Algorithm::HS384 => hmac::HMAC_SHA384,
                Algorithm::HS512 => hmac::HMAC_SHA512,
                _ => hmac::HMAC_SHA256,
            };
            hmac::verify(&hmac::Key::new(hash, secret), signed, said).is_ok()
        }
        Material::Rsa(n, e) => {
            let way = match algorithm {
                Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
                Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
                Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
                _ => return false,
            };
            let key = signature::RsaPublicKeyComponents { n, e };
            key.verify(way, signed, said).is_ok()
        }
        Material::P256(point) => by(&signature::ECDSA_P256_SHA256_FIXED, point),
        Material::P384(point) => by(&signature::ECDSA_P384_SHA384_FIXED, point),
        Material::Ed25519(key) => by(&signature::ED25519, key),
    }
}

/// A token without an end is none: it could never be taken back.
fn timely(claims: &Map<String, Value>, now: UnixTime, leeway: u64) -> Result<(), Refused> {
    let now = now.secs();
    // NumericDate, which may have a fraction (RFC 7519 section 2).
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float becomes the nearest there is"
    )]
    let date = |value: &Value| value.as_u64().or_else(|| value.as_f64().map(|date| date as u64));
    let ends = claims.get("exp").and_then(date).ok_or(Refused::Time)?;
    let begins = match claims.get("nbf") {
        None => 0,
        Some(value) => date(value).ok_or(Refused::Time)?,
    };
    match ends.saturating_add(leeway) > now && begins <= now.saturating_add(leeway) {
        true => Ok(()),
        false => Err(Refused::Time),
    }
}

fn meant(jwt: &Jwt, claims: &Map<String, Value>) -> bool {
    let issuer = claims.get("iss").and_then(Value::as_str);
    let known = jwt.issuer.is_none() || jwt.issuer.as_deref() == issuer;
    let audience = claims.get("aud");
    let wanted = |value: &Value| {
        value
            .as_str()
            .is_some_and(|aud| jwt.audience.iter().any(|own| own == aud))
    };
    let ours = jwt.audience.is_empty()
        || audience.is_some_and(|value| match value {
            Value::Array(list) => list.iter().any(wanted),
            one => wanted(one),
        });
    let mut claimed = jwt.claims.iter();
    known
        && ours
        && claimed.all(|(name, demanded)| {
            let is = |value: &Value| text(value).is_some_and(|said| *said == **demanded);
            match claims.get(&**name) {
                // Of a list one is enough: roles, scopes.
                Some(Value::Array(list)) => list.iter().any(is),
                Some(value) => is(value),
                None => false,
            }
        })
}

/// A claim as text; `None` for lists and objects.
fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(is) => Some(if *is { "true" } else { "false" }.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use ring::rand::SystemRandom;
    use ring::signature::KeyPair;

    use super::*;
    use crate::config::rule::jwt::{self, KeyFile, Source};

    const NOW: u64 = 1_700_000_000;
    const SECRET: [u8; 32] = [7; 32];

    fn url(bytes: &[u8]) -> String {
        BASE64URL_NOPAD.encode(bytes)
    }

    fn rule(keys: &str) -> Jwt {
        Jwt {
            source: Source::File(KeyFile::new(
                "jwks.json".into(),
                jwt::keys(format!("{{\"keys\":[{keys}]}}").as_bytes()).unwrap(),
            )),
            issuer: Some("https://id.example".to_owned()),
            audience: vec!["api".to_owned()],
            leeway: std::time::Duration::from_secs(30),
            header: AUTHORIZATION,
            cookie: Some("token".into()),
            claims: vec![("role".into(), "admin".into())],
            forward: false,
            challenges: ["Bearer", "Bearer error=\"invalid_token\""].map(HeaderValue::from_static),
        }
    }

    fn hs() -> Jwt {
        rule(&format!("{{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"{}\"}}", url(&SECRET)))
    }

    fn signed(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let signed = format!("{}.{}", url(header.as_bytes()), url(claims.as_bytes()));
        format!("{signed}.{}", url(&sign(signed.as_bytes())))
    }

    fn hmac256(bytes: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), bytes)
            .as_ref()
            .to_vec()
    }

    fn claims(more: &str) -> String {
        format!(
            "{{\"iss\":\"https://id.example\",\"aud\":\"api\",\"role\":\"admin\",\"sub\":\"ann\",\"exp\":{}{more}}}",
            NOW + 60
        )
    }

    fn ask(jwt: &Jwt, token: &str, now: u64) -> Result<Claims, Refused> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        by_file(jwt, &headers, now)
    }

    fn by_file(jwt: &Jwt, headers: &HeaderMap, now: u64) -> Result<Claims, Refused> {
        let Source::File(file) = &jwt.source else { panic!() };
        check(jwt, &file.keys(), headers, UnixTime::from_secs(now))
    }

    /// Whoever can write a token of his own would be anybody.
    #[test]
    fn only_what_was_signed_passes() {
        let good = signed("{\"alg\":\"HS256\",\"kid\":\"a\"}", &claims(""), hmac256);
        assert_eq!(ask(&hs(), &good, NOW).unwrap().text("sub").as_deref(), Some("ann"));
        // By cookie, too.
        let mut headers = HeaderMap::new();
        headers.insert("cookie", format!("a=b; token={good}").parse().unwrap());
        assert!(by_file(&hs(), &headers, NOW).is_ok());
        assert_eq!(by_file(&hs(), &HeaderMap::new(), NOW), Err(Refused::Missing));
        let unsigned = signed("{\"alg\":\"none\"}", &claims(""), |_| Vec::new());
        let other = signed("{\"alg\":\"HS256\"}", &claims(""), |_| vec![0; 32]);
        let critical = signed("{\"alg\":\"HS256\",\"crit\":[\"b64\"]}", &claims(""), hmac256);
        let stranger = signed("{\"alg\":\"HS256\",\"kid\":\"b\"}", &claims(""), hmac256);
        let twice = signed("{\"alg\":\"HS256\"}", &claims(",\"role\":\"admin\""), hmac256);
        let twice_within = signed("{\"alg\":\"HS256\"}", &claims(",\"x\":[{\"y\":1,\"y\":2}]"), hmac256);
        let two_ways = signed("{\"alg\":\"HS256\",\"alg\":\"HS256\"}", &claims(""), hmac256);
        let padded = good.replacen('.', "=.", 1);
        let deep = signed("{\"alg\":\"HS256\"}", &"[".repeat(5_000), hmac256);
        let (head, rest) = good.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let changed = format!("{head}.{}.{signature}", url(claims(",\"x\":1").as_bytes()));
        for (token, why) in [
            (unsigned.as_str(), Refused::Malformed),
            (other.as_str(), Refused::Signature),
            (critical.as_str(), Refused::Malformed),
            (stranger.as_str(), Refused::Key),
            (changed.as_str(), Refused::Signature),
            (twice.as_str(), Refused::Malformed),
            (twice_within.as_str(), Refused::Malformed),
            (two_ways.as_str(), Refused::Malformed),
            (padded.as_str(), Refused::Malformed),
            (deep.as_str(), Refused::Malformed),
            ("", Refused::Malformed),
            ("a.b", Refused::Malformed),
            ("....", Refused::Malformed),
            (&"a".repeat(LONGEST + 1), Refused::Malformed),
        ] {
            assert_eq!(ask(&hs(), token, NOW), Err(why), "{token}");
        }
    }

    /// The origin would read another token than the one that was checked.
    #[test]
    fn two_tokens_are_none() {
        let good = signed("{\"alg\":\"HS256\"}", &claims(""), hmac256);
        let asked = |fields: &[(&'static str, String)]| {
            let headers = fields
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            by_file(&hs(), &headers.collect(), NOW).map(drop)
        };
        let bearer = ("authorization", format!("bearer  {good}"));
        assert_eq!(asked(std::slice::from_ref(&bearer)), Ok(()));
        assert_eq!(asked(&[bearer.clone(), bearer.clone()]), Err(Refused::Malformed));
        let cookies = ("cookie", format!("token={good}; token={good}"));
        assert_eq!(asked(&[cookies]), Err(Refused::Malformed));
        let basic = ("authorization", "Basic eA".to_owned());
        assert_eq!(asked(&[basic, ("cookie", format!("token={good}"))]), Ok(()));
    }

    /// One request could have the node compute for milliseconds.
    #[test]
    fn few_keys_are_tried() {
        let key = |n: u8| format!("{{\"kty\":\"oct\",\"k\":\"{}\"}}", url(&[n; 32]));
        let keys: Vec<_> = (0..20).map(|n| key(if n < 10 { 90 + n } else { n - 3 })).collect();
        let good = signed("{\"alg\":\"HS256\"}", &claims(""), hmac256);
        assert_eq!(
            ask(&rule(&keys.join(",")), &good, NOW).map(drop),
            Err(Refused::Signature),
            "the right one is the eleventh"
        );
    }

    /// A token would pass for ever, too early, or for another service.
    #[test]
    fn what_it_says_counts() {
        let pass = |claims: &str, now| ask(&hs(), &signed("{\"alg\":\"HS256\"}", claims, hmac256), now).map(drop);
        assert_eq!(pass(&claims(""), NOW + 60 + 29), Ok(()), "within the leeway");
        assert_eq!(pass(&claims(""), NOW + 60 + 30), Err(Refused::Time));
        assert_eq!(
            pass(&claims(&format!(",\"nbf\":{}", NOW + 31)), NOW),
            Err(Refused::Time)
        );
        assert_eq!(pass(&claims(",\"nbf\":\"soon\""), NOW), Err(Refused::Time));
        assert_eq!(
            pass(&claims("").replace("exp", "end"), NOW),
            Err(Refused::Time),
            "no end"
        );
        assert_eq!(pass(&claims("").replace("\"api\"", "[\"web\",\"api\"]"), NOW), Ok(()));
        for (from, to) in [
            ("id.example", "evil.example"),
            ("\"api\"", "\"web\""),
            ("\"api\"", "[]"),
            ("\"admin\"", "\"guest\""),
            ("\"admin\"", "[\"guest\"]"),
        ] {
            assert_eq!(
                pass(&claims("").replace(from, to), NOW),
                Err(Refused::Claims),
                "{from} {to}"
            );
        }
        assert_eq!(
            pass(&claims("").replace("\"admin\"", "[\"guest\",\"admin\"]"), NOW),
            Ok(())
        );
        assert_eq!(pass("[]", NOW), Err(Refused::Malformed));
    }

    /// Identity providers sign with public keys: their tokens would not pass, or a public key would
    /// be taken for a secret.
    #[test]
    fn public_keys() {
        let random = SystemRandom::new();
        let way = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = signature::EcdsaKeyPair::generate_pkcs8(way, &random).unwrap();
        let pair = signature::EcdsaKeyPair::from_pkcs8(way, pkcs8.as_ref(), &random).unwrap();
        let point = pair.public_key().as_ref();
        let es = rule(&format!(
            "{{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{}\",\"y\":\"{}\"}}",
            url(&point[1..33]),
            url(&point[33..])
        ));
        let token = signed("{\"alg\":\"ES256\"}", &claims(""), |bytes| {
            pair.sign(&random, bytes).unwrap().as_ref().to_vec()
        });
        assert!(ask(&es, &token, NOW).is_ok());
        // The public key as an HMAC secret (RFC 8725 section 2.1).
        let confused = signed("{\"alg\":\"HS256\"}", &claims(""), |bytes| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, point), bytes)
                .as_ref()
                .to_vec()
        });
        assert_eq!(ask(&es, &confused, NOW), Err(Refused::Key));
        let pkcs8 = signature::Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let pair = signature::Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let ed = rule(&format!(
            "{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"{}\"}}",
            url(pair.public_key().as_ref())
        ));
        let token = signed("{\"alg\":\"EdDSA\"}", &claims(""), |bytes| {
            pair.sign(bytes).as_ref().to_vec()
        });
        assert!(ask(&ed, &token, NOW).is_ok());
        assert_eq!(ask(&es, &token, NOW), Err(Refused::Key));
    }

    /// The commonest tokens of identity providers are RSA's.
    #[test]
    fn rsa() {
        use aws_lc_rs::rsa::{KeyPair, KeySize};
        use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding};
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        // RSAPublicKey (RFC 8017 appendix A.1.1): two headers and a zero, the modulus, the
        // exponent.
        let public = pair.public_key().as_ref();
        let jwk = format!(
            "{{\"kty\":\"RSA\",\"alg\":\"RS256\",\"n\":\"{}\",\"e\":\"AQAB\"}}",
            url(&public[9..265])
        );
        let token = |alg: &str, way: &'static dyn RsaEncoding| {
            signed(&format!("{{\"alg\":\"{alg}\"}}"), &claims(""), |bytes| {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = aws_lc_rs::rand::SystemRandom::new();
                pair.sign(way, &random, bytes, &mut signature).unwrap();
                signature
            })
        };
        let (pkcs1, pss) = (token("RS256", &RSA_PKCS1_SHA256), token("PS256", &RSA_PSS_SHA256));
        assert!(ask(&rule(&jwk), &pkcs1, NOW).is_ok());
        assert_eq!(
            ask(&rule(&jwk), &pss, NOW),
            Err(Refused::Key),
            "the file allows RS256 alone"
        );
        let any = jwk.replace(",\"alg\":\"RS256\"", "");
        assert!(ask(&rule(&any), &pss, NOW).is_ok());
    }
}
