//! A request's grant, as a script sees it: where the room's kinds of workers meet this one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use tokio::io::DuplexStream;

use super::code::Code;
use super::outside::{Ask, Doing, Environment, Item, Level, Outside, Switched, Told, Wire};
use super::script::{Asked, Fresh, Script};
use crate::config::isolate::Worker;
use crate::http::body::Body;
use crate::http::kept::Deed;
use crate::http::websocket::{self, Inside};
use crate::isolate::budget::Meter;
use crate::isolate::error::Ended;
use crate::isolate::grant::{Grant, Refused};
use crate::isolate::keyvalue::{Refusal, Stored, Vault};
use crate::isolate::kind::Kind;
use crate::isolate::log;
use crate::isolate::program::{Call, Leftover, Program, Responder, Run};
use crate::isolate::ready::{self, Place};
use crate::isolate::tenant::Tenant;

/// How long a connection takes to switch after its response.
const SWITCH: Duration = Duration::from_secs(10);
/// The name of a zone's store in `env`.
const STORE: &str = "KV";
/// And that of its worker's files.
const ASSETS: &str = "ASSETS";

impl Program for Script {
    fn run(self: Arc<Self>, call: Call, responder: Responder) -> Run {
        Box::pin(async move {
            let Call {
                head,
                url,
                body,
                grant,
                due,
            } = call;
            let worker = grant.exchange.zone.worker.clone().ok_or(Ended::Internal)?;
            let asked = Asked {
                method: if due.is_some() { "" } else { head.method.as_str() },
                // What is due, in place of a URL.
                url: due.map_or_else(|| url.into(), |due| format!("{}\n{}", due.at, due.cron)),
                fields: &head.headers,
                body,
            };
            let (tenant, meter) = (grant.tenant.clone(), grant.meter.clone());
            let fresh = match self.ready.take(&worker, grant.exchange.started) {
                Some(waited) => Self::renew(waited, meter.clone()),
                None => {
                    let account = tenant.account(&worker.limits);
                    self.instantiate(meter.clone(), &worker.limits, account).await?
                }
            };
            let used = self.answer(fresh, asked, grant, meter.clone(), responder).await?;
            let left: Box<dyn Leftover> = Box::new(Finished {
                script: self,
                tenant,
                worker,
                meter,
                used,
            });
            Ok(left)
        })
    }

    fn kind(&self) -> Kind {
        Kind::Script
    }

    fn sweep(&self, now: Instant) {
        self.ready.sweep(now);
    }
}

/// A run's, at its end.
struct Finished {
    script: Arc<Script>,
    tenant: Arc<Tenant>,
    worker: Arc<Worker>,
    meter: Arc<Meter>,
    used: Fresh,
}

impl Leftover for Finished {
    fn settle(self: Box<Self>, place: Place) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Self {
                script,
                tenant,
                worker,
                meter,
                used,
            } = *self;
            drop(used);
            if script.ready.wants_new()
                // One that cannot be made is the next request's failure, if there is one.
                && let Ok(fresh) = script.instantiate(meter, &worker.limits, tenant.account(&worker.limits)).await
            {
                let until = Instant::now() + ready::NEW_LIFE;
                script.ready.put(fresh, worker, until, place);
            }
        })
    }
}

impl Outside for Grant {
    fn say(&self, level: Level, text: &str) {
        let level = match level {
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error => log::Level::Error,
            Level::Reason => return self.reason(text),
        };
        Self::say(self, level, text);
    }

    fn keep(&self, kept: bool) {
        self.tie.keep(kept);
    }

    fn pass(&self) {
        self.passes.store(true, Relaxed);
    }

    fn environment(&self) -> Environment {
        let store = self.tenant.vault.load().is_some();
        Environment {
            values: self.settings(),
            stores: store.then(|| STORE.to_owned()).into_iter().collect(),
            assets: self.exchange.zone.assets.as_ref().map(|_| ASSETS.to_owned()),
        }
    }

    fn fetch(self: Arc<Self>, mut request: http::Request<Body>) -> Doing<http::Response<Body>> {
        Box::pin(async move {
            let inside = self.socket(&mut request);
            let sent = self.send(request).await.map(|mut response| {
                if let Some(wire) = inside.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
                    response.extensions_mut().insert(Switched::new(Box::new(wire)));
                }
                response
            });
            sent.map_err(Code::from)
        })
    }

    fn asset(self: Arc<Self>, request: http::Request<Body>) -> Doing<http::Response<Body>> {
        Box::pin(async move { Self::asset(&self, request).await.map_err(Code::from) })
    }

    fn kept(
        self: Arc<Self>,
        cache: String,
        deed: Deed,
        request: http::Request<Body>,
    ) -> Doing<Option<http::Response<Body>>> {
        Box::pin(async move { Self::kept(&self, &cache, deed, request).await.map_err(Code::from) })
    }

    fn accept(&self, head: &mut http::response::Parts) -> Option<Doing<Box<dyn Wire>>> {
        let on = self.upgrade.accept(head)?;
        Some(Box::pin(async move {
            let switched = tokio::time::timeout(SWITCH, on.switched()).await;
            let switched = switched.map_err(|_| Code::Timeout)?.ok_or(Code::Broken)?;
            let wire: Box<dyn Wire> = Box::new(switched);
            Ok(wire)
        }))
    }

    fn moved(&self) {
        if let Some(worker) = &self.exchange.zone.worker {
            self.tie.moved(worker.limits.wall);
        }
        self.meter.renew();
    }

    fn left(self: Arc<Self>) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(async move { self.tie.left().await })
    }

    fn facts(&self) -> Vec<u8> {
        let peer = &self.exchange.peer;
        let handshake = peer.handshake.as_ref();
        let facts = Facts {
            address: peer.client.ip().to_canonical().to_string(),
            port: peer.client.port(),
            id: self.exchange.id.to_string(),
            zone: &self.exchange.zone.name,
            tls: handshake.map(|handshake| Secured {
                version: handshake.version,
                server_name: handshake.server_name.as_deref(),
                resumed: handshake.resumed,
                certificate: handshake.certificate.as_ref().map(|identity| Shown {
                    subject: &identity.subject,
                    fingerprint: &identity.fingerprint,
                }),
            }),
        };
        serde_json::to_vec(&facts).unwrap_or_default()
    }

    fn store(self: Arc<Self>, name: &str, ask: Ask) -> Doing<Told> {
        let vault = (name == STORE).then(|| self.tenant.vault.load_full()).flatten();
        Box::pin(async move {
            let vault = vault.ok_or(Code::Absent)?;
            let _turn = vault.calls.clone().acquire_owned().await.map_err(|_| Code::Store)?;
            let asked = tokio::task::spawn_blocking(move || answer(&vault, ask)).await;
            asked.map_err(|_| Code::Store)?
        })
    }
}

/// What becomes `request.edge`.
#[derive(serde::Serialize)]
struct Facts<'a> {
    address: String,
    port: u16,
    id: String,
    zone: &'a str,
    tls: Option<Secured<'a>>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Secured<'a> {
    version: &'a str,
    server_name: Option<&'a str>,
    resumed: bool,
    certificate: Option<Shown<'a>>,
}

#[derive(serde::Serialize)]
struct Shown<'a> {
    subject: &'a str,
    fingerprint: &'a str,
}

impl Grant {
    /// Has the script be the other side of the WebSocket that `request` asks for: unless it is its
    /// client's, whose tunnel passes it by.
    fn socket(&self, request: &mut http::Request<Body>) -> Option<DuplexStream> {
        let asks = request.headers().get(header::UPGRADE);
        if request.method() != Method::GET || !asks.is_some_and(|asked| websocket::is_asked(asked.as_bytes())) {
            return None;
        }
        let (parts, body) = std::mem::take(request).into_parts();
        let repeated = self.upgrade.repeated_by(&parts);
        *request = http::Request::from_parts(parts, body);
        if repeated {
            return None;
        }
        for own in [
            header::UPGRADE,
            header::SEC_WEBSOCKET_KEY,
            header::SEC_WEBSOCKET_VERSION,
        ] {
            request.headers_mut().remove(own);
        }
        let (inside, wire) = Inside::pair();
        request.extensions_mut().insert(inside);
        Some(wire)
    }
}

impl From<Refused> for Code {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Denied => Self::Denied,
            Refused::TooMany | Refused::Loop => Self::TooMany,
            Refused::Malformed => Self::Malformed,
            Refused::Timeout => Self::Timeout,
            Refused::Protocol => Self::Broken,
            Refused::Unreachable => Self::Unreachable,
            Refused::Overload => Self::Busy,
        }
    }
}

/// Blocks.
fn answer(vault: &Vault, ask: Ask) -> Result<Told, Code> {
    let told = match ask {
        Ask::Get(key) => {
            let found = vault.items(&[key]).map_err(code)?.pop().flatten();
            Told::Value(found.map(|stored| Item {
                value: Bytes::from(stored.value),
                until: stored.until,
                about: stored.about,
            }))
        }
        Ask::Put(key, item) => {
            let stored = Stored {
                value: item.value.to_vec(),
                until: item.until,
                about: item.about,
            };
            vault.store(&[(key, stored)]).map_err(code)?;
            Told::Done
        }
        Ask::Delete(key) => {
            vault.delete(&[key]).map_err(code)?;
            Told::Done
        }
        Ask::List(prefix, cursor, most) => {
            let (keys, cursor) = vault.list(&prefix, cursor.as_deref(), most).map_err(code)?;
            Told::Keys(keys, cursor)
        }
    };
    Ok(told)
}

fn code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::Bytes => Code::Bytes,
        Refusal::Keys => Code::Keys,
        Refusal::Value => Code::Value,
        Refusal::Key => Code::Key,
        Refusal::Batch => Code::TooLarge,
        Refusal::Number => Code::Malformed,
        Refusal::Busy | Refusal::Failed => Code::Store,
    }
}
