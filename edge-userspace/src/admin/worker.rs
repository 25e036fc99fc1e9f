//! `/worker` of the endpoint: deploying, listing, rolling back, reading what workers said. Its
//! orders may take seconds, and carry a whole worker.

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::answer::{Answer, json, text};
use super::{Control, KeyOrder, SecretOrder, WorkerOrder};

/// Bytes of a worker; the node's configuration may allow fewer.
const WORKER: usize = 256 << 20;
/// How long sending one may take.
const SENDING: Duration = Duration::from_secs(60);

/// Whether a request is for here.
pub(super) fn is_for(path: &str) -> bool {
    path == "/worker" || path.starts_with("/worker/")
}

/// Answers one request.
pub(super) async fn answer(head: &Parts, body: Incoming, control: &dyn Control) -> Answer {
    let changes = head.method == Method::POST;
    let query = head.uri.query().unwrap_or_default();
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    // Keys may be of any characters: they come as hexadecimal digits.
    let text_of = |name: &str| {
        let digits = value(name)?.to_ascii_lowercase();
        let bytes = data_encoding::HEXLOWER.decode(digits.as_bytes()).ok()?;
        String::from_utf8(bytes).ok()
    };
    let number = |name: &str| value(name).and_then(|digits| digits.parse::<u64>().ok());
    let percent = || match value("percent") {
        None => Ok(None),
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|percent| *percent <= 100_u8)
            .map(Some)
            .ok_or(()),
    };
    let order = match (head.uri.path(), changes, value("zone")) {
        ("/worker", false, zone) => WorkerOrder::List { zone },
        ("/worker/logs", false, Some(zone)) => WorkerOrder::Logs {
            zone,
            after: number("after").unwrap_or(0),
        },
        ("/worker/rollback", true, Some(zone)) => WorkerOrder::Rollback {
            zone,
            version: number("version"),
        },
        ("/worker/rollout", true, Some(zone)) => match percent() {
            Ok(Some(percent)) => WorkerOrder::Rollout { zone, percent },
            _ => return text(StatusCode::BAD_REQUEST, "write percent=0 to 100\n"),
        },
        ("/worker/secret", false, Some(zone)) => WorkerOrder::Secret {
            zone,
            order: SecretOrder::List,
        },
        ("/worker/secret/delete", true, Some(zone)) => WorkerOrder::Secret {
            zone,
            order: SecretOrder::Delete(text_of("name").unwrap_or_default()),
        },
        ("/worker/secret", true, Some(zone)) => match read(body).await {
            Some(bytes) => WorkerOrder::Secret {
                zone,
                order: SecretOrder::Put(text_of("name").unwrap_or_default(), bytes),
            },
            None => {
                return text(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the secret did not come whole, or is too long\n",
                );
            }
        },
        ("/worker/kv", false, Some(zone)) => {
            let order = match (text_of("key"), text_of("prefix")) {
                (Some(key), _) => KeyOrder::Get(key),
                (None, prefix) => KeyOrder::List(prefix.unwrap_or_default(), text_of("after")),
            };
            WorkerOrder::Key { zone, order }
        }
        ("/worker/kv/delete", true, Some(zone)) => WorkerOrder::Key {
            zone,
            order: KeyOrder::Delete(text_of("key").unwrap_or_default()),
        },
        ("/worker/kv", true, Some(zone)) => match read(body).await {
            Some(bytes) => {
                let key = text_of("key").unwrap_or_default();
                let order = KeyOrder::Put(key, bytes, number("until").unwrap_or(0));
                WorkerOrder::Key { zone, order }
            }
            None => {
                return text(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the value did not come whole, or is too long\n",
                );
            }
        },
        ("/worker/deploy", true, Some(zone)) => match (percent(), read(body).await) {
            (Ok(percent), Some(bytes)) => WorkerOrder::Deploy {
                zone,
                bytes,
                percent,
                preview: value("preview").is_some(),
            },
            (Err(()), _) => return text(StatusCode::BAD_REQUEST, "write percent=1 to 99\n"),
            (_, None) => {
                return text(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the worker did not come whole, or is too long\n",
                );
            }
        },
        _ => {
            return text(
                StatusCode::NOT_FOUND,
                "known: GET /worker /worker/logs /worker/kv /worker/secret, POST /worker/deploy /worker/rollout /worker/rollback \
                 /worker/kv /worker/kv/delete /worker/secret /worker/secret/delete, each with ?zone=\n",
            );
        }
    };
    match control.worker(order).await {
        Ok(value) => json(StatusCode::OK, &value),
        Err(error) => text(StatusCode::CONFLICT, format!("{error}\n")),
    }
}

async fn read(body: Incoming) -> Option<Bytes> {
    let whole = tokio::time::timeout(SENDING, Limited::new(body, WORKER).collect()).await;
    Some(whole.ok()?.ok()?.to_bytes())
}
