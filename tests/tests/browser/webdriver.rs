//! A real browser on a lead: headless Chromium in the client's namespace, driven through
//! chromedriver by the few commands of WebDriver (W3C) that the tests need. Nothing of it is left
//! when it is dropped.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use edge_testbed::netns::Netns;
use edge_testbed::process::Process;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Free, because the namespace is the test's own.
const PORT: u16 = 9515;
const START: Duration = Duration::from_secs(20);
/// A command's answer: loading a page included.
const ANSWER: Duration = Duration::from_secs(20);
/// How long its processes may take to end.
const END: Duration = Duration::from_secs(5);

/// A browser with one session.
pub(crate) struct Browser<'a> {
    client: &'a Netns,
    driver: Process,
    session: String,
    profile: PathBuf,
}

impl<'a> Browser<'a> {
    /// Starts it in `client` with its files in `directory`, where the certificates are that it
    /// trusts (`*.pem`); `host` leads to `address`. Says why and answers nothing where there is no
    /// Chromium.
    pub(crate) fn start(client: &'a Netns, directory: &Path, host: &str, address: &str) -> Option<Self> {
        let only_tcp = ["--disable-quic".to_owned()];
        Self::start_with(client, directory, &only_tcp, &[host], address)
    }

    /// The same with more arguments, and for several hosts.
    pub(crate) fn start_with(
        client: &'a Netns,
        directory: &Path,
        more: &[String],
        hosts: &[&str],
        address: &str,
    ) -> Option<Self> {
        for (program, package) in [("chromium", "chromium"), ("chromedriver", "chromium-driver")] {
            let path = std::env::var_os("PATH").unwrap_or_default();
            if !std::env::split_paths(&path).any(|directory| directory.join(program).exists()) {
                eprintln!("SKIPPED: no {program}, `cargo xtask setup test` installs it (package {package})");
                return None;
            }
        }
        let profile = directory.join("profile");
        let _ = fs::remove_dir_all(&profile);
        fs::create_dir(&profile).unwrap();
        let mut command = client.command("chromedriver").unwrap();
        command.arg(format!("--port={PORT}")).env("HOME", &profile);
        let driver = Process::spawn(&mut command, &directory.join("chromedriver.log")).unwrap();
        let mut browser = Self {
            client,
            driver,
            session: String::new(),
            profile,
        };
        browser.driver.wait_line("started successfully", START).unwrap();
        let rules: Vec<_> = hosts.iter().map(|host| format!("MAP {host} {address}")).collect();
        let mut arguments = more.to_vec();
        let certificates = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let keys: Vec<_> = certificates
            .filter(|path| path.extension().is_some_and(|extension| extension == "pem"))
            .filter_map(|path| public_key(&path))
            .collect();
        // Trust in these certificates, not indifference to errors: behind those a browser keeps no
        // dictionaries.
        if !keys.is_empty() {
            arguments.push(format!("--ignore-certificate-errors-spki-list={}", keys.join(",")));
        }
        let common = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            // Dictionaries are kept only behind public roots otherwise (RFC 9842 leaves that to
            // browsers).
            "--disable-features=CompressionDictionaryTransportRequireKnownRootCert",
            "--disable-breakpad",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
        ];
        arguments.extend(common.map(|argument: &str| argument.to_owned()));
        arguments.push(format!("--host-resolver-rules={}", rules.join(",")));
        arguments.push(format!("--user-data-dir={}", browser.profile.display()));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"performance": "ALL"},
        }}});
        let session = browser.call("POST", "/session", &wanted).unwrap();
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    /// Types an address into the current tab, and waits until it has loaded.
    pub(crate) fn open(&self, url: &str) {
        self.command("POST", "/url", &json!({"url": url})).unwrap();
    }

    /// What an impatient person does.
    pub(crate) fn reload(&self) {
        self.command("POST", "/refresh", &json!({})).unwrap();
    }

    /// What a script in the current tab's page returns.
    pub(crate) fn evaluate(&self, script: &str) -> Value {
        let body = json!({"script": script, "args": []});
        self.command("POST", "/execute/sync", &body).unwrap()
    }

    /// A command of Chromium's own (DevTools protocol).
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.command("POST", "/goog/cdp/execute", &body).unwrap()
    }

    /// Responses that came over the network since the last call, by the browser's own log: address,
    /// and each field of the head as it crossed.
    pub(crate) fn responses(&self) -> Vec<(String, Value)> {
        let log = self
            .command("POST", "/se/log", &json!({"type": "performance"}))
            .unwrap();
        let entries = log.as_array().unwrap().iter();
        let messages = entries.map(|entry| serde_json::from_str(entry["message"].as_str().unwrap()).unwrap());
        messages
            .filter_map(|mut entry: Value| {
                let message = entry["message"].take();
                let response = &message["params"]["response"];
                let received = message["method"] == "Network.responseReceived";
                received.then(|| {
                    (
                        response["url"].as_str().unwrap_or_default().to_owned(),
                        response["headers"].clone(),
                    )
                })
            })
            .collect()
    }

    /// The current tab.
    pub(crate) fn tab(&self) -> String {
        let tab = self.command("GET", "/window", &Value::Null).unwrap();
        tab.as_str().unwrap().to_owned()
    }

    /// Opens another tab and goes there.
    pub(crate) fn another_tab(&self) {
        let tab = self.command("POST", "/window/new", &json!({"type": "tab"})).unwrap();
        self.switch(tab["handle"].as_str().unwrap());
    }

    /// Goes to a tab.
    pub(crate) fn switch(&self, tab: &str) {
        self.command("POST", "/window", &json!({"handle": tab})).unwrap();
    }

    /// The title of the current tab's page; empty while it goes from one page to the next.
    pub(crate) fn title(&self) -> String {
        let title = self.command("GET", "/title", &Value::Null);
        title
            .ok()
            .and_then(|t| t.as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    /// One command, on a connection of its own. The error is the driver's word.
    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let connect = || TcpStream::connect_timeout(&address, START);
        let mut stream = self.client.enter(connect).unwrap().map_err(|e| e.to_string())?;
        let answer = exchange(&mut stream, method, path, body).map_err(|e| e.to_string())?;
        let value = answer["value"].clone();
        if value["error"].is_string() {
            return Err(format!("{method} {path}: {value}"));
        }
        Ok(value)
    }

    /// The processes that work on this profile.
    fn processes(&self) -> Vec<i32> {
        let profile = self.profile.to_string_lossy();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|id: &i32| {
            let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&*profile)
        })
        .collect()
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        if !self.session.is_empty()
            && let Err(error) = self.command("DELETE", "", &Value::Null)
        {
            eprintln!("the browser's session: {error}");
        }
        if let Err(error) = self.driver.stop(END) {
            eprintln!("{error:#}");
        }
        let deadline = Instant::now() + END;
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                for id in left.into_iter().filter_map(Pid::from_raw) {
                    let _ = kill_process(id, Signal::KILL);
                }
                eprintln!("Chromium did not end with its session and was killed");
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// SHA-256 of a certificate's public key, in Base64.
pub(crate) fn public_key(certificate: &Path) -> Option<String> {
    let pipeline = "openssl x509 -in \"$1\" -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64";
    let output = Command::new("sh")
        .args(["-c", pipeline, "sh"])
        .arg(certificate)
        .output()
        .unwrap();
    // Of nothing, where the file is no certificate.
    let nothing = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let key = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    (output.status.success() && key != nothing).then_some(key)
}

fn exchange(stream: &mut TcpStream, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
    stream.set_read_timeout(Some(ANSWER))?;
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:{PORT}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
