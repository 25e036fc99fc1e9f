//! What a release is made of (SBOM), in CycloneDX's JSON: every crate that the daemon and the key
//! server are built from.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edge_testbed::process;
use serde_json::{Value, json};

use crate::workspace;

const TIME: Duration = Duration::from_secs(300);
const ROOT: &str = "edge-userspace";

/// The text of the list for a release of that version.
pub(super) fn text(version: &str) -> Result<String> {
    let mut cargo = workspace::cargo_command();
    cargo.args(["metadata", "--format-version", "1", "--locked", "--filter-platform"]);
    cargo.arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH));
    let output = process::output(&mut cargo, TIME)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    Ok(serde_json::to_string_pretty(&bill(&metadata, version)?)? + "\n")
}

fn bill(metadata: &Value, version: &str) -> Result<Value> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let packages: BTreeMap<String, Value> = list(metadata, "packages")
        .into_iter()
        .filter_map(|package| Some((package["id"].as_str()?.to_owned(), package)))
        .collect();
    let nodes: BTreeMap<String, Value> = list(&metadata["resolve"], "nodes")
        .into_iter()
        .filter_map(|node| Some((node["id"].as_str()?.to_owned(), node)))
        .collect();
    let root = packages.iter().find(|(_, package)| package["name"] == ROOT);
    let (root, _) = root.with_context(|| format!("cargo metadata names no {ROOT}"))?;
    // What is linked or runs in the build; what only tests use stays out.
    let (mut reached, mut next) = (BTreeSet::new(), vec![root.clone()]);
    while let Some(id) = next.pop() {
        if !reached.insert(id.clone()) {
            continue;
        }
        for dependency in nodes.get(&id).map(|node| list(node, "deps")).unwrap_or_default() {
            let kinds = list(&dependency, "dep_kinds");
            let used = kinds.iter().any(|kind| kind["kind"] != "dev");
            if let Some(id) = dependency["pkg"].as_str().filter(|_| used) {
                next.push(id.to_owned());
            }
        }
    }
    let component = |id: &String| {
        let package = packages.get(id)?;
        let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
        let mut component = json!({
            "type": "library", "name": name, "version": version, "purl": format!("pkg:cargo/{name}@{version}"),
        });
        if let Some(licence) = package["license"].as_str() {
            component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
        }
        Some(component)
    };
    let components: Vec<Value> = reached.iter().filter(|id| *id != root).filter_map(component).collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": { "type": "application", "name": "edge", "version": version } },
        "components": components,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate that is linked and not listed is one that nobody looks up when it has a hole.
    #[test]
    fn what_is_linked_is_listed_and_what_tests_use_is_not() {
        let package = |name: &str| json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0" });
        let dependency = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [package(ROOT), package("linked"), package("deeper"), package("tested")],
            "resolve": { "nodes": [
                { "id": ROOT, "deps": [dependency("linked", Value::Null), dependency("tested", json!("dev"))] },
                { "id": "linked", "deps": [dependency("deeper", json!("build"))] },
                { "id": "deeper", "deps": [] },
                { "id": "tested", "deps": [] },
            ] },
        });
        let bill = bill(&metadata, "0.1.0").unwrap();
        let names: Vec<&str> = bill["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["deeper", "linked"]);
        assert_eq!(bill["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
    }
}
