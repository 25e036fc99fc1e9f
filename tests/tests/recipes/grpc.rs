//! A gRPC server of one method: it echoes a message, says its status in a trailer, and
//! answers health checks. Hyper's HTTP/2 without TLS, on a thread of its own.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

const STATUS: http::HeaderName = http::HeaderName::from_static("grpc-status");

/// Starts it; it ends with the process.
pub(crate) fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(socket), service_fn(answer)).await;
                });
            }
        });
    });
    address
}

/// A message and the trailers after it, as gRPC servers send them: without a length.
struct Said(Option<Bytes>, Option<HeaderMap>);

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.0.take() {
            Some(message) => Some(Frame::data(message)),
            None => self.1.take().map(Frame::trailers),
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none() && self.1.is_none()
    }
}

/// What is asked for is said with its status in the trailers; an error has it in the head.
async fn answer(request: http::Request<Incoming>) -> Result<http::Response<Said>, hyper::Error> {
    let (head, body) = request.into_parts();
    let asked = body.collect().await?.to_bytes();
    let is_call = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/grpc");
    let status = |status: &'static str| HeaderMap::from_iter([(STATUS, HeaderValue::from_static(status))]);
    let (said, in_head) = match (is_call, head.uri.path()) {
        (true, "/grpc.health.v1.Health/Check") => (Some(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1])), None),
        (true, "/shop.Cart/Get") => (Some(asked), None),
        (true, _) => (None, Some(status("12"))),
        (false, _) => (None, Some(status("13"))),
    };
    let trailers = said.is_some().then(|| status("0"));
    let mut response = http::Response::new(Said(said, trailers));
    *response.headers_mut() = in_head.unwrap_or_default();
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}
