//! Certificates by ACME (RFC 8555): `[acme]`, what all zones share, and `[zone.acme]`.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::checker::Checker;
use super::section::{Count, File, Kind, section};
use super::value::HostPattern;
use super::{Certificate, Key, Place, Server, raw};

/// A list of words.
pub struct Texts;

impl Kind for Texts {
    type Written = Vec<String>;
    type Checked = Vec<String>;

    fn text(written: &Vec<String>) -> String {
        format!("{written:?}")
    }

    fn check(
        written: &Spanned<Vec<String>>,
        _: Option<(Vec<String>, Vec<String>)>,
        _: &mut Checker<'_>,
    ) -> Vec<String> {
        written.get_ref().clone()
    }
}

/// Words that may be left out.
pub struct Text;

impl Kind for Text {
    type Written = String;
    type Checked = Option<String>;

    fn text(written: &String) -> String {
        format!("{written:?}")
    }

    fn check(written: &Spanned<String>, _: Option<(String, String)>, _: &mut Checker<'_>) -> Option<String> {
        Some(written.get_ref().clone()).filter(|text| !text.is_empty())
    }
}

section! {
    /// What all zones with `[zone.acme]` share.
    NodeText => Node {
        /// The directories of authorities (https), asked in this order: the next one if one does not issue. None: no ACME.
        fixed directories: Texts = Vec::new();
        /// How authorities reach the operator: "mailto:ops@example.com".
        fixed contact: Texts = Vec::new();
        /// Whether the authorities' terms of service are agreed to; without that no account can be made.
        fixed terms_agreed: super::section::Flag = false;
        /// The key id of the operator's account at the first authority, where that wants one (external account binding).
        fixed external_id: Text = String::new();
        /// The file with the key of that account, in base64url.
        fixed external_key: File = PathBuf::new();
        /// PEM file of the root that directories are verified with, instead of the system's.
        fixed ca: File = PathBuf::new();
        /// Accounts, certificates and keys.
        fixed state_directory: File = PathBuf::from("/var/lib/edge/acme");
        /// A certificate is renewed after that share of its life, in percent, if the authority does not say when (RFC 9773).
        fixed renew_percent: Count<u8> = 67, 1 => 99;
    }
}

/// How the node proves that a host is its own.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum Challenge {
    /// By a file over plain HTTP (RFC 8555 section 8.3).
    #[default]
    #[serde(rename = "http-01")]
    Http,
    /// By a certificate in a handshake (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
    /// By a record in DNS (RFC 8555 section 8.4), which a program sets.
    #[serde(rename = "dns-01")]
    Dns,
}

/// `[zone.acme]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct ZoneText {
    #[serde(default)]
    challenge: Challenge,
    #[serde(default)]
    hook: Option<Spanned<PathBuf>>,
}

/// How a zone gets its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// How its hosts are proved.
    pub challenge: Challenge,
    /// Sets and clears records: `HOOK set|clear _acme-challenge.HOST VALUE`.
    pub hook: Option<(PathBuf, Place)>,
}

impl Node {
    /// Whether there is an authority to ask.
    pub fn is_on(&self) -> bool {
        !self.directories.is_empty()
    }

    /// The file with the key of the operator's account.
    pub fn external(&self) -> Option<(&str, &(PathBuf, Place))> {
        Some((self.external_id.as_deref()?, &self.external_key))
    }

    /// The root of directories.
    pub fn root(&self) -> Option<&(PathBuf, Place)> {
        Some(&self.ca).filter(|(path, _)| path.file_name().is_some() && path.is_file())
    }
}

/// The shared part, and what of it does not go together.
pub(super) fn node(raw: &NodeText, checker: &mut Checker<'_>) -> Node {
    let node = raw.check(checker);
    for directory in &node.directories {
        let sound = directory
            .parse::<http::Uri>()
            .is_ok_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
        if !sound {
            checker.mistake(
                raw.directories.span(),
                format!("\"{directory}\" is not the directory of an authority"),
                "write its address, with https://",
            );
        }
    }
    if node.is_on() && !node.terms_agreed {
        checker.mistake(
            raw.directories.span(),
            "authorities issue nothing to who has not agreed to their terms of service",
            "read them, and write terms_agreed = true",
        );
    }
    if node.external_id.is_some() == raw.external_key.get_ref().as_os_str().is_empty() {
        checker.mistake(
            raw.external_key.span(),
            "`external_id` and `external_key` go together",
            "write both, or none",
        );
    }
    let ca = raw.ca.get_ref();
    if !ca.as_os_str().is_empty() && !node.ca.0.is_file() {
        checker.mistake(
            raw.ca.span(),
            format!("{} is not there", node.ca.0.display()),
            "name a PEM file, or leave `ca` out",
        );
    }
    node
}

/// How a zone gets its certificate, and where that will be; beside `[zone.acme]` it has no other.
pub(super) fn certificate(
    zone: &raw::Zone,
    server: &Server,
    node: &Node,
    checker: &mut Checker<'_>,
) -> Option<(Acme, Certificate)> {
    let text = zone.acme.as_ref()?;
    let place = checker.place(text.span());
    let text = text.get_ref();
    let mut wrong = |what: String, mend: &str| checker.mistakes.push(place.mistake(what, mend));
    if zone.certificate.is_some() || zone.key.is_some() || zone.key_servers.is_some() {
        wrong(
            "[zone.acme] beside a certificate or key of the zone's own".to_owned(),
            "keep one of them",
        );
    }
    if !node.is_on() {
        wrong(
            "[zone.acme], but no authority".to_owned(),
            "write [acme] directories = [\"https://acme-v02.api.letsencrypt.org/directory\"]",
        );
    }
    if text.challenge == Challenge::Http && server.http.is_empty() {
        wrong(
            "the challenge http-01 is answered on port 80, and nothing listens there".to_owned(),
            "write [server] http = [\"0.0.0.0:80\", \"[::]:80\"], or challenge = \"tls-alpn-01\"",
        );
    }
    if text.challenge == Challenge::TlsAlpn && server.https.is_empty() {
        wrong(
            "the challenge tls-alpn-01 is answered on port 443, and nothing listens there".to_owned(),
            "write [server] https",
        );
    }
    if (text.challenge == Challenge::Dns) != text.hook.is_some() {
        wrong(
            "the challenge dns-01 and `hook` go together".to_owned(),
            "name the program that sets records as `hook`, or write another challenge",
        );
    }
    for host in zone.hosts.get_ref() {
        if matches!(host.get_ref(), HostPattern::Wildcard(_)) && text.challenge != Challenge::Dns {
            wrong(
                format!(
                    "no authority issues a certificate for {} by this challenge",
                    host.get_ref()
                ),
                "write challenge = \"dns-01\"",
            );
        }
    }
    if zone.hosts.get_ref().is_empty() {
        wrong("[zone.acme] in a zone without hosts".to_owned(), "name its hosts");
    }
    let file = |kind: &str| node.state_directory.0.join(format!("{}.{kind}", zone.name.get_ref()));
    let hook = text
        .hook
        .as_ref()
        .map(|hook| (checker.path(hook), checker.place(hook.span())));
    let acme = Acme {
        challenge: text.challenge,
        hook,
    };
    let certificate = Certificate {
        chain: file("pem"),
        chain_place: place.clone(),
        key: Key::File(file("key"), place),
        more: Vec::new(),
        clients: None,
        legacy_rsa: None,
        issued: true,
    };
    Some((acme, certificate))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;

    const ACME: &str = "[acme]\ndirectories = [\"https://ca.test/dir\"]\nterms_agreed = true\n";
    const ZONE: &str =
        "[[zone]]\nname = \"a\"\nhosts = [\"a.test\"]\n[zone.origin]\nservers = [{ address = \"http://b\" }]\n";

    fn read(server: &str, acme: &str, zone: &str) -> Result<Config, String> {
        let text = format!("[server]\n{server}\n{acme}{ZONE}{zone}");
        Config::parse(Path::new("/etc/edge/edge.toml"), &text).map_err(|mistakes| mistakes.to_string())
    }

    /// A zone that names ACME needs no file, and finds what was issued where it is written to.
    #[test]
    fn a_zone_with_acme_has_its_files_in_the_state_directory() {
        let both = "https = [\"127.0.0.1:443\"]\nhttp = [\"127.0.0.1:80\"]";
        let config = read(both, ACME, "[zone.acme]\n").unwrap();
        let certificate = config.zones[0].certificate.as_ref().unwrap();
        assert!(certificate.issued);
        assert_eq!(certificate.chain, Path::new("/var/lib/edge/acme/a.pem"));
        assert!(config.zones[0].acme.is_some());
    }

    /// What no authority would ever issue is told at once, not by a log line at night.
    #[test]
    fn what_cannot_be_issued_is_a_mistake() {
        let both = "https = [\"127.0.0.1:443\"]\nhttp = [\"127.0.0.1:80\"]";
        let https = "https = [\"127.0.0.1:443\"]";
        for (server, acme, zone, words) in [
            (both, "", "[zone.acme]\n", "no authority"),
            (https, ACME, "[zone.acme]\n", "port 80"),
            (both, ACME, "[zone.acme]\nchallenge = \"dns-01\"\n", "go together"),
            (both, ACME, "[zone.acme]\nhook = \"/bin/true\"\n", "go together"),
            (
                both,
                "[acme]\ndirectories = [\"https://ca.test/\"]\n",
                "",
                "terms of service",
            ),
            (
                both,
                "[acme]\ndirectories = [\"http://ca.test/\"]\nterms_agreed = true\n",
                "",
                "https://",
            ),
            (both, "[acme]\nexternal_id = \"kid\"\n", "", "external_key` go together"),
        ] {
            let mistakes = read(server, acme, zone).unwrap_err();
            assert!(mistakes.contains(words), "{words}: {mistakes}");
        }
    }
}
