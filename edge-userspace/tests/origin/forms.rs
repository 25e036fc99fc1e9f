//! Forms of messages that some servers and clients know no other: names of fields with capitals,
//! gRPC in the form that browsers can send.

use bytes::Bytes;
use edge::http::body::{Body, BodyError};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::AsyncWriteExt;

use super::bed::{Bed, Server, full, get, post, read_head};

/// An old server that compares names byte by byte would see no fields.
#[tokio::test]
async fn names_with_capitals() {
    let (sent, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::raw(move |mut socket| {
        let sent = sent.clone();
        async move {
            let head = read_head(&mut socket).await;
            sent.send(head).unwrap();
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    for (more, name) in [("", "x-own-field: 1"), ("header_case = \"title\"", "X-Own-Field: 1")] {
        let mut request = get("/");
        request.headers_mut().insert("x-own-field", "1".parse().unwrap());
        Bed::one(server.address, more).ask(request).await.unwrap();
        let head = heads.recv().await.unwrap();
        assert!(head.contains(name), "{more}: {head:?}");
    }
}

/// A browser's call would be refused by the server, or its status never come.
#[tokio::test]
async fn calls_of_browsers() {
    let server = Server::h2(10, |request: http::Request<hyper::body::Incoming>| async move {
        let (head, body) = request.into_parts();
        let fields =
            ["content-type", "te"].map(|name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned()));
        let asked = body.collect().await.unwrap().to_bytes();
        let wanted = [Some("application/grpc+proto".to_owned()), Some("trailers".to_owned())];
        let status = if fields == wanted { "0" } else { "13" };
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", status.parse().unwrap());
        let frames = [Ok(Frame::data(asked)), Ok::<_, BodyError>(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let response = http::Response::builder().header("content-type", "application/grpc+proto");
        response.body(BodyExt::boxed(body)).unwrap()
    })
    .await;
    let message = b"\0\0\0\0\x03abc";
    let answer = [&message[..], b"\x80\0\0\0\x10grpc-status: 0\r\n"].concat();
    let bed = Bed::one(server.address, "http = \"2\"\ngrpc_web = true");
    let call = async |kind: &str, content: Bytes| {
        let request = http::Request::post("/shop.Cart/Get").header("content-type", kind);
        let response = bed.ask(request.body(Body::from(content)).unwrap()).await.unwrap();
        let kind = response.head.headers["content-type"].to_str().unwrap().to_owned();
        (kind, response.body.collect().await.unwrap().to_bytes())
    };
    let (kind, content) = call("application/grpc-web+proto", Bytes::from_static(message)).await;
    assert_eq!(
        (kind.as_str(), &content[..]),
        ("application/grpc-web+proto", &answer[..])
    );
    let coded = Bytes::from(data_encoding::BASE64.encode(message));
    let (kind, content) = call("application/grpc-web-text+proto", coded).await;
    assert_eq!(kind, "application/grpc-web-text+proto");
    let text = String::from_utf8(content.to_vec()).unwrap();
    // Each frame has its own padding: eight bytes, and 21.
    let (first, last) = text.split_at(12);
    let plain = [first, last].map(|piece| data_encoding::BASE64.decode(piece.as_bytes()).unwrap());
    assert_eq!(plain.concat(), answer, "{text}");
    // Other calls stay as they are.
    let (kind, _) = call("application/grpc+proto", Bytes::from_static(message)).await;
    assert_eq!(kind, "application/grpc+proto");
}

/// A call's status would be lost if its message has a length, or none at all.
#[tokio::test]
async fn trailers_after_a_length() {
    for content in ["abc", ""] {
        let server = Server::h2(10, move |_| async move {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "7".parse().unwrap());
            let body = full(content).with_trailers(std::future::ready(Some(Ok(trailers))));
            let response = http::Response::builder().header("content-length", content.len());
            response.body(BodyExt::boxed(body)).unwrap()
        })
        .await;
        let bed = Bed::one(server.address, "http = \"2\"");
        let response = bed.ask(post("/shop.Cart/Get", "abc")).await.unwrap();
        assert_eq!(response.head.headers["content-length"], content.len().to_string());
        let came = response.body.collect().await.unwrap();
        let status = came.trailers().map(|trailers| trailers["grpc-status"].clone());
        assert_eq!(status, Some("7".parse().unwrap()), "{content:?}");
        assert_eq!(came.to_bytes(), content);
    }
}
