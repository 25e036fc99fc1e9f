//! `/cache/warm` of the endpoint: has the cache filled. An order may be long, and takes as long as
//! the slowest of its URLs.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::reply::{Answer, json, text};
use super::{Control, WarmOrder};

/// Bytes of an order: 100 URLs of 4 KiB, and their fields.
const ORDER: usize = 512 << 10;
/// Fields that are sent with each request.
const FIELDS: usize = 16;

/// Whether a request is for here.
pub(super) fn is_for(path: &str) -> bool {
    path == "/cache/warm"
}

/// Answers one request.
pub(super) async fn answer(head: &Parts, body: Incoming, control: &dyn Control) -> Answer {
    if head.method != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "allowed: POST\n");
    }
    let Ok(collected) = Limited::new(body, ORDER).collect().await else {
        return text(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the order did not come whole, or is too long\n",
        );
    };
    let order: WarmOrder = match serde_json::from_slice(&collected.to_bytes()) {
        Ok(order) => order,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    if let Err(what) = check(&order) {
        return text(StatusCode::BAD_REQUEST, format!("{what}\n"));
    }
    match control.warm(order).await {
        Ok(value) => json(StatusCode::OK, &value),
        Err(error) => text(StatusCode::CONFLICT, format!("{error}\n")),
    }
}

/// # Errors
/// What is out of bounds.
fn check(order: &WarmOrder) -> Result<(), String> {
    if order.urls.len() > WarmOrder::MOST {
        return Err(format!("write at most {} URLs", WarmOrder::MOST));
    }
    if !(1..=64).contains(&order.at_once) || !(1..=1_000).contains(&order.per_second) {
        return Err("write at_once from 1 to 64, and per_second from 1 to 1000".to_owned());
    }
    let sound = |(name, value): &(String, String)| {
        HeaderName::try_from(name.as_str()).is_ok() && HeaderValue::try_from(value.as_str()).is_ok()
    };
    if order.fields.len() > FIELDS || !order.fields.iter().all(sound) {
        return Err(format!("write at most {FIELDS} fields, each with a name and a value"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An origin would get more at once than anybody meant, or the daemon hold orders without end.
    #[test]
    fn orders_are_bounded() {
        let order = |urls: usize, at_once, per_second, fields: &[(&str, &str)]| WarmOrder {
            urls: vec!["https://a.example/".to_owned(); urls],
            at_once,
            per_second,
            fields: fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        };
        assert!(check(&order(100, 64, 1_000, &[("Accept-Encoding", "gzip")])).is_ok());
        for wrong in [
            order(101, 1, 1, &[]),
            order(1, 0, 1, &[]),
            order(1, 65, 1, &[]),
            order(1, 1, 0, &[]),
            order(1, 1, 1_001, &[]),
            order(1, 1, 1, &[("a b", "c")]),
            order(1, 1, 1, &[("a", "b\r\nc: d")]),
            order(1, 1, 1, &[("a", "b"); 17]),
        ] {
            assert!(check(&wrong).is_err(), "{wrong:?}");
        }
    }
}
