//! `/worker` of the endpoint: deploying, listing, rolling back, reading what workers said. Its
//! orders may take seconds, and carry a whole worker.

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::reply::{Answer, json, text};
use super::{Control, KeyOrder, SecretOrder, WorkerOrder};

/// Bytes of a worker; the node's configuration may allow fewer.
const WORKER: usize = 256 << 20;
/// How long sending one may take.
const SENDING: Duration = Duration::from_secs(60);

/// Whether a request is for here.
pub(super) fn is_for(path: &str) -> bool {
    path == "/worker" || path.starts_with("/worker/")
}

/// Why a request is not an order: what is answered instead.
type Refused = (StatusCode, &'static str);

const UNKNOWN: Refused = (
    StatusCode::NOT_FOUND,
    "known: GET /worker /worker/logs /worker/kv /worker/secret, POST /worker/deploy /worker/rollout /worker/rollback \
     /worker/kv /worker/kv/delete /worker/secret /worker/secret/delete, each with ?zone=\n",
);

/// Answers one request.
pub(super) async fn answer(head: &Parts, body: Incoming, control: &dyn Control) -> Answer {
    let order = match order(head, body).await {
        Ok(order) => order,
        Err((status, words)) => return text(status, words),
    };
    match control.worker(order).await {
        Ok(value) => json(StatusCode::OK, &value),
        Err(error) => text(StatusCode::CONFLICT, format!("{error}\n")),
    }
}

async fn order(head: &Parts, body: Incoming) -> Result<WorkerOrder, Refused> {
    let (path, query) = (head.uri.path(), Query(head.uri.query().unwrap_or_default()));
    let changes = head.method == Method::POST;
    match query.value("zone") {
        zone if path == "/worker" && !changes => Ok(WorkerOrder::List { zone }),
        Some(zone) if changes => change(path, zone, &query, body).await,
        Some(zone) => look(path, zone, &query),
        None => Err(UNKNOWN),
    }
}

/// An order that changes nothing.
fn look(path: &str, zone: String, query: &Query<'_>) -> Result<WorkerOrder, Refused> {
    Ok(match path {
        "/worker/logs" => WorkerOrder::Logs {
            zone,
            after: query.number("after").unwrap_or(0),
        },
        "/worker/secret" => WorkerOrder::Secret {
            zone,
            order: SecretOrder::List,
        },
        "/worker/kv" => {
            let order = match (query.text("key"), query.text("prefix")) {
                (Some(key), _) => KeyOrder::Get(key),
                (None, prefix) => KeyOrder::List(prefix.unwrap_or_default(), query.text("after")),
            };
            WorkerOrder::Key { zone, order }
        }
        _ => return Err(UNKNOWN),
    })
}

/// An order that changes something; what it carries is read.
async fn change(path: &str, zone: String, query: &Query<'_>, body: Incoming) -> Result<WorkerOrder, Refused> {
    Ok(match path {
        "/worker/deploy" => {
            let bytes = read(body, "the worker did not come whole, or is too long\n").await?;
            WorkerOrder::Deploy {
                zone,
                bytes,
                percent: query
                    .percent()
                    .map_err(|()| (StatusCode::BAD_REQUEST, "write percent=1 to 99\n"))?,
                preview: query.value("preview").is_some(),
            }
        }
        "/worker/rollout" => match query.percent() {
            Ok(Some(percent)) => WorkerOrder::Rollout { zone, percent },
            _ => return Err((StatusCode::BAD_REQUEST, "write percent=0 to 100\n")),
        },
        "/worker/rollback" => WorkerOrder::Rollback {
            zone,
            version: query.number("version"),
        },
        "/worker/secret" => {
            let bytes = read(body, "the secret did not come whole, or is too long\n").await?;
            let order = SecretOrder::Put(query.text("name").unwrap_or_default(), bytes);
            WorkerOrder::Secret { zone, order }
        }
        "/worker/secret/delete" => WorkerOrder::Secret {
            zone,
            order: SecretOrder::Delete(query.text("name").unwrap_or_default()),
        },
        "/worker/kv" => {
            let bytes = read(body, "the value did not come whole, or is too long\n").await?;
            let key = query.text("key").unwrap_or_default();
            let order = KeyOrder::Put(key, bytes, query.number("until").unwrap_or(0));
            WorkerOrder::Key { zone, order }
        }
        "/worker/kv/delete" => WorkerOrder::Key {
            zone,
            order: KeyOrder::Delete(query.text("key").unwrap_or_default()),
        },
        _ => return Err(UNKNOWN),
    })
}

async fn read(body: Incoming, refused: &'static str) -> Result<Bytes, Refused> {
    let whole = tokio::time::timeout(SENDING, Limited::new(body, WORKER).collect()).await;
    match whole {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(_)) | Err(_) => Err((StatusCode::PAYLOAD_TOO_LARGE, refused)),
    }
}

/// The query of a request: `name=value` with `&` between.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn value(&self, name: &str) -> Option<String> {
        let mut pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }

    /// Any characters: they come as hexadecimal digits.
    fn text(&self, name: &str) -> Option<String> {
        let digits = self.value(name)?.to_ascii_lowercase();
        let bytes = data_encoding::HEXLOWER.decode(digits.as_bytes()).ok()?;
        String::from_utf8(bytes).ok()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    /// # Errors
    /// It is not 0 to 100.
    fn percent(&self) -> Result<Option<u8>, ()> {
        let Some(digits) = self.value("percent") else {
            return Ok(None);
        };
        let percent = digits.parse().ok().filter(|percent| *percent <= 100);
        percent.map(Some).ok_or(())
    }
}
