//! Keys and clients that come and go, the drain, and what the running process is closed to.

use std::fs;

use edge::keyserver::wire::{Answer, ErrorCode, KeyId, Request, Scheme, Transcript};
use rcgen::PKCS_ECDSA_P256_SHA256;
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;

use super::bed::{ALL, Bed, Client, block_on, key, rsa};

fn sign(scheme: Scheme) -> Request {
    Request::SignTls13 {
        scheme,
        transcript: Transcript::Sha256([0; 32]),
    }
}

async fn signs(client: &mut Client, key: KeyId) -> bool {
    match client.ask(key, sign(Scheme::EcdsaP256Sha256)).await {
        Answer::Signature(_) => true,
        Answer::Error(ErrorCode::UnknownKey) => false,
        other => panic!("{other:?}"),
    }
}

/// Rotating a key costs no connection: the new one works when its file is there, the old one ends
/// when it is gone.
#[test]
fn keys_are_rotated_while_running() {
    let (old, old_id) = key(&PKCS_ECDSA_P256_SHA256);
    let (new, new_id) = key(&PKCS_ECDSA_P256_SHA256);
    let bed = Bed::start(&[("shop.pem", &old)], ALL);
    assert!(bed.admin("/readyz").starts_with("HTTP/1.1 200"));
    block_on(async {
        let mut client = bed.connect().await;
        assert!(signs(&mut client, old_id).await && !signs(&mut client, new_id).await);
        bed.write_key("shop-2.pem", &new);
        bed.wait("the new key", || bed.metric("edge_keyserver_keys") == 2.0);
        assert!(signs(&mut client, old_id).await && signs(&mut client, new_id).await);
        // Something went wrong with it: told, counted, and the good key stays.
        bed.write_key("shop-2.pem", "no key at all");
        bed.wait("the error", || bed.metric("edge_keyserver_key_errors") == 1.0);
        assert!(signs(&mut client, new_id).await);
        assert!(bed.log().contains("it holds no private key"));
        bed.write_key("shop-2.pem", &new);
        fs::remove_file(bed.path("keys/shop.pem")).unwrap();
        bed.wait("the old key's end", || bed.metric("edge_keyserver_keys") == 1.0);
        assert!(!signs(&mut client, old_id).await && signs(&mut client, new_id).await);
        fs::remove_file(bed.path("keys/shop-2.pem")).unwrap();
        bed.wait("no key", || bed.metric("edge_keyserver_keys") == 0.0);
        assert!(bed.admin("/readyz").contains("no keys"));
    });
}

/// A client taken off the list, or revoked, is out at the reload, in the middle of its connection;
/// a mistake in the file throws nobody out.
#[test]
fn reload() {
    let (pem, id) = key(&PKCS_ECDSA_P256_SHA256);
    let second = ALL.replace("edge-1", "edge-2");
    let bed = Bed::start(&[("shop.pem", &pem)], &format!("{ALL}{second}"));
    block_on(async {
        let mut first = bed.connect().await;
        let mut other = bed.connect_with(bed.tls("edge-2.test", 3)).await.unwrap();
        let mut revoked = bed.connect_with(bed.tls("edge-2.test", 7)).await.unwrap();
        assert!(signs(&mut first, id).await && signs(&mut other, id).await && signs(&mut revoked, id).await);

        bed.configure("[[client]]\nname = \"edge-1\"\ndns = \"edge-1.test\"\n[[client.grant]]\nkeys = [\"*\"]\nops = [\"sing\"]\n");
        bed.signal(Signal::HUP);
        bed.wait("the mistake", || {
            bed.metric("edge_keyserver_reload_errors_total") == 1.0
        });
        // The log is written by a thread of its own.
        bed.wait("the mistake in the log", || {
            bed.log().contains("client.grant.ops: \\\"sing\\\" is no op")
        });
        assert!(signs(&mut first, id).await && signs(&mut other, id).await);

        bed.configure(&format!("{ALL}{second}"));
        fs::write(bed.path("revoked.pem"), bed.authority.revoke(7)).unwrap();
        bed.signal(Signal::HUP);
        let reply = revoked.reply().await.unwrap();
        assert_eq!((reply.id, reply.answer), (0, Answer::Error(ErrorCode::NotAllowed)));
        assert!(revoked.reply().await.is_none());
        assert!(signs(&mut first, id).await && signs(&mut other, id).await);

        bed.configure(ALL);
        bed.signal(Signal::HUP);
        assert_eq!(
            other.reply().await.unwrap().answer,
            Answer::Error(ErrorCode::NotAllowed)
        );
        assert!(other.reply().await.is_none());
        assert!(signs(&mut first, id).await);
    });
    // Counted when the connection's task has ended, a moment after its client has seen the end.
    let revoked = || bed.metric("edge_keyserver_connections_closed_total{reason=\"revoked\"}");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while revoked() < 2.0 && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(revoked() == 2.0);
}

/// A client that is revoked would stay until somebody thinks of a reload; a job that fetches lists
/// and has stopped would never be noticed.
#[test]
fn revocation_lists_are_watched_and_grow_old() {
    let (pem, id) = key(&PKCS_ECDSA_P256_SHA256);
    let bed = Bed::start(&[("shop.pem", &pem)], ALL);
    let due = || bed.metric("edge_keyserver_revocation_list_due_timestamp_seconds");
    assert!(due() > 4e9, "2100");
    block_on(async {
        let mut first = bed.connect().await;
        let mut revoked = bed.connect_with(bed.tls("edge-1.test", 7)).await.unwrap();
        assert!(signs(&mut first, id).await && signs(&mut revoked, id).await);
        bed.write("revoked.pem", &bed.authority.revoke_until(7, 2021));
        let reply = revoked.reply().await.unwrap();
        assert_eq!((reply.id, reply.answer), (0, Answer::Error(ErrorCode::NotAllowed)));
        assert!(revoked.reply().await.is_none());
        bed.wait("the warning", || {
            bed.log()
                .contains("has a revocation list whose next update is due; fetch the present one")
        });
        assert!(due() > 1e9 && due() < 2e9);
        // It counts all the same, unless the operator has it otherwise.
        assert!(signs(&mut first, id).await);
        assert!(signs(&mut bed.connect().await, id).await);
        let file = bed.path("keyserver.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, text.replace("drain =", "revoked_must_be_current = true\ndrain =")).unwrap();
        bed.signal(Signal::HUP);
        assert_eq!(
            first.reply().await.unwrap().answer,
            Answer::Error(ErrorCode::NotAllowed)
        );
        bed.write("revoked.pem", &bed.authority.revoke(7));
        bed.wait("the new list", || due() > 4e9);
        assert!(signs(&mut bed.connect().await, id).await);
    });
}

/// An edge would be served for years after its certificate has ended; and would fail without a
/// word before.
#[test]
fn a_connection_ends_with_its_certificate() {
    let (pem, id) = key(&PKCS_ECDSA_P256_SHA256);
    let bed = Bed::start(&[("shop.pem", &pem)], ALL);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let until = now + 4;
    block_on(async {
        let short = bed.tls_with(Some(bed.authority.leaf_until("edge-1.test", 8, until)));
        let mut short = bed.connect_with(short).await.unwrap();
        // Answered, or the server may be through with the other's handshake first.
        assert!(signs(&mut short, id).await);
        let mut long = bed.connect().await;
        assert!(signs(&mut long, id).await);
        bed.wait("the warning", || {
            bed.log()
                .contains("the certificate of a client expires in 0 days; renew it")
        });
        let reply = short.reply().await.unwrap();
        assert_eq!((reply.id, reply.answer), (0, Answer::Error(ErrorCode::NotAllowed)));
        assert!(short.reply().await.is_none());
        assert!(signs(&mut long, id).await);
    });
    bed.wait("the count", || {
        bed.metric("edge_keyserver_connections_closed_total{reason=\"expired\"}") == 1.0
    });
    let told = bed.metric("edge_keyserver_client_certificate_expires_timestamp_seconds{client=\"edge-1\"}");
    assert!(told >= 4e9, "of the one that came last");
}

/// SIGTERM loses nothing that was asked before: everything is answered, edges are told to go
/// elsewhere, then the process ends.
#[test]
fn drain() {
    let mut bed = Bed::start(&[("rsa.pem", &rsa())], ALL);
    block_on(async {
        let mut client = bed.connect().await;
        let Answer::Keys { keys, .. } = client.ask(KeyId::NONE, Request::List).await else {
            panic!()
        };
        let mut out = Vec::new();
        for _ in 0..400 {
            client.push(&mut out, keys[0].id(), sign(Scheme::RsaPssSha256));
        }
        client.io.write_all(&out).await.unwrap();
        client.io.flush().await.unwrap();
        bed.signal(Signal::TERM);
        let (mut answers, mut notices) = (0, 0);
        while let Some(reply) = client.reply().await {
            match reply.answer {
                Answer::Signature(_) => answers += 1,
                Answer::Error(ErrorCode::Draining) if reply.id == 0 => notices += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((answers, notices), (400, 1));
        assert!(
            bed.connect_with(bed.tls("edge-1.test", 2)).await.is_err(),
            "no newcomers"
        );
    });
    assert!(bed.ended().success());
}

/// The process is closed: no core, no debugger, no privileges, no system call beyond what serving
/// needs.
#[test]
fn sealed() {
    let (pem, _) = key(&PKCS_ECDSA_P256_SHA256);
    let bed = Bed::start(&[("shop.pem", &pem)], ALL);
    let proc = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", bed.child.id())).unwrap();
    let status = proc("status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim_start_matches(':').trim().to_owned()
    };
    assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"));
    let limits = proc("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    if rustix::process::geteuid().is_root() {
        assert_eq!(field("Uid"), "65534\t65534\t65534\t65534");
        assert_eq!(field("Gid"), "65534\t65534\t65534\t65534");
        assert_eq!(field("Groups"), "");
        assert_eq!(field("CapEff"), "0000000000000000");
        // Not dumpable: what is in /proc belongs to root, not to the user.
        let owner =
            std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{}/mem", bed.child.id())).unwrap());
        assert_eq!(owner, 0);
        // Or it says why not: root of a container may lack the right.
        assert!(
            field("VmLck") != "0 kB" || bed.log().contains("memory is not locked"),
            "{}",
            bed.log()
        );
    } else {
        eprintln!("SKIPPED in part: dropping privileges needs root");
    }
    // Every thread is under the filter.
    for task in fs::read_dir(format!("/proc/{}/task", bed.child.id())).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2"), "{status}");
    }
}

/// What the server refuses to start with, it says with its mend.
#[test]
fn check_and_list() {
    let (pem, id) = key(&PKCS_ECDSA_P256_SHA256);
    let bed = Bed::start(&[("shop.pem", &pem)], ALL);
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_edge-keyserver"))
            .args(arguments)
            .arg("--config")
            .arg(bed.path("keyserver.toml"))
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (good, out, _) = run(&["check"]);
    assert!(good && out.contains("1 clients, 1 keys, sound"), "{out}");
    let (good, out, _) = run(&["list"]);
    assert!(good && out == format!("shop\tecdsa-p256\t{id}\n"), "{out}");
    bed.write_key("bad.pem", "nothing");
    let (good, _, error) = run(&["check"]);
    assert!(!good && error.contains("bad.pem: it holds no private key"), "{error}");
    fs::write(bed.path("server.key"), &pem).unwrap();
    let (good, _, error) = run(&["check"]);
    assert!(!good && error.contains("keyserver.toml:4: server.key:"), "{error}");
    assert!(error.contains("belong together"), "{error}");
    bed.configure("");
    let (good, _, error) = run(&["check"]);
    assert!(!good && error.contains("no client: nobody could ask"), "{error}");
}
