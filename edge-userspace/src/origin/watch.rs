//! Active health checks: one task per server that has them, on the control runtime, each on a
//! connection of its own, as the traffic's would be made.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::AbortHandle;

use super::connect::{Connected, Manner};
use super::fleet::{Fleet, Group, Server};
use super::grpc_health;
use super::health::Trouble;
use crate::base::id::RequestId;
use crate::base::shutdown::{Phase, Shutdown};
use crate::config::Health;

/// Content of a check's response is read this far and no further.
const MOST_CONTENT: usize = 64 << 10;

impl Fleet {
    /// Checks all servers that want it, until the process stops. Follows reloads.
    pub async fn watch(self: Arc<Self>, mut shutdown: Shutdown) {
        let mut running: HashMap<usize, Running> = HashMap::new();
        loop {
            let snapshot = arc_swap::Guard::into_inner(self.snapshot());
            let mut next = HashMap::new();
            for group in snapshot.groups() {
                let Some(check) = &group.upstream.health else {
                    continue;
                };
                for server in &group.servers {
                    let key = Arc::as_ptr(server).addr();
                    let task = running.remove(&key).unwrap_or_else(|| {
                        let task = tokio::spawn(course(group.clone(), server.clone(), check.clone()));
                        // Held, so that no other server can have its address.
                        Running(task.abort_handle(), server.clone())
                    });
                    next.insert(key, task);
                }
            }
            // Those left over are configured no more, and stop as they are dropped.
            running = next;
            tokio::select! {
                () = self.changed.notified() => {}
                () = shutdown.reached(Phase::Stopped) => return,
            }
        }
    }
}

struct Running(AbortHandle, #[expect(dead_code, reason = "kept alive")] Arc<Server>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn course(group: Arc<Group>, server: Arc<Server>, check: Health) {
    loop {
        let outcome = tokio::time::timeout(check.timeout, ask(&group, &server, &check)).await;
        let trouble = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(trouble)) => Some(trouble),
            Err(_) => Some(Trouble::Timeout),
        };
        group.checked(&server, trouble);
        tokio::time::sleep(jittered(check.interval)).await;
    }
}

/// 90 to 110 %, so that checks of many servers and nodes do not fall into step.
pub(super) fn jittered(interval: Duration) -> Duration {
    let [.., low] = RequestId::next().hex();
    interval.mul_f64(0.9 + 0.2 * f64::from(low & 15) / 15.0)
}

async fn ask(group: &Group, server: &Server, check: &Health) -> Result<(), Trouble> {
    let connected = group
        .connector
        .connect(&server.address, &server.names, Manner::default())
        .await
        .map_err(|e| e.trouble())?;
    let host = check.host.as_deref().and_then(|host| HeaderValue::from_str(host).ok());
    let host = host.unwrap_or_else(|| server.host.clone());
    let whole = |path: &str| format!("{}://{}{path}", server.scheme, String::from_utf8_lossy(host.as_bytes()));
    if let Some(service) = &check.grpc {
        return by_grpc(connected, whole(grpc_health::PATH), service).await;
    }
    let uri = if connected.h2 {
        whole(&check.path)
    } else {
        check.path.clone()
    };
    let mut request = http::Request::get(uri).header(header::USER_AGENT, "edge-health");
    if !connected.h2 {
        request = request.header(header::HOST, host);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| Trouble::Protocol)?;
    let io = TokioIo::new(connected.socket);
    let broken = |_| Trouble::Protocol;
    if connected.h2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .map_err(broken)?;
        driven(connection, async {
            answer(sender.send_request(request).await, check).await
        })
        .await
    } else {
        let mut builder = hyper::client::conn::http1::Builder::new();
        let (mut sender, connection) = builder
            .max_buf_size(MOST_CONTENT)
            .allow_spaces_after_header_name_in_responses(true)
            .handshake(io)
            .await
            .map_err(broken)?;
        driven(connection, async {
            answer(sender.send_request(request).await, check).await
        })
        .await
    }
}

/// Asks whether `service` serves, as gRPC's health checking protocol has it.
async fn by_grpc(connected: Connected, uri: String, service: &str) -> Result<(), Trouble> {
    if !connected.h2 {
        return Err(Trouble::Protocol);
    }
    let request = http::Request::post(uri)
        .header(header::USER_AGENT, "edge-health")
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(grpc_health::asked(service)))
        .map_err(|_| Trouble::Protocol)?;
    let io = TokioIo::new(connected.socket);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .map_err(|_| Trouble::Protocol)?;
    driven(connection, async {
        let response = sender.send_request(request).await.map_err(|_| Trouble::Protocol)?;
        let (head, body) = response.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(Trouble::Status);
        }
        let content = Limited::new(body, MOST_CONTENT)
            .collect()
            .await
            .map_err(|_| Trouble::Protocol)?;
        // An answer without a message has its status in the head.
        let status = content.trailers().unwrap_or(&head.headers).get("grpc-status");
        if status.is_none_or(|status| status != "0") {
            return Err(Trouble::Status);
        }
        match grpc_health::serving(&content.to_bytes()) {
            Some(true) => Ok(()),
            Some(false) => Err(Trouble::Status),
            None => Err(Trouble::Protocol),
        }
    })
    .await
}

/// `exchange` on a connection that is driven beside it, and ends with it.
async fn driven<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let driver = async {
        // It may end before the exchange has taken the last bytes.
        connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        outcome = exchange => outcome,
        never = driver => match never {},
    }
}

async fn answer(response: hyper::Result<http::Response<Incoming>>, check: &Health) -> Result<(), Trouble> {
    let (head, mut body) = response.map_err(|_| Trouble::Protocol)?.into_parts();
    let mut left = MOST_CONTENT;
    while let Some(frame) = body.frame().await {
        let n = frame.map_err(|_| Trouble::Protocol)?.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(n) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    if check.status.contains(&head.status.as_u16()) {
        Ok(())
    } else {
        Err(Trouble::Status)
    }
}
