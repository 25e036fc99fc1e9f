//! What `cargo xtask bench isolate` asks: `/` greets, `/sub` asks the zone two.example, `/json`
//! transforms what was posted, as the peer's script does.

use serde_json::{Value, json};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

struct Bench;

impl Guest for Bench {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let answer = match &*path {
            "/sub" => {
                let mut all = b"one got: ".to_vec();
                all.extend(ask());
                all
            }
            "/json" => transform(&read(request.consume().expect("content"))),
            "/spin" => loop {
                core::hint::black_box(());
            },
            _ => b"hello from a worker\n".to_vec(),
        };
        let fields = Fields::new();
        let _ = fields.set("content-length", &[answer.len().to_string().into_bytes()]);
        let response = OutgoingResponse::new(fields);
        let body = response.body().expect("taken once");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("taken once");
        for piece in answer.chunks(4096) {
            stream.blocking_write_and_flush(piece).expect("a client");
        }
        drop(stream);
        OutgoingBody::finish(body, None).expect("whole");
    }
}

/// Sums, sorts and renames the items of a list.
fn transform(text: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(text).expect("JSON");
    let items = value["items"].as_array().expect("a list");
    let total: f64 = items.iter().filter_map(|item| item["price"].as_f64()).sum();
    let mut rows: Vec<Value> = items
        .iter()
        .map(|item| json!({ "id": item["id"], "label": item["name"], "cost": item["price"] }))
        .collect();
    rows.sort_by(|a, b| a["label"].as_str().cmp(&b["label"].as_str()));
    serde_json::to_vec(&json!({ "count": rows.len(), "total": total, "rows": rows })).expect("JSON")
}

fn ask() -> Vec<u8> {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some("two.example")).expect("a host");
    request.set_path_with_query(Some("/")).expect("a path");
    let response = outgoing_handler::handle(request, None).expect("sent");
    response.subscribe().block();
    let response = response.get().expect("ready").expect("taken once").expect("an answer");
    read(response.consume().expect("content"))
}

fn read(body: IncomingBody) -> Vec<u8> {
    let stream = body.stream().expect("taken once");
    let mut all = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(StreamError::Closed) => return all,
            Err(error) => panic!("{error:?}"),
        }
    }
}

wasip2::http::proxy::export!(Bench);
