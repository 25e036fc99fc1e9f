//! What workers may import beside wasi:http: settings, stored values, log lines, by the standard's
//! interfaces (wit/).

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker, Resource, ResourceTableError};

use super::host::Host;
use super::keyvalue::{Refusal, Vault};
use super::log::Level;

mod generated {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "edge:worker/extras",
        imports: {
            "wasi:config/store": trappable,
            "wasi:logging/logging": trappable,
            default: async | trappable,
        },
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
        trappable_error_type: { "wasi:keyvalue/store.error" => super::StoreError },
    });
}

use generated::wasi::{config, keyvalue, logging};

/// The name of the one bucket that a zone has; the empty name means it, too.
const BUCKET: &str = "default";

/// A bucket that a guest opened.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated code names it as public")]
pub struct Bucket;

/// What a store's calls fail with.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated code names it as public")]
pub enum StoreError {
    NoSuchStore,
    Refused(Refusal),
    Trap(wasmtime::Error),
}

impl From<ResourceTableError> for StoreError {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Adds all of them.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    config::store::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    keyvalue::store::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    keyvalue::atomics::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    keyvalue::batch::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    logging::logging::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    Ok(())
}

impl config::store::Host for Host {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, config::store::Error>> {
        Ok(Ok(self.grant().setting(&key)))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, config::store::Error>> {
        Ok(Ok(self.grant().settings().into_iter().collect()))
    }
}

impl logging::logging::Host for Host {
    fn log(&mut self, level: logging::logging::Level, context: String, message: String) -> wasmtime::Result<()> {
        use logging::logging::Level as Wit;
        let level = match level {
            Wit::Trace | Wit::Debug => Level::Debug,
            Wit::Info => Level::Info,
            Wit::Warn => Level::Warn,
            Wit::Error | Wit::Critical => Level::Error,
        };
        if context.is_empty() {
            self.grant().say(level, &message);
        } else {
            self.grant().say(level, &format!("{context}: {message}"));
        }
        Ok(())
    }
}

impl Host {
    /// Makes a call of the zone's store where blocking is allowed.
    async fn stored<T: Send + 'static>(
        &mut self,
        bucket: &Resource<Bucket>,
        call: impl FnOnce(&Vault) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.table().get(bucket)?;
        let vault = self.vault()?;
        let permit = vault.calls.clone().acquire_owned().await;
        let called = tokio::task::spawn_blocking(move || {
            let made = call(&vault);
            drop(permit);
            made
        });
        Ok(called.await.map_err(|_| Refusal::Failed)??)
    }

    fn vault(&self) -> Result<Arc<Vault>, StoreError> {
        self.grant().tenant.vault.load_full().ok_or(StoreError::NoSuchStore)
    }
}

impl keyvalue::store::Host for Host {
    async fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, StoreError> {
        if !matches!(&*identifier, "" | BUCKET) {
            return Err(StoreError::NoSuchStore);
        }
        self.vault()?;
        Ok(self.table().push(Bucket)?)
    }

    fn convert_error(&mut self, error: StoreError) -> wasmtime::Result<keyvalue::store::Error> {
        match error {
            StoreError::NoSuchStore => Ok(keyvalue::store::Error::NoSuchStore),
            StoreError::Refused(refusal) => Ok(keyvalue::store::Error::Other(refusal.to_string())),
            StoreError::Trap(error) => Err(error),
        }
    }
}

impl keyvalue::store::HostBucket for Host {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.stored(&bucket, move |vault| vault.get(&[key])).await?;
        Ok(found.into_iter().next().flatten())
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Result<(), StoreError> {
        self.stored(&bucket, move |vault| vault.set(&[(key, value)])).await
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Result<(), StoreError> {
        self.stored(&bucket, move |vault| vault.delete(&[key])).await
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Result<bool, StoreError> {
        self.stored(&bucket, move |vault| vault.exists(&key)).await
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Result<keyvalue::store::KeyResponse, StoreError> {
        let (keys, cursor) = self
            .stored(&bucket, move |vault| vault.keys(cursor.unwrap_or(0)))
            .await?;
        Ok(keyvalue::store::KeyResponse { keys, cursor })
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table().delete(bucket)?;
        Ok(())
    }
}

impl keyvalue::atomics::Host for Host {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Result<u64, StoreError> {
        self.stored(&bucket, move |vault| vault.increment(&key, delta)).await
    }
}

impl keyvalue::batch::Host for Host {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, StoreError> {
        self.stored(&bucket, move |vault| {
            let values = vault.get(&keys)?;
            let pair = |(key, value): (String, Option<Vec<u8>>)| value.map(|value| (key, value));
            Ok(keys.into_iter().zip(values).map(pair).collect())
        })
        .await
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, entries: Vec<(String, Vec<u8>)>) -> Result<(), StoreError> {
        self.stored(&bucket, move |vault| vault.set(&entries)).await
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Result<(), StoreError> {
        self.stored(&bucket, move |vault| vault.delete(&keys)).await
    }
}
