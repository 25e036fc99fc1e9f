//! A request's grant, as a script sees it: where the room's kinds of workers meet this one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bytes::Bytes;

use super::code::Code;
use super::outside::{Ask, Doing, Environment, Item, Level, Outside, Told};
use super::script::{Asked, Fresh, Script};
use crate::config::isolate::Worker;
use crate::http::body::Body;
use crate::isolate::budget::Meter;
use crate::isolate::error::Ended;
use crate::isolate::grant::{Grant, Refused};
use crate::isolate::keyvalue::{Refusal, Stored, Vault};
use crate::isolate::log;
use crate::isolate::program::{Call, Kind, Leftover, Program, Responder, Run};
use crate::isolate::ready::{self, Place};

/// The name of a zone's store in `env`.
const STORE: &str = "KV";

impl Program for Script {
    fn run(self: Arc<Self>, call: Call, responder: Responder) -> Run {
        Box::pin(async move {
            let Call { head, url, body, grant } = call;
            let worker = grant.exchange.zone.worker.clone().ok_or(Ended::Internal)?;
            let asked = Asked {
                method: &head.method,
                url: url.into(),
                fields: &head.headers,
                body,
            };
            let ready = self.ready.take(&worker, grant.exchange.started);
            let (outside, meter) = (grant.clone(), grant.meter.clone());
            let used = self
                .answer(ready, asked, outside, meter.clone(), &worker.limits, responder)
                .await?;
            let left: Box<dyn Leftover> = Box::new(Finished {
                script: self,
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
    worker: Arc<Worker>,
    meter: Arc<Meter>,
    used: Fresh,
}

impl Leftover for Finished {
    fn settle(self: Box<Self>, place: Place) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Self {
                script,
                worker,
                meter,
                used,
            } = *self;
            drop(used);
            if script.ready.wants_new()
                // One that cannot be made is the next request's failure, if there is one.
                && let Ok(fresh) = script.instantiate(meter, &worker.limits).await
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
        let values = self.settings().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let store = self.tenant.vault.load().is_some();
        Environment {
            values: values.collect(),
            stores: store.then(|| STORE.to_owned()).into_iter().collect(),
        }
    }

    fn fetch(self: Arc<Self>, request: http::Request<Body>) -> Doing<http::Response<Body>> {
        Box::pin(async move {
            self.send(request).await.map_err(|refused| match refused {
                Refused::Denied => Code::Denied,
                Refused::TooMany | Refused::Loop => Code::TooMany,
                Refused::Malformed => Code::Malformed,
                Refused::Timeout => Code::Timeout,
                Refused::Protocol => Code::Broken,
                Refused::Unreachable => Code::Unreachable,
                Refused::Overload => Code::Busy,
            })
        })
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
