//! A smoke run of the benches: that they measure and write what others read, not how fast anything
//! is.
//!
//! If this fails, the figures in the README can no longer be checked.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod checkout;

use std::fs;
use std::process::Command;
use std::time::Duration;

use edge_testbed::process;

#[test]
fn http_measures_all_proxies() {
    for program in ["nginx", "h2load", "taskset", "curl"] {
        let installed = ["/usr/sbin", "/usr/bin", "/usr/local/bin"]
            .iter()
            .any(|at| fs::exists(format!("{at}/{program}")).unwrap());
        if !installed {
            eprintln!("SKIPPED: {program} is not installed, `cargo xtask setup bench` does it");
            return;
        }
    }
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("SKIPPED: the bench needs two cores");
        return;
    }
    checkout::build();
    let output = tempfile::tempdir().unwrap();
    let mut bench = Command::new(checkout::binaries().join("xtask"));
    bench
        .args(["bench", "http", "--quick", "--dev", "--no-build"])
        .args(["--cases", "h1-1k,h2-100k", "--output"])
        .arg(output.path());
    let result = process::output(bench.current_dir(checkout::root()), Duration::from_secs(180)).unwrap();
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));

    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(output.path().join("http.json")).unwrap()).unwrap();
    assert_eq!(report["quick"], true);
    let cases = report["cases"].as_array().unwrap();
    let names: Vec<&str> = cases.iter().map(|case| case["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["h1-1k", "h2-100k"]);
    for case in cases {
        let value = |key: &str| case[key].as_f64().unwrap();
        // nginx needs between 1 us and 10 ms of CPU for a request; beyond that something else was
        // measured.
        assert!((100.0..1_000_000.0).contains(&value("nginx_req_per_cpu_s")), "{case}");
        assert!(value("edge_req_per_cpu_s") > 10.0 && value("ratio") > 0.0, "{case}");
        let peers = case["ratios"].as_object().unwrap();
        assert!(
            peers
                .values()
                .all(|ratio| ratio.as_f64().unwrap() >= value("ratio_to_best")),
            "{case}"
        );
        assert_eq!(peers.len() + 1, case["runs"].as_object().unwrap().len(), "{case}");
    }
}

/// Of `bench delta` the half that starts everything: that it measures all three ways of carrying
/// content, and that the way by differences is one.
#[test]
fn delta_measures_all_three() {
    for program in ["nginx", "curl"] {
        let installed = ["/usr/sbin", "/usr/bin", "/usr/local/bin"]
            .iter()
            .any(|at| fs::exists(format!("{at}/{program}")).unwrap());
        if !installed {
            eprintln!("SKIPPED: {program} is not installed, `cargo xtask setup bench` does it");
            return;
        }
    }
    checkout::build();
    let output = tempfile::tempdir().unwrap();
    let mut bench = Command::new(checkout::binaries().join("xtask"));
    bench
        .args([
            "bench",
            "delta",
            "--quick",
            "--dev",
            "--no-build",
            "--no-codec",
            "--output",
        ])
        .arg(output.path());
    let result = process::output(bench.current_dir(checkout::root()), Duration::from_secs(240)).unwrap();
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));

    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(output.path().join("delta.json")).unwrap()).unwrap();
    for what in ["page", "assets", "json"] {
        let figures = &report["end_to_end"][what];
        let hop = |by: &str| figures["hop_pct_by"][by].as_f64().unwrap();
        // Bytes do not depend on how busy the machine is; times do.
        assert!(
            hop("edge") * 3.0 < hop("nginx_gzip") && hop("edge") < hop("zstd"),
            "{what}: {figures}"
        );
        for by in ["edge", "zstd", "nginx_gzip"] {
            assert!(
                figures["last_byte_ms"][by].as_f64().unwrap() >= 20.0,
                "{what}: the link was not there: {figures}"
            );
        }
    }
    assert!(report["added_latency_ms_p50"].is_f64() && report["cpu_ms_per_mb"].is_f64());
    assert!(
        fs::read_to_string(output.path().join("delta.svg"))
            .unwrap()
            .starts_with("<svg")
    );
}
