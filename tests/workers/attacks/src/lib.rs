//! A hostile tenant: one path per attack. Each must end with an error for its own request alone, or
//! come to nothing.

#![feature(asm_experimental_arch)]

use std::collections::BTreeMap;

use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};

mod extras {
    wit_bindgen::generate!({ path: "../../../edge-userspace/wit", world: "edge:worker/extras", generate_all });
}
use extras::wasi::config::store as config;
use extras::wasi::keyvalue::store;
use extras::wasi::logging::logging::{Level, log};

struct Attacks;

const HOUR: u64 = 3_600_000_000_000;
/// What one zone leaves in its memory and another looks for.
const MARK: [u8; 8] = *b"M4rk!x7\xfe";

static mut CALLS: u32 = 0;

impl Guest for Attacks {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let said = match path {
            "/spin" => spin(),
            "/alloc" => alloc(),
            "/table" => table(),
            "/handles" => handles(),
            "/recursion" => format!("{}", recursion(1)),
            "/fields" => fields(),
            "/hang" => {
                monotonic_clock::subscribe_duration(HOUR).block();
                String::new()
            }
            "/wait" => {
                monotonic_clock::subscribe_duration(1_500_000_000).block();
                "waited".to_owned()
            }
            "/never" => {
                return streamed(out, |_, stream| {
                    let _ = stream.blocking_write_and_flush(b"so far");
                    monotonic_clock::subscribe_duration(HOUR).block();
                });
            }
            "/trap-late" => {
                return streamed(out, |_, stream| {
                    let _ = stream.blocking_write_and_flush(b"so far");
                    panic!("behind the head");
                });
            }
            "/flood" => {
                return streamed(out, |_, stream| {
                    let piece = vec![b'x'; 4096];
                    while stream.blocking_write_and_flush(&piece).is_ok() {}
                });
            }
            "/none" => return,
            "/unread" => "not read".to_owned(),
            "/nested" => ask(query),
            "/fanout" => fanout(query),
            "/log" => {
                let stderr = wasip2::cli::stderr::get_stderr();
                let line = format!("{}\n", "x".repeat(200));
                for _ in 0..4_000 {
                    stderr
                        .blocking_write_and_flush(line.as_bytes())
                        .expect("taken, or dropped");
                }
                log(Level::Critical, "flood", &"y".repeat(1 << 20));
                "logged".to_owned()
            }
            "/clock" => clock(),
            "/sight" => sight(),
            "/mark" => {
                let marks: Vec<u8> = MARK.iter().copied().cycle().take(16 << 20).collect();
                std::hint::black_box(&marks);
                "marked".to_owned()
            }
            "/look" => look(),
            "/random" => format!("{}", wasip2::random::random::get_random_bytes(1 << 30).len()),
            "/hostcall" => {
                log(Level::Info, "", &"z".repeat(16 << 20));
                "logged".to_owned()
            }
            "/exit" => std::process::exit(3),
            "/panic" => panic!("on purpose"),
            "/calls" => {
                // SAFETY: there is one thread.
                let calls = unsafe {
                    CALLS += 1;
                    CALLS
                };
                calls.to_string()
            }
            "/key" => key(query),
            _ => "hello".to_owned(),
        };
        streamed(out, |_, stream| {
            for piece in said.as_bytes().chunks(4096) {
                let _ = stream.blocking_write_and_flush(piece);
            }
        });
    }
}

fn streamed(out: ResponseOutparam, write: impl FnOnce(&OutgoingBody, &OutputStream)) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("taken once");
    write(&body, &stream);
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn spin() -> ! {
    let mut n = 0_u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}

fn alloc() -> String {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&all);
    }
}

/// Grows its table of functions without end.
fn table() -> String {
    let mut size: i32;
    loop {
        // SAFETY: null references are added behind what is there.
        unsafe {
            core::arch::asm!(
                ".tabletype __indirect_function_table, funcref",
                "ref.null_func",
                "i32.const 10000",
                "table.grow __indirect_function_table",
                "local.set {size}",
                size = out(local) size,
            );
        }
        if size < 0 {
            return "refused".to_owned();
        }
    }
}

fn handles() -> String {
    loop {
        std::mem::forget(Fields::new());
    }
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "the attack")]
fn recursion(n: u64) -> u64 {
    let room = std::hint::black_box([n; 64]);
    recursion(n + 1) + room[(n % 64) as usize]
}

/// A response's fields, as large as they can be made.
fn fields() -> String {
    let fields = Fields::new();
    for n in 0_u32.. {
        fields.append(&format!("x-{n}"), &[b'v'; 1024]).expect("room");
    }
    String::new()
}

fn ask(url: &str) -> String {
    let (authority, path) = url.split_once('/').unwrap_or((url, ""));
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some(authority));
    let _ = request.set_path_with_query(Some(&format!("/{path}")));
    let response = match outgoing_handler::handle(request, None) {
        Ok(response) => response,
        Err(error) => return format!("{error:?}"),
    };
    response.subscribe().block();
    match response.get().expect("ready").expect("taken once") {
        Err(error) => format!("{error:?}"),
        Ok(response) => {
            let body = response.consume().expect("taken once");
            let stream = body.stream().expect("taken once");
            let mut all = format!("{} ", response.status()).into_bytes();
            loop {
                match stream.blocking_read(4096) {
                    Ok(bytes) => all.extend(bytes),
                    Err(StreamError::Closed) => break,
                    Err(error) => return format!("{error:?}"),
                }
            }
            String::from_utf8_lossy(&all).into_owned()
        }
    }
}

/// Asks a thousand times, and counts the answers by their kinds.
fn fanout(url: &str) -> String {
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..1_000 {
        *kinds.entry(ask(url)).or_default() += 1;
    }
    format!("{kinds:?}")
}

/// The smallest steps that the clocks make.
fn clock() -> String {
    let mut steps = Vec::new();
    let mut last = monotonic_clock::now();
    while steps.len() < 5 {
        let now = monotonic_clock::now();
        if now != last {
            steps.push(now - last);
            last = now;
        }
    }
    let wall = wall_clock::now();
    format!("{} {}", steps.iter().min().expect("five"), wall.nanoseconds % 1_000_000)
}

/// Everything it can see of the world.
fn sight() -> String {
    let mut seen = Vec::new();
    let environment = wasip2::cli::environment::get_environment();
    seen.extend(environment.into_iter().map(|(name, _)| format!("env {name}")));
    let arguments = wasip2::cli::environment::get_arguments();
    seen.extend(arguments.into_iter().map(|argument| format!("argument {argument}")));
    for (_, path) in wasip2::filesystem::preopens::get_directories() {
        seen.push(format!("file {path}"));
    }
    use wasip2::sockets::network::IpAddressFamily;
    if wasip2::sockets::tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4).is_ok() {
        seen.push("network".to_owned());
    }
    let network = wasip2::sockets::instance_network::instance_network();
    if wasip2::sockets::ip_name_lookup::resolve_addresses(&network, "localhost").is_ok() {
        seen.push("names".to_owned());
    }
    for bucket in ["default", "", "victim", "../victim", "zone-victim", "victim.redb"] {
        if let Ok(bucket_found) = store::open(bucket) {
            let keys = bucket_found
                .list_keys(None)
                .map(|answer| answer.keys)
                .unwrap_or_default();
            seen.extend(keys.into_iter().map(|key| format!("key {bucket}:{key}")));
        }
    }
    let all = config::get_all().unwrap_or_default();
    seen.extend(all.into_iter().map(|(name, _)| format!("setting {name}")));
    seen.join(", ")
}

/// What others left in its memory: bytes of fresh memory that are not zero.
fn look() -> String {
    let from = core::arch::wasm32::memory_size(0) << 16;
    core::arch::wasm32::memory_grow(0, (16 << 20) >> 16);
    let to = core::arch::wasm32::memory_size(0) << 16;
    let mut found = 0_usize;
    for at in from..to {
        // SAFETY: the range has just been added to the memory.
        if unsafe { core::ptr::read_volatile(at as *const u8) } != 0 {
            found += 1;
        }
    }
    format!("{found} of {}", to - from)
}

/// `set=K:V`, `get=K` or `fill=N` in the zone's store.
fn key(query: &str) -> String {
    let bucket = match store::open("default") {
        Ok(bucket) => bucket,
        Err(error) => return format!("{error:?}"),
    };
    match query.split_once('=') {
        Some(("set", pair)) => {
            let (key, value) = pair.split_once(':').unwrap_or((pair, ""));
            format!("{:?}", bucket.set(key, value.as_bytes()))
        }
        Some(("get", key)) => format!(
            "{:?}",
            bucket
                .get(key)
                .map(|v| v.map(|v| String::from_utf8_lossy(&v).into_owned()))
        ),
        Some(("fill", count)) => {
            let count: u32 = count.parse().expect("a number");
            for n in 0..count {
                if let Err(error) = bucket.set(&n.to_string(), &[7; 1000]) {
                    return format!("{error:?}");
                }
            }
            "filled".to_owned()
        }
        _ => String::new(),
    }
}

wasip2::http::proxy::export!(Attacks);
