//! HTTP/3 where the answer takes its time.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h3::client::{RequestStream, SendRequest};
use h3::error::Code;
use h3_quinn::{BidiStream, OpenStreams};
use http::{Request, StatusCode};
use quinn::crypto::rustls::QuicClientConfig;

use crate::harness::Edge;

pub(crate) struct Client {
    pub(crate) requests: SendRequest<OpenStreams, Bytes>,
    connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

impl Client {
    async fn connect(edge: &Edge) -> Self {
        Self::to(edge, "a.example").await
    }

    pub(crate) async fn to(edge: &Edge, host: &str) -> Self {
        let tls = QuicClientConfig::try_from(edge.client(&["h3"])).unwrap();
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(tls));
        let connection = endpoint.connect_with(config, edge.h3, host).unwrap();
        let connection = connection.await.unwrap();
        let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(connection.clone()))
            .await
            .unwrap();
        tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
        Self {
            requests,
            connection,
            _endpoint: endpoint,
        }
    }

    async fn ask(&mut self, path: &str) -> RequestStream<BidiStream<Bytes>, Bytes> {
        let request = Request::get(format!("https://a.example{path}")).body(()).unwrap();
        let mut stream = self.requests.send_request(request).await.unwrap();
        stream.finish().await.unwrap();
        stream
    }
}

/// An origin would work, and a place in the gate be taken, for answers that nobody waits for.
#[tokio::test]
async fn an_answer_that_nobody_wants_is_not_waited_for() {
    let edge = Edge::start("");
    let mut client = Client::connect(&edge).await;
    let mut unwanted = client.ask("/slow/60000").await;
    edge.counts("edge_http_requests_in_flight 1").await;
    unwanted.stop_sending(Code::H3_REQUEST_CANCELLED);
    edge.counts("edge_http_requests_in_flight 0").await;
    // Nor is content that comes and comes.
    let mut endless = client.ask("/stream").await;
    assert_eq!(endless.recv_response().await.unwrap().status(), StatusCode::OK);
    endless.stop_sending(Code::H3_REQUEST_CANCELLED);
    edge.counts("edge_http_requests_in_flight 0").await;
    // The connection is as good as before.
    let mut stream = client.ask("/slow/1").await;
    assert_eq!(stream.recv_response().await.unwrap().status(), StatusCode::OK);
    let _gone = client.ask("/slow/60000").await;
    edge.counts("edge_http_requests_in_flight 1").await;
    client.connection.close(0_u32.into(), b"");
    edge.counts("edge_http_requests_in_flight 0").await;
}
