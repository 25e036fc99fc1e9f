//! `edge import wrangler`: the zone of a configuration that a worker of Cloudflare's becomes, from
//! its wrangler.toml. What has no match here is said, in comments beside the rest, and never left
//! out in silence.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use toml::{Table, Value};

use super::dev::quoted;
use super::print;

/// Prints the zone that a wrangler.toml becomes.
///
/// # Errors
/// It cannot be read, or is none.
pub(super) fn import(file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    print(&zone(&text).with_context(|| file.display().to_string())?);
    Ok(())
}

/// Keys that mean nothing here, or what edge does anyway.
const NOTHING: &[&str] = &[
    "$schema",
    "account_id",
    "compatibility_date",
    "compatibility_flags",
    "dev",
    "env",
    "keep_vars",
    "logpush",
    "minify",
    "no_bundle",
    "observability",
    "placement",
    "preview_urls",
    "rules",
    "send_metrics",
    "upload_source_maps",
    "usage_model",
    "workers_dev",
];

fn zone(text: &str) -> anyhow::Result<String> {
    let mut file: Table = text.parse().context("not TOML")?;
    let Some(Value::String(name)) = file.remove("name") else {
        bail!("there is no `name`");
    };
    let main = file.remove("main");
    let mut missing = Vec::new();
    let hosts = hosts(&mut file, &mut missing);
    let mut zone = format!("[[zone]]\nname = {}\nhosts = [{}]\n", quoted(&name), hosts.join(", "));
    zone += "certificate = \"CERTIFICATE.pem\"\nkey = \"KEY.pem\"\n[zone.worker]\n";
    match main {
        // Writing to a String cannot fail.
        Some(Value::String(main)) if is_plain(&main) => drop(writeln!(zone, "file = {}", quoted(&main))),
        Some(main) => drop(writeln!(
            zone,
            "# {main} wants a bundler: esbuild --bundle --format=esm --sourcemap=inline --outfile=worker.js\nfile = \"worker.js\""
        )),
        None => missing.push("main: there is no script".to_owned()),
    }
    if let Some(Value::Table(mut triggers)) = file.remove("triggers")
        && let Some(Value::Array(crons)) = triggers.remove("crons")
    {
        let crons: Vec<String> = crons.iter().filter_map(Value::as_str).map(quoted).collect();
        let _ = writeln!(zone, "schedule = [{}]", crons.join(", "));
    }
    if let Some(Value::Table(limits)) = file.remove("limits")
        && let Some(cpu) = limits.get("cpu_ms").and_then(Value::as_integer)
    {
        let _ = writeln!(zone, "cpu = \"{}ms\"", cpu.clamp(2, 300_000));
    }
    if let Some(Value::Table(mut assets)) = file.remove("assets") {
        files(&mut assets, &mut zone, &mut missing);
    }
    if let Some(Value::Table(vars)) = file.remove("vars") {
        zone += "[zone.worker.settings]\n";
        for (name, value) in &vars {
            let text = match value {
                Value::String(text) => text.clone(),
                other => {
                    missing.push(format!("vars.{name}: not text; the worker gets it as {other}"));
                    other.to_string()
                }
            };
            let _ = writeln!(zone, "{} = {}", quoted(name), quoted(&text));
        }
    }
    if let Some(Value::Array(stores)) = file.remove("kv_namespaces") {
        zone += "[zone.worker.keyvalue]\n";
        for store in &stores {
            let binding = store.get("binding").and_then(Value::as_str).unwrap_or_default();
            if binding != "KV" {
                missing.push(format!("kv_namespaces: the zone's store is env.KV, not env.{binding}"));
            }
        }
        if stores.len() > 1 {
            missing.push("kv_namespaces: a zone has one store; tell keys apart by a prefix".to_owned());
        }
    }
    for name in NOTHING {
        file.remove(*name);
    }
    missing.extend(file.keys().map(|key| format!("{key}: there is nothing like it here")));
    for what in missing {
        let _ = writeln!(zone, "# {}", what.replace('\n', " "));
    }
    Ok(zone)
}

/// The worker's files.
fn files(assets: &mut Table, zone: &mut String, missing: &mut Vec<String>) {
    let Some(Value::String(directory)) = assets.remove("directory") else {
        missing.push("assets: there is no directory".to_owned());
        return;
    };
    let _ = writeln!(zone, "assets = {}", quoted(&directory));
    match assets.remove("run_worker_first") {
        Some(Value::Boolean(true)) => drop(writeln!(zone, "worker_first = [\"/\"]")),
        Some(Value::Array(paths)) => {
            let (not, paths): (Vec<&str>, Vec<&str>) = paths
                .iter()
                .filter_map(Value::as_str)
                .partition(|path| path.starts_with('!'));
            let paths: Vec<String> = paths.into_iter().map(quoted).collect();
            let _ = writeln!(zone, "worker_first = [{}]", paths.join(", "));
            missing.extend(
                not.iter()
                    .map(|path| format!("assets.run_worker_first: {path} cannot be taken out")),
            );
        }
        _ => {}
    }
    match assets.remove("binding") {
        Some(Value::String(binding)) if binding != "ASSETS" => {
            missing.push(format!("assets: the files are env.ASSETS, not env.{binding}"));
        }
        _ => {}
    }
    missing.extend(
        assets
            .keys()
            .map(|key| format!("assets.{key}: there is nothing like it here")),
    );
}

/// The hosts of routes and custom domains. Paths of routes are said, for a zone has routes of its
/// own.
fn hosts(file: &mut Table, missing: &mut Vec<String>) -> Vec<String> {
    let mut patterns = Vec::new();
    for value in [file.remove("route"), file.remove("routes")].into_iter().flatten() {
        match value {
            Value::Array(all) => patterns.extend(all),
            one => patterns.push(one),
        }
    }
    let mut hosts: Vec<String> = Vec::new();
    for pattern in &patterns {
        let pattern = pattern
            .as_str()
            .or_else(|| pattern.get("pattern").and_then(Value::as_str));
        let pattern = pattern.unwrap_or_default();
        let rest = pattern.split_once("://").map_or(pattern, |(_, rest)| rest);
        let (host, path) = rest.split_once('/').unwrap_or((rest, "*"));
        if !path.is_empty() && path != "*" {
            missing.push(format!(
                "routes: of {host} the worker gets /{path} alone: write [[zone.route]] path = \"/{path}\" to = \"worker\""
            ));
        }
        let host = quoted(host);
        if host.len() > 2 && !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    if hosts.is_empty() {
        missing.push("routes: there are none; write the zone's hosts".to_owned());
    }
    hosts
}

/// Whether a script is deployed as it is.
fn is_plain(main: &str) -> bool {
    let extension = Path::new(main).extension();
    extension.is_some_and(|extension| extension == "js" || extension == "mjs")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who moves a worker here would get a configuration that is refused, or lose a part of it
    /// without a word.
    #[test]
    fn a_worker_moves_with_what_it_has() {
        let text = "name = \"shop\"\nmain = \"worker.js\"\ncompatibility_date = \"2026-01-01\"\nroutes = [\"shop.example/*\", { pattern = \
                    \"api.shop.example/v1/*\", zone_name = \"shop.example\" }]\n[vars]\nPLAN = \"go\\\"ld\"\nLEVEL = 3\n[triggers]\ncrons = \
                    [\"0 3 * * *\"]\n[limits]\ncpu_ms = 100\n[assets]\ndirectory = \"./\"\nrun_worker_first = [\"/api/*\", \"!/api/docs/*\"]\nnot_found_handling = \"404-page\"\n[[kv_namespaces]]\nbinding = \"KV\"\nid = \"1\"\n[[r2_buckets]]\nbinding = \"FILES\"\n";
        let zone = zone(text).unwrap();
        for said in ["# r2_buckets:", "/v1/*", "!/api/docs/*", "assets.not_found_handling"] {
            assert!(zone.contains(said), "{said}: {zone}");
        }
        let file = format!(
            "[server]\nplain = [\"127.0.0.1:1\"]\n{}",
            zone.replace("certificate = \"CERTIFICATE.pem\"\nkey = \"KEY.pem\"\n", "")
        );
        let config = crate::config::Config::parse(Path::new("/edge.toml"), &file).unwrap();
        let [zone] = &config.zones[..] else { panic!() };
        let worker = zone.worker.as_ref().unwrap();
        assert_eq!(zone.hosts.len(), 2);
        assert_eq!(worker.settings[1], ("PLAN".to_owned(), "go\"ld".to_owned()));
        assert_eq!(worker.schedule[0].text(), "0 3 * * *");
        assert_eq!(worker.limits.cpu, std::time::Duration::from_millis(100));
        assert!(worker.keyvalue.is_some() && worker.assets.is_some());
        assert_eq!(worker.worker_first, ["/api/*"]);
    }

    /// A worker in TypeScript would be deployed as it is, and refused.
    #[test]
    fn what_has_to_be_bundled_is_said() {
        let text = zone("name = \"a\"\nmain = \"src/index.ts\"\nroute = \"a.example\"").unwrap();
        assert!(
            text.contains("esbuild") && text.contains("hosts = [\"a.example\"]"),
            "{text}"
        );
        assert!(zone("main = \"a.js\"").is_err());
        assert!(zone("name = ").is_err());
    }
}
