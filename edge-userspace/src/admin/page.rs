//! The status page at `/`, one file with nothing from elsewhere, and the events that keep it live
//! at `/events` (server-sent events, HTML section 9.2): a look at the node every two seconds.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response};
use http_body::Frame;
use http_body_util::Full;
use prometheus_client::registry::Registry;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::guard::Rights;
use super::reply::Answer;
use super::{Control, metrics};

const PAGE: &str = include_str!("page.html");
/// Between two events.
const EVERY: Duration = Duration::from_secs(2);
/// Pages at once: each costs one look at everything every two seconds.
pub(super) const WATCHERS: usize = 16;

/// What the page may do: run the script and the style that are in it, and ask this endpoint.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |tag: &str| {
        let inside = PAGE
            .split_once(&format!("<{tag}>"))
            .and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
        let inside = inside.map_or("", |(inside, _)| inside);
        BASE64.encode(digest(&SHA256, inside.as_bytes()).as_ref())
    };
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The page.
pub(super) fn page() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(PAGE.as_bytes())));
    let fields = answer.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    fields.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Events without an end, as the content of an answer.
pub(super) struct Events {
    tick: Interval,
    rights: Rights,
    registry: Arc<Registry>,
    control: Arc<dyn Control>,
    _place: OwnedSemaphorePermit,
}

impl Events {
    /// For a listener of these `rights`, while `place` is held.
    pub(super) fn new(
        rights: Rights,
        registry: Arc<Registry>,
        control: Arc<dyn Control>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let mut tick = interval(EVERY);
        // Who reads slowly gets the node as it is, not as it was.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            tick,
            rights,
            registry,
            control,
            _place: place,
        }
    }

    /// The answer's head.
    pub(super) fn answer(self) -> Response<Self> {
        let mut answer = Response::new(self);
        let fields = answer.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        ready!(this.tick.poll_tick(cx));
        let look = look(this.rights, &this.registry, &*this.control);
        // JSON has no line breaks of its own.
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!(
            "retry: 2000\ndata: {look}\n\n"
        ))))))
    }
}

/// Everything that the page shows.
fn look(rights: Rights, registry: &Registry, control: &dyn Control) -> Value {
    json!({
        "rights": if rights == Rights::Command { "command" } else { "read" },
        "ready": control.ready(),
        "notes": control.notes(),
        "status": control.status(),
        "penalties": control.penalties().ok(),
        "denied": control.denied().ok(),
        "lockdown": control.lockdown().ok(),
        "metrics": metrics::encode(registry),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page that asks anything of anybody else tells them of the node, and does not work where
    /// there is no Internet.
    #[test]
    fn the_page_is_all_there_is() {
        for outside in ["http://", "https://", "src=", "url(", "@import", "import("] {
            let found: Vec<&str> = PAGE
                .match_indices(outside)
                .map(|(at, _)| &PAGE[at..(at + 40).min(PAGE.len())])
                .collect();
            // The name of SVG, which is no address.
            let others: Vec<_> = found
                .iter()
                .filter(|text| !text.contains("www.w3.org/2000/svg"))
                .collect();
            assert!(others.is_empty(), "{outside}: {others:?}");
        }
        assert!(!PAGE.contains("innerHTML"), "what the node says is never read as HTML");
        let policy = POLICY.to_str().unwrap();
        assert!(
            policy.contains("script-src 'sha256-") && !policy.contains("unsafe"),
            "{policy}"
        );
        for tag in ["script", "style"] {
            assert_eq!(
                PAGE.matches(&format!("<{tag}>")).count(),
                1,
                "the policy names one {tag}"
            );
        }
    }

    /// The page shows nothing for a metric that it names otherwise than the node does.
    #[test]
    fn the_page_names_metrics_that_there_are() {
        let documented = include_str!("../../../docs/metrics.md");
        let mut names = 0;
        for part in PAGE
            .split('"')
            .filter(|part| part.starts_with("edge_") || part.starts_with("process_"))
        {
            assert!(
                documented.contains(&format!("`{part}`")),
                "{part} is in no table of docs/metrics.md"
            );
            names += 1;
        }
        assert!(names > 20, "only {names} metrics were found");
    }
}
