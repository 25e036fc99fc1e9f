//! An example: greets by the name of its path, in words of its settings, and counts its visits in
//! the zone's store.
//!
//! ```toml
//! [zone.worker]
//! settings = { greeting = "good day" }
//! [zone.worker.keyvalue]
//! ```

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod extras {
    wit_bindgen::generate!({ path: "../../../edge-userspace/wit", world: "edge:worker/extras", generate_all });
}
use extras::wasi::config::store as config;
use extras::wasi::keyvalue::{atomics, store};
use extras::wasi::logging::logging::{Level, log};

struct Greeter;

impl Guest for Greeter {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let name = path.trim_start_matches('/').split('?').next().unwrap_or_default();
        let name = if name.is_empty() { "stranger" } else { name };
        let greeting = config::get("greeting").ok().flatten();
        let greeting = greeting.unwrap_or_else(|| "hello".to_owned());
        let visit = match store::open("default") {
            Ok(bucket) => atomics::increment(&bucket, &format!("visits:{name}"), 1)
                .map_or_else(|_| String::new(), |n| format!(", visit {n}")),
            // The zone stores nothing.
            Err(_) => String::new(),
        };
        log(Level::Info, "greeter", &format!("greets {name}"));
        answer(out, &format!("{greeting}, {name}{visit}\n"));
    }
}

fn answer(out: ResponseOutparam, text: &str) {
    let fields = Fields::new();
    let _ = fields.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);
    let _ = fields.set("content-length", &[text.len().to_string().into_bytes()]);
    let response = OutgoingResponse::new(fields);
    let body = response.body().expect("taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("taken once");
    for piece in text.as_bytes().chunks(4096) {
        // An error means that the client has gone.
        if stream.blocking_write_and_flush(piece).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

wasip2::http::proxy::export!(Greeter);
