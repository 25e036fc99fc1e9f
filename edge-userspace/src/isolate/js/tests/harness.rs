//! A node that is no more than a script needs: its log is kept, its sub-requests go to other
//! scripts or to made-up servers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, oneshot};
use wasmtime::Module;

use crate::config::isolate::Limits;
use crate::http::body::Body;
use crate::http::kept::Deed;
use crate::isolate::budget::{Meter, Metered};
use crate::isolate::engine::Engine;
use crate::isolate::error::{Ended, Error};
use crate::isolate::js::Script;
use crate::isolate::js::code::Code;
use crate::isolate::js::engine::{Shared, parts};
use crate::isolate::js::handed::image_of;
use crate::isolate::js::outside::{Ask, Doing, Environment, Item, Level, Outside, Told, Wire};
use crate::isolate::js::script::Asked;
use crate::isolate::js::snapshot::compile;
use crate::isolate::memory::Account;
use crate::isolate::program::Responder;

/// What everybody shares: compiling the engine takes seconds, so it is kept between runs.
pub(super) struct Bed {
    pub(super) engine: Engine,
    pub(super) shared: Arc<Shared>,
}

/// The bed; `None`, said aloud, if the engine was not built. CI builds it.
pub(super) fn bed() -> Option<&'static Bed> {
    static BED: OnceLock<Option<Bed>> = OnceLock::new();
    BED.get_or_init(|| {
        let Some(parts) = parts().unwrap() else {
            assert!(
                std::env::var_os("CI").is_none(),
                "no JavaScript engine: `cargo xtask build-js`, then build again"
            );
            eprintln!("SKIPPED: no JavaScript engine in this build: `cargo xtask build-js`, then build again");
            return None;
        };
        let engine = Engine::new(16).unwrap();
        let code = compiled(&engine, &parts.code);
        let base = Module::new(engine.wasm(), &parts.image).unwrap();
        let shared = Shared::new(code, base).unwrap();
        Some(Bed { engine, shared })
    })
    .as_ref()
}

/// Cranelift in a test build takes its time: the code is kept by the content of what it was made
/// from.
#[expect(unsafe_code, reason = "the file is this test's own, and named by what is in it")]
fn compiled(engine: &Engine, wasm: &[u8]) -> Module {
    let mut name = ring::digest::Context::new(&ring::digest::SHA256);
    name.update(&engine.fingerprint());
    name.update(wasm);
    let name = data_encoding::HEXLOWER.encode(name.finish().as_ref());
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/js-test");
    let path = directory.join(name);
    if let Ok(bytes) = std::fs::read(&path) {
        // SAFETY: written below by the same wasmtime, whole (it is renamed into place), and by
        // nobody else.
        return unsafe { Module::deserialize(engine.wasm(), bytes) }.unwrap();
    }
    let bytes = engine.wasm().precompile_module(wasm).unwrap();
    std::fs::create_dir_all(&directory).unwrap();
    let partial = directory.join(format!("partial-{}", std::process::id()));
    std::fs::write(&partial, &bytes).unwrap();
    std::fs::rename(&partial, &path).unwrap();
    // SAFETY: as above.
    unsafe { Module::deserialize(engine.wasm(), bytes) }.unwrap()
}

/// A script, ready; or why not.
#[expect(unsafe_code, reason = "what was compiled a line above")]
pub(super) fn load(text: &str) -> Result<Arc<Script>, String> {
    let bed = bed().unwrap();
    // A runtime of its own is started within: not on a thread that has one.
    let image = std::thread::scope(|scope| {
        let snap = || image_of(&bed.engine, &bed.shared, text);
        scope.spawn(snap).join().unwrap()
    });
    let image = match image {
        Ok(image) => image,
        Err(Error::Refused(why)) => return Err(why),
        Err(other) => panic!("{other}"),
    };
    let image = compile(&bed.engine, &image).unwrap();
    // SAFETY: as it came from the compiler.
    let module = unsafe { Module::deserialize(bed.engine.wasm(), image) }.unwrap();
    Ok(Arc::new(
        Script::new(bed.engine.clone(), bed.shared.clone(), module).unwrap(),
    ))
}

type Server = Box<dyn Fn(http::Request<Bytes>) -> http::Response<Body> + Send + Sync>;

/// The node.
#[derive(Default)]
pub(super) struct World {
    pub(super) said: Mutex<Vec<(Level, String)>>,
    pub(super) values: BTreeMap<String, String>,
    pub(super) store: Mutex<BTreeMap<String, Item>>,
    /// What is kept in caches.
    pub(super) kept: Mutex<BTreeMap<String, (http::StatusCode, HeaderMap, Bytes)>>,
    /// Hosts that are scripts.
    pub(super) zones: BTreeMap<String, Arc<Script>>,
    /// Everything else.
    pub(super) server: Option<Server>,
    /// The worker's end of the client's connection, if the client asks for a WebSocket.
    pub(super) socket: Mutex<Option<tokio::io::DuplexStream>>,
    /// When the client leaves.
    pub(super) leaves: Option<Duration>,
    /// What is due by a schedule, in place of a request: the time and the schedule, each on a line.
    pub(super) due: Option<&'static str>,
}

impl World {
    pub(super) fn log(&self) -> String {
        let said = self.said.lock().unwrap();
        said.iter()
            .map(|(_, text)| text.as_str())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Its view for one request.
struct View(Arc<World>);

impl Outside for View {
    fn say(&self, level: Level, text: &str) {
        self.0.said.lock().unwrap().push((level, text.to_owned()));
    }

    fn keep(&self, _: bool) {}

    fn pass(&self) {}

    fn environment(&self) -> Environment {
        Environment {
            values: self.0.values.clone(),
            stores: if self.0.values.is_empty() {
                vec![]
            } else {
                vec!["KV".into()]
            },
            assets: Some("ASSETS".to_owned()),
        }
    }

    fn asset(self: Arc<Self>, request: http::Request<Body>) -> Doing<http::Response<Body>> {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let mut response = http::Response::new(Body::from(format!("{} {path}", request.method())));
            if path == "/docs" {
                *response.status_mut() = http::StatusCode::PERMANENT_REDIRECT;
                let to = http::HeaderValue::from_static("/docs/");
                response.headers_mut().insert(http::header::LOCATION, to);
            }
            Ok(response)
        })
    }

    fn fetch(self: Arc<Self>, request: http::Request<Body>) -> Doing<http::Response<Body>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let (head, body) = request.into_parts();
            let host = head.uri.host().unwrap().to_owned();
            if let Some(script) = self.0.zones.get(&host).cloned() {
                let asked = Request {
                    method: head.method,
                    url: head.uri.to_string(),
                    fields: head.headers,
                    body,
                };
                let (parts, body) = Box::pin(ask(&script, &self.0, asked, limits()))
                    .await
                    .map_err(|_| Code::Broken)?;
                return Ok(http::Response::from_parts(parts, body.into()));
            }
            let server = self.0.server.as_ref().ok_or(Code::Denied)?;
            let body = body.collect().await.map_err(|_| Code::Broken)?.to_bytes();
            Ok(server(http::Request::from_parts(head, body)))
        })
    }

    fn kept(
        self: Arc<Self>,
        cache: String,
        deed: Deed,
        request: http::Request<Body>,
    ) -> Doing<Option<http::Response<Body>>> {
        Box::pin(async move {
            let key = format!("{cache} {}", request.uri());
            let body = request
                .into_body()
                .collect()
                .await
                .map_err(|_| Code::Broken)?
                .to_bytes();
            let mut kept = self.0.kept.lock().unwrap();
            let known = kept.get(&key).cloned();
            let known = known.map(|(status, fields, body)| {
                let mut response = http::Response::new(body.into());
                (*response.status_mut(), *response.headers_mut()) = (status, fields);
                response
            });
            Ok(match deed {
                Deed::Find => known,
                Deed::Forget => kept.remove(&key).and(known),
                Deed::Keep(status, fields) => {
                    kept.insert(key, (status, fields, body));
                    Some(http::Response::new(Body::Empty))
                }
            })
        })
    }

    fn accept(&self, head: &mut http::response::Parts) -> Option<Doing<Box<dyn Wire>>> {
        let client = self.0.socket.lock().unwrap().take()?;
        head.status = http::StatusCode::SWITCHING_PROTOCOLS;
        Some(Box::pin(async move {
            let wire: Box<dyn Wire> = Box::new(client);
            Ok(wire)
        }))
    }

    fn moved(&self) {}

    fn left(self: Arc<Self>) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>> {
        let leaves = self.0.leaves;
        Box::pin(async move {
            match leaves {
                Some(after) => {
                    tokio::time::sleep(after).await;
                    true
                }
                None => std::future::pending().await,
            }
        })
    }

    fn facts(&self) -> Vec<u8> {
        br#"{"address":"192.0.2.1","tls":{"version":"TLSv1.3"}}"#.to_vec()
    }

    fn store(self: Arc<Self>, name: &str, ask: Ask) -> Doing<Told> {
        let known = name == "KV";
        Box::pin(async move {
            let mut store = self.0.store.lock().unwrap();
            if !known {
                return Err(Code::Absent);
            }
            Ok(match ask {
                Ask::Get(key) => Told::Value(store.get(&key).cloned()),
                Ask::Put(key, value) => {
                    store.insert(key, value);
                    Told::Done
                }
                Ask::Delete(key) => {
                    store.remove(&key);
                    Told::Done
                }
                Ask::List(prefix, after, most) => {
                    let listed = |key: String| {
                        let item = store.get(&key).cloned();
                        item.map_or((key.clone(), 0, String::new()), |item| (key, item.until, item.about))
                    };
                    let all: Vec<String> = store.keys().filter(|k| k.starts_with(&prefix)).cloned().collect();
                    let behind: Vec<String> = all
                        .into_iter()
                        .filter(|k| after.as_ref().is_none_or(|a| k > a))
                        .collect();
                    let cursor = (behind.len() > most).then(|| behind[most - 1].clone());
                    Told::Keys(behind.into_iter().take(most).map(listed).collect(), cursor)
                }
            })
        })
    }
}

pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) fields: HeaderMap,
    pub(super) body: Body,
}

pub(super) fn get(url: &str) -> Request {
    Request {
        method: Method::GET,
        url: url.to_owned(),
        fields: HeaderMap::new(),
        body: Body::Empty,
    }
}

pub(super) fn limits() -> Limits {
    Limits {
        reuse: 1,
        memory: 64 << 20,
        table_elements: 20_000,
        cpu: Duration::from_secs(5),
        wall: Duration::from_secs(10),
        concurrency: 10,
        nested: 10,
        subrequests: 50,
        response_bytes: None,
        log_bytes: 16 << 10,
        log_rate: 1_000,
    }
}

/// The whole answer to a request, and how the run ended where it was no good end.
pub(super) async fn ask(
    script: &Arc<Script>,
    world: &Arc<World>,
    request: Request,
    limits: Limits,
) -> Result<(http::response::Parts, Bytes), Ended> {
    let meter = Meter::new(limits.cpu, Arc::new(Semaphore::new(1)));
    let (sender, receiver) = oneshot::channel();
    let bed = bed().unwrap();
    bed.engine.awake();
    let asked = Asked {
        method: world.due.map_or(request.method.as_str(), |_| ""),
        url: world.due.map_or(request.url.clone(), str::to_owned),
        fields: &request.fields,
        body: request.body,
    };
    let wall = limits.wall;
    let outside = Arc::new(View(world.clone()));
    let run = Metered::new(meter.clone(), async {
        let account = Account::alone(limits.memory);
        let fresh = script.instantiate(meter.clone(), &limits, account).await?;
        script
            .answer(fresh, asked, outside, meter.clone(), Responder(sender))
            .await
    });
    let run = tokio::time::timeout(wall, run);
    let read = async {
        let (parts, body) = receiver.await.ok()?.ok()?;
        Some((parts, body.collect().await.map(|body| body.to_bytes())))
    };
    let (ended, read) = tokio::join!(run, read);
    match ended {
        Err(_) => Err(Ended::Wall),
        Ok(Err(error)) => Err(Ended::of(&error)),
        Ok(Ok(_)) => match read {
            Some((parts, Ok(body))) => Ok((parts, body)),
            Some((_, Err(_))) => Err(Ended::BadResponse),
            None => Err(Ended::NoResponse),
        },
    }
}

/// Runs one request on a thread of its own; everything it needs is made for it.
pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// The text that a script answers a plain request with; what it threw, if it did.
pub(super) fn answer(script: &str) -> Result<String, String> {
    let script = load(script)?;
    let world = Arc::new(World::default());
    match run(ask(&script, &world, get("https://a.test/"), limits())) {
        Ok((_, body)) => Ok(String::from_utf8_lossy(&body).into_owned()),
        Err(ended) => Err(format!("{}: {}", ended.label(), world.log())),
    }
}

/// Runs statements in a handler, where `eq`, `same` and `throws` check, and `await` waits; fails
/// with what they say.
pub(super) fn check(statements: &str) {
    if bed().is_none() {
        return;
    }
    let script = format!(
        r#"
const eq = (a, b, what = "") => {{ if (!Object.is(a, b)) throw new Error(`${{what}} got ${{String(a)}}, not ${{String(b)}}`); }};
const same = (a, b, what = "") => eq(JSON.stringify(a), JSON.stringify(b), what);
const throws = (name, f) => {{ try {{ f(); }} catch (e) {{ return eq(e.name, name, e.message); }} throw new Error(`no ${{name}} from ${{f}}`); }};
const rejects = async (name, f) => {{ try {{ await f(); }} catch (e) {{ return eq(e.name, name, e.message); }} throw new Error(`no ${{name}} from ${{f}}`); }};
export default {{ async fetch(request, env, ctx) {{ {statements}
return new Response("fine"); }} }};"#
    );
    match answer(&script) {
        Ok(text) if text == "fine" => {}
        other => panic!("{other:?}"),
    }
}
