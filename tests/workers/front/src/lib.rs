//! An example: a worker in front of its zone's origin. `/greet/NAME` asks another zone of the node,
//! in the same process; everything else goes to the zone's own origin, streamed both ways, with a
//! field added.
//!
//! ```toml
//! [zone.worker]
//! zones = ["greeter"]
//! settings = { greeter = "greeter.example" }
//! ```

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, IncomingResponse, OutgoingBody, OutgoingRequest,
    OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

struct Front;

impl Guest for Front {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_else(|| "/".to_owned());
        let authority = request.authority().unwrap_or_default();
        let response = match path.strip_prefix("/greet/") {
            Some(name) => ask("greeter.example", &format!("/{name}"), Fields::new(), &request, false),
            None => ask(&authority, &path, forwarded(&request), &request, true),
        };
        match response {
            Ok(response) => hand_on(&response, out),
            Err(error) => fail(out, &error),
        }
    }
}

/// The request's fields, without those of its connection.
fn forwarded(request: &IncomingRequest) -> Fields {
    let fields = request.headers().entries();
    let own = |name: &str| matches!(name, "host" | "content-length" | "transfer-encoding" | "connection");
    let fields: Vec<_> = fields.into_iter().filter(|(name, _)| !own(name)).collect();
    Fields::from_list(&fields).unwrap_or_else(|_| Fields::new())
}

/// Sends a request, with the content of the one that came where `content`.
fn ask(
    authority: &str,
    path: &str,
    fields: Fields,
    came: &IncomingRequest,
    content: bool,
) -> Result<IncomingResponse, ErrorCode> {
    let request = OutgoingRequest::new(fields);
    let _ = request.set_method(&came.method());
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some(authority));
    let _ = request.set_path_with_query(Some(path));
    let body = request.body().expect("taken once");
    let response = outgoing_handler::handle(request, None)?;
    if content && let Ok(incoming) = came.consume() {
        let from = incoming.stream().expect("taken once");
        let to = body.write().expect("taken once");
        // The answer may come before all content went; an error says that nobody reads it any more.
        let _ = pump(&from, &to);
        drop(to);
        drop(from);
        drop(IncomingBody::finish(incoming));
    }
    let _ = OutgoingBody::finish(body, None);
    response.subscribe().block();
    response.get().expect("ready").expect("taken once")
}

fn hand_on(from: &IncomingResponse, out: ResponseOutparam) {
    let fields = from.headers().entries();
    let fields: Vec<_> = fields
        .into_iter()
        .filter(|(name, _)| !matches!(&**name, "connection" | "transfer-encoding"))
        .collect();
    let fields = Fields::from_list(&fields).unwrap_or_else(|_| Fields::new());
    let _ = fields.append("x-worker", b"front");
    let response = OutgoingResponse::new(fields);
    let _ = response.set_status_code(from.status());
    let body = response.body().expect("taken once");
    ResponseOutparam::set(out, Ok(response));
    let incoming = from.consume().expect("taken once");
    let (source, sink) = (
        incoming.stream().expect("taken once"),
        body.write().expect("taken once"),
    );
    let whole = pump(&source, &sink);
    drop(sink);
    if whole.is_ok() {
        let _ = OutgoingBody::finish(body, None);
    }
}

/// Copies as fast as the slower side.
fn pump(from: &InputStream, to: &OutputStream) -> Result<(), StreamError> {
    loop {
        match to.blocking_splice(from, 64 << 10) {
            Ok(_) => {}
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn fail(out: ResponseOutparam, error: &ErrorCode) {
    eprintln!("the other side failed: {error:?}");
    let response = OutgoingResponse::new(Fields::new());
    let _ = response.set_status_code(502);
    let body = response.body().expect("taken once");
    ResponseOutparam::set(out, Ok(response));
    let _ = OutgoingBody::finish(body, None);
}

wasip2::http::proxy::export!(Front);
