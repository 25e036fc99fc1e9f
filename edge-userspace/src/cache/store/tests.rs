//! What the store gives is what was put in, after a restart too, or nothing.

use super::super::resource::tests::variant;
use super::*;
use crate::config::Config;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

impl Room {
    /// Room for `most` bytes in all.
    pub(in super::super) fn of(most: u64) -> Self {
        Self {
            held: 0,
            filling: Arc::default(),
            most,
            charge: ledger().common(Kind::Fills),
        }
    }
}

fn ledger() -> Ledger {
    Ledger::new(u64::MAX, u64::MAX)
}

fn open(directory: &Path, disk: &str) -> Arc<Store> {
    let text = format!(
        "[server]\nhttp = [\"127.0.0.1:80\"]\n[cache]\ndirectory = \"cache\"\ndisk = \"{disk}\"\nmemory = \"8MiB\"\n\
         [[zone]]\nname = \"z\"\nhosts = [\"z.example\"]\n[zone.cache]\nobject_bytes = \"1MiB\"\n\
         [zone.origin]\nservers = [{{ address = \"http://127.0.0.1:1\" }}]\n"
    );
    let config = Config::parse(&directory.join("edge.toml"), &text).unwrap();
    Store::open(&config.cache, 1 << 20, &ledger(), &mut Registry::default()).unwrap()
}

const KEY: &str = "z https://z.example/";

fn of(id: u128, body: &Bytes) -> Variant {
    let mut variant = variant(&[], &[("etag", "\"a\"")], id);
    variant.length = body.len() as u64;
    variant
}

#[tokio::test]
async fn memory_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), "0B");
    let body = Bytes::from_static(b"content");
    store.put(KEY, of(1, &body), body.clone()).await;
    let found = store.find(KEY).await.unwrap();
    assert_eq!(store.body(&found.variants[0]).await.unwrap(), body);
    store
        .purge(Effect::Void, Ban::Url(KEY.to_owned()), UnixTime::from_secs(100))
        .unwrap();
    assert!(store.find(KEY).await.is_none());
    assert!(!directory.path().join("cache").exists(), "nothing is written");
}

/// An older response that comes late must not take a newer one's place.
#[tokio::test]
async fn newer_stays() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), "0B");
    let body = Bytes::from_static(b"x");
    let mut newer = of(2, &body);
    newer.asked = UnixTime::from_secs(200);
    store.put(KEY, newer, body.clone()).await;
    store.put(KEY, of(1, &body), body.clone()).await;
    assert_eq!(store.find(KEY).await.unwrap().variants[0].body, BodyId(2));
}

/// A restart keeps what was stored and what was purged; a byte that changed on disk is never
/// served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk() {
    let directory = tempfile::tempdir().unwrap();
    let bodies: Vec<Bytes> = (0..8_u8).map(|n| vec![n + 1; 50_000].into()).collect();
    let key = |n: usize| format!("{KEY}{n}");
    let store = open(directory.path(), "256MiB");
    for (n, body) in bodies.iter().enumerate() {
        store.put(&key(n), of(n as u128 + 1, body), body.clone()).await;
    }
    store
        .purge(Effect::Void, Ban::Url(key(0)), UnixTime::from_secs(100))
        .unwrap();
    store
        .purge(Effect::Void, Ban::Prefix(key(1)), UnixTime::from_secs(100))
        .unwrap();
    // Closing waits for what is being written.
    store.records.close().await.unwrap();
    drop(store);

    let store = open(directory.path(), "256MiB");
    assert!(store.find(&key(0)).await.is_none() && store.find(&key(1)).await.is_none());
    let mut kept = 0;
    for (n, body) in bodies.iter().enumerate().skip(2) {
        if let Some(found) = store.find(&key(n)).await {
            assert_eq!(&store.body(&found.variants[0]).await.unwrap(), body);
            kept += 1;
        }
    }
    assert!(kept > 0, "nothing outlasted the restart");
    store.records.close().await.unwrap();
    drop(store);

    // A byte of each body is turned over.
    let mut turned = 0;
    for file in std::fs::read_dir(directory.path().join("cache/records")).unwrap() {
        let file = file.unwrap();
        // Files that nothing was written to have no blocks.
        if file.metadata().unwrap().blocks() < 64 {
            continue;
        }
        let path = file.path();
        let mut bytes = std::fs::read(&path).unwrap();
        let found: Vec<usize> = (1..=8_u8)
            .filter_map(|n| memchr::memmem::find(&bytes, &[n; 1_000]))
            .collect();
        for at in &found {
            bytes[at + 500] ^= 0x40;
        }
        if !found.is_empty() {
            std::fs::write(&path, bytes).unwrap();
        }
        turned += found.len();
    }
    assert!(turned > 0);
    let store = open(directory.path(), "256MiB");
    for (n, body) in bodies.iter().enumerate() {
        if let Some(found) = store.find(&key(n)).await
            && let Some(read) = store.body(&found.variants[0]).await
        {
            assert_eq!(&read, body, "a changed byte was served");
        }
    }
}
