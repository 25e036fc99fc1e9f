//! From the key server's raw form to the checked one. Collects every mistake, then gives up.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::raw::{self, Raw};
use super::{Certificate, Client, Config, Grant, Identity, Keys, Limits, Process, Selector, Server, User, hex32};
use crate::config::Log;
use crate::config::mistake::{Mistake, Mistakes, Place, Source};
use crate::config::value::{AdminAddress, HostPattern, Time};

pub(super) fn check(raw: &Raw, source: &Source<'_>) -> Result<Config, Mistakes> {
    let mut checker = Checker {
        source,
        mistakes: Vec::new(),
    };
    let config = checker.config(raw);
    if checker.mistakes.is_empty() {
        Ok(config)
    } else {
        Err(Mistakes(checker.mistakes))
    }
}

struct Checker<'a> {
    source: &'a Source<'a>,
    mistakes: Vec<Mistake>,
}

impl Checker<'_> {
    fn mistake(&mut self, span: Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        self.mistakes.push(self.source.place(span).mistake(what, mend));
    }

    fn number(&mut self, value: &Spanned<usize>, least: usize, most: usize) -> usize {
        let n = *value.get_ref();
        if n < least || n > most {
            let mend = format!("write {least} to {most}");
            self.mistake(value.span(), format!("{n} is out of bounds"), mend);
        }
        n
    }

    fn time(&mut self, value: &Spanned<Time>, least: Duration, most: Duration, mend: &str) -> Duration {
        let time = value.get_ref().0;
        if !(least..=most).contains(&time) {
            self.mistake(value.span(), "out of bounds", mend);
        }
        time
    }

    /// A file that must be named.
    fn file(&mut self, value: &Spanned<PathBuf>, what: &str) -> (PathBuf, Place) {
        if value.get_ref().as_os_str().is_empty() {
            self.mistake(
                value.span(),
                format!("no {what}"),
                format!("name a PEM file with the {what}"),
            );
        }
        (self.source.path(value), self.source.place(value.span()))
    }

    fn config(&mut self, raw: &Raw) -> Config {
        Config {
            server: self.server(&raw.server),
            keys: Keys {
                directory: (
                    self.source.path(&raw.keys.directory),
                    self.source.place(raw.keys.directory.span()),
                ),
                poll: self.time(
                    &raw.keys.poll,
                    Duration::from_millis(100),
                    Duration::from_secs(3_600),
                    "write 100ms to 1h",
                ),
            },
            limits: self.limits(&raw.limits),
            process: self.process(&raw.process),
            admin: self.admin(&raw.admin),
            log: self.log(&raw.log),
            clients: self.clients(&raw.client),
        }
    }

    fn server(&mut self, raw: &raw::Server) -> Server {
        if raw.listen.get_ref().is_empty() {
            let mend = "write [server] listen = [\"192.0.2.1:7443\"]";
            self.mistake(raw.listen.span(), "no address to listen on", mend);
        }
        let (chain, chain_place) = self.file(&raw.certificate, "server's certificate");
        let (key, key_place) = self.file(&raw.key, "key of the server's certificate");
        let client_ca = self.file(&raw.client_ca, "authority of the clients' certificates");
        let revoked = raw
            .revoked
            .iter()
            .map(|file| self.file(file, "revocation list"))
            .collect();
        let workers = match self.number(&raw.workers, 0, 1_024) {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        };
        Server {
            listen: raw.listen.get_ref().clone(),
            certificate: Certificate {
                chain,
                chain_place,
                key,
                key_place,
            },
            client_ca,
            revoked,
            workers,
            drain: raw.drain.0,
        }
    }

    fn limits(&mut self, raw: &raw::Limits) -> Limits {
        let (tenth, hour) = (Duration::from_millis(100), Duration::from_secs(3_600));
        Limits {
            connections: self.number(&raw.connections, 1, 1 << 20),
            connections_per_client: self.number(&raw.connections_per_client, 1, 1 << 20),
            pending: self.number(&raw.pending, 1, 1 << 20),
            queue: self.number(&raw.queue, 1, 1 << 20),
            ephemeral_keys: self.number(&raw.ephemeral_keys, 1, 1 << 20),
            ephemeral_time: self.time(&raw.ephemeral_time, tenth, hour, "write 100ms to 1h"),
            handshake_timeout: self.time(&raw.handshake_timeout, tenth, hour, "write 100ms to 1h"),
            idle_timeout: self.time(&raw.idle_timeout, tenth, 24 * hour, "write 100ms to 24h"),
            write_timeout: self.time(&raw.write_timeout, tenth, hour, "write 100ms to 1h"),
        }
    }

    fn process(&mut self, raw: &raw::Process) -> Process {
        let text = raw.user.get_ref();
        let ids = text.split_once(':').map(|(user, group)| (user.parse(), group.parse()));
        let user = match ids {
            _ if text.is_empty() => None,
            Some((Ok(user), Ok(group))) => Some(User::Ids(user, group)),
            None if !text.contains(char::is_whitespace) => Some(User::Name(text.clone())),
            _ => {
                self.mistake(
                    raw.user.span(),
                    format!("\"{text}\" is no user"),
                    "write a name, or UID:GID",
                );
                None
            }
        };
        Process {
            user: user.map(|user| (user, self.source.place(raw.user.span()))),
            lock_memory: raw.lock_memory,
            seccomp: raw.seccomp,
        }
    }

    fn admin(&mut self, raw: &raw::Admin) -> AdminAddress {
        if let AdminAddress::Tcp(address) = raw.listen.get_ref()
            && !address.ip().is_loopback()
            && !raw.remote
        {
            self.mistake(
                raw.listen.span(),
                format!("{address} can be reached by other hosts, and the endpoint has no authentication"),
                "listen on 127.0.0.1 or unix:/run/edge-keyserver/admin.sock, or say remote = true",
            );
        }
        raw.listen.get_ref().clone()
    }

    fn log(&mut self, raw: &raw::Log) -> Log {
        if !crate::config::check::level_is_sound(raw.level.get_ref()) {
            self.mistake(
                raw.level.span(),
                format!("\"{}\" is no log level", raw.level.get_ref()),
                "write error, warn, info, debug or trace, or \"info,edge::keyserver=debug\"",
            );
        }
        Log {
            format: raw.format,
            level: raw.level.get_ref().clone(),
            access_sample: None,
        }
    }

    fn clients(&mut self, raw: &[Spanned<raw::Client>]) -> Vec<Client> {
        if raw.is_empty() {
            let mend = "write a [[client]] with name, dns or spki, and [[client.grant]]";
            self.mistake(0..0, "no client: nobody could ask", mend);
        }
        let mut names = HashMap::new();
        let mut identities = HashMap::new();
        let mut clients = Vec::with_capacity(raw.len());
        for client in raw {
            let span = client.span();
            let client = client.get_ref();
            let name = client.name.get_ref();
            let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if name.is_empty() || name.len() > 64 || !name.bytes().all(sound) {
                let mend = "write letters, digits, `-`, `_`, `.`, at most 64";
                self.mistake(client.name.span(), format!("\"{name}\" is no client name"), mend);
            }
            let line = self.source.place(client.name.span()).line;
            if let Some(line) = names.insert(name.clone(), line) {
                let what = format!("client \"{name}\" is already on line {line}");
                self.mistake(client.name.span(), what, "give each client a name of its own");
            }
            let Some(identity) = self.identity(client, span) else {
                continue;
            };
            if let Some(line) = identities.insert(identity.clone(), line) {
                let what = format!("the client on line {line} has the same certificate");
                self.mistake(
                    client.name.span(),
                    what,
                    "merge the two, or give them names of their own",
                );
            }
            let grants = client.grant.iter().map(|grant| self.grant(grant.get_ref())).collect();
            let burst = if client.burst == 0 { client.rate } else { client.burst };
            clients.push(Client {
                name: name.as_str().into(),
                identity,
                rate: (client.rate > 0).then_some((client.rate, burst)),
                grants,
            });
        }
        clients
    }

    fn identity(&mut self, client: &raw::Client, span: Range<usize>) -> Option<Identity> {
        match (&client.dns, &client.spki) {
            (Some(dns), None) => match dns.get_ref().parse() {
                Ok(HostPattern::Exact(name)) => Some(Identity::Dns(name)),
                _ => {
                    let what = format!("\"{}\" is no DNS name", dns.get_ref());
                    self.mistake(dns.span(), what, "write the whole name, as in the certificate");
                    None
                }
            },
            (None, Some(spki)) => {
                let id = hex32(spki.get_ref());
                if id.is_none() {
                    let mend = "write SHA-256 of the SubjectPublicKeyInfo as 64 hexadecimal digits: openssl x509 -in \
                                CERT -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum";
                    self.mistake(spki.span(), "no SHA-256", mend);
                }
                id.map(Identity::Spki)
            }
            (None, None) => {
                self.mistake(span, "no identity", "write dns = \"…\" or spki = \"…\"");
                None
            }
            (Some(_), Some(spki)) => {
                self.mistake(spki.span(), "two identities", "write dns or spki, not both");
                None
            }
        }
    }

    fn grant(&mut self, raw: &raw::Grant) -> Grant {
        if raw.keys.get_ref().is_empty() {
            self.mistake(raw.keys.span(), "no key", "write names of keys, or \"*\"");
        }
        if raw.ops.get_ref().is_empty() {
            self.mistake(raw.ops.span(), "no op", "write ops = [\"sign-tls13\", \"sign-tls12\"]");
        }
        let keys = raw.keys.get_ref().iter().map(|key| {
            let text = key.get_ref();
            match hex32(text) {
                Some(id) => Selector::Id(id),
                None if text == "*" => Selector::All,
                None => Selector::Name(text.clone()),
            }
        });
        let ops = raw.ops.get_ref().iter();
        Grant {
            keys: keys.collect(),
            ops: ops
                .map(|op| (op.get_ref().clone(), self.source.place(op.span())))
                .collect(),
        }
    }
}
