//! The public web-platform-tests' cases for URLs, through `new URL` and its setters in a script.
//! The files come with the crate that parses.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::harness::{World, ask, bed, get, limits, load, run};

/// Where cargo unpacked the `url` crate. Its tests are not ours to copy.
fn cases(name: &str) -> Option<Vec<serde_json::Value>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let registries = std::fs::read_dir(home.join("registry/src")).ok()?;
    let lock = include_str!("../../../../../Cargo.lock");
    let version = lock.split("name = \"url\"\nversion = \"").nth(1)?.split('"').next()?;
    for registry in registries.flatten() {
        let path = registry.path().join(format!("url-{version}/tests/{name}"));
        if let Ok(text) = std::fs::read(path) {
            let parsed: serde_json::Value = serde_json::from_slice(&text).unwrap();
            return Some(match parsed {
                serde_json::Value::Array(all) => all,
                other => vec![other],
            });
        }
    }
    eprintln!("SKIPPED: the url crate's sources are not in cargo's home");
    None
}

fn told(script: &str, input: &serde_json::Value) -> serde_json::Value {
    let script = load(script).unwrap();
    let mut request = get("https://a.test/");
    request.method = Method::POST;
    request.body = Bytes::from(input.to_string()).into();
    let mut limits = limits();
    limits.cpu = std::time::Duration::from_secs(10);
    let world = Arc::new(World::default());
    let (_, body) = run(ask(&script, &world, request, limits)).unwrap_or_else(|e| panic!("{e}: {}", world.log()));
    serde_json::from_slice(&body).unwrap()
}

/// A URL would lead elsewhere than in a browser.
#[test]
fn parsing() {
    if bed().is_none() {
        return;
    }
    let Some(all) = cases("urltestdata.json") else { return };
    let all: Vec<_> = all.into_iter().filter(|case| case.is_object()).collect();
    let count = all.len();
    let failed = told(
        r#"export default { async fetch(request) { const failed = [], all = await request.json();
          const parts = ["href", "origin", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"];
          all.forEach((c, i) => { const base = c.base ?? undefined; let url = null; try { url = new URL(c.input, base); } catch (e) { if (!(e instanceof TypeError)) failed.push([i, String(e)]); }
            if (URL.canParse(c.input, base) !== (url !== null)) failed.push([i, "canParse"]);
            if (c.failure) { if (url) failed.push([i, c.input, base, "parsed", url.href]); return; }
            if (!url) return void failed.push([i, c.input, base, "not parsed"]);
            for (const p of parts) if (p in c && url[p] !== c[p]) failed.push([i, c.input, base, p, url[p], c[p]]);
            if (c.searchParams !== undefined && `${url.searchParams}` !== c.searchParams) failed.push([i, "searchParams"]); });
          return Response.json(failed); } };"#,
        &all.into(),
    );
    let failed = failed.as_array().unwrap();
    // The crate is not the standard's to the letter for `file:`, which a worker has no use for.
    let (file, other): (Vec<_>, Vec<_>) = failed.iter().partition(|one| one.to_string().contains("\"file:"));
    let wrong: std::collections::BTreeSet<_> = file.iter().map(|one| one[0].as_u64()).collect();
    println!(
        "urltestdata.json: {} of {count} cases right; the others are of file:",
        count - wrong.len()
    );
    assert!(count > 800 && wrong.len() < 40, "{}", wrong.len());
    assert!(other.is_empty(), "{other:#?}");
}

/// A part that is set would end up in another.
#[test]
fn setting() {
    if bed().is_none() {
        return;
    }
    let Some(all) = cases("setters_tests.json") else { return };
    let all = all.into_iter().next().unwrap();
    let told = told(
        r#"export default { async fetch(request) { const failed = [], all = await request.json(); let count = 0;
          for (const [part, cases] of Object.entries(all)) { if (part === "comment") continue;
            for (const c of cases) { count++; const url = new URL(c.href); try { url[part] = c.new_value; } catch (e) { failed.push([part, c.href, c.new_value, String(e)]); continue; }
              for (const [p, wanted] of Object.entries(c.expected)) if (url[p] !== wanted) failed.push([part, c.href, c.new_value, p, url[p], wanted]); } }
          return Response.json({ count, failed }); } };"#,
        &all,
    );
    let failed = told["failed"].as_array().unwrap();
    // As above, and for schemes without a host that are nobody's.
    let known = |one: &&serde_json::Value| {
        ["file:", "non-spec:", "foo:///"]
            .iter()
            .any(|scheme| one[1].as_str().is_some_and(|href| href.starts_with(scheme)))
    };
    let (odd, other): (Vec<_>, Vec<_>) = failed.iter().partition(known);
    let wrong: std::collections::BTreeSet<_> = odd.iter().map(|one| format!("{} {}", one[1], one[2])).collect();
    let count = told["count"].as_u64().unwrap();
    println!(
        "setters_tests.json: {} of {count} cases right",
        count - wrong.len() as u64
    );
    assert!(count > 200 && wrong.len() < 15, "{wrong:?}");
    assert!(other.is_empty(), "{other:#?}");
}
