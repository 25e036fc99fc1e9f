//! Certificates by ACME (RFC 8555): `[acme]`, what all zones share, and `[zone.acme]`.

use std::path::PathBuf;

use super::Place;
use super::checker::Checker;
use super::kind::{Count, File, Flag, List, Maybe, Text, Word, words};
use super::section::section;

section! {
    /// What all zones with `[zone.acme]` share.
    NodeText => Node {
        /// The directories of authorities (https), asked in this order: the next one if one does
        /// not issue. None: no ACME.
        fixed directories: List<Text> = Vec::new(); like ["https://acme-v02.api.letsencrypt.org/directory"];
        /// How authorities reach the operator.
        fixed contact: List<Text> = Vec::new(); like ["mailto:ops@example.com"];
        /// Whether the authorities' terms of service are agreed to; without that no account can be
        /// made.
        fixed terms_agreed: Flag = false;
        /// The key id of the operator's account at the first authority, if that wants one (external
        /// account binding).
        fixed external_id: Maybe<Text> = None; like "kid-1";
        /// The file with the key of that account, in base64url.
        fixed external_key: Maybe<File> = None; like "eab.key";
        /// PEM file of the root that directories are verified with, instead of the system's.
        fixed ca: Maybe<File> = None; like "acme-root.pem";
        /// Accounts, certificates and keys.
        fixed state_directory: File = PathBuf::from("/var/lib/edge/acme");
        /// A certificate is renewed after this share of its life, in percent, if the authority does
        /// not say when (RFC 9773).
        fixed renew_percent: Count<u8> = 67, 1 => 99;
    }
}

words! {
    /// How the node proves that a host is its own.
    #[derive(Default)]
    Challenge {
        /// By a file over plain HTTP (RFC 8555 section 8.3).
        #[default]
        Http = "http-01",
        /// By a certificate in a handshake (RFC 8737).
        TlsAlpn = "tls-alpn-01",
        /// By a record in DNS (RFC 8555 section 8.4), which a program sets.
        Dns = "dns-01",
    }
}

section! {
    /// How a zone gets its certificate.
    AcmeText => Acme {
        /// How its hosts are proved: http-01, tls-alpn-01 or dns-01.
        live challenge: Word<Challenge> = Challenge::Http;
        /// For dns-01: the program that sets and clears records: `HOOK set|clear
        /// _acme-challenge.HOST VALUE`.
        live hook: Maybe<File> = None; like "/etc/edge/dns-hook";
    }
}

impl Node {
    /// Whether there is an authority to ask.
    pub fn is_on(&self) -> bool {
        !self.directories.is_empty()
    }

    /// The file with the key of the operator's account.
    pub fn external(&self) -> Option<(&str, &(PathBuf, Place))> {
        Some((self.external_id.as_deref()?, self.external_key.as_ref()?))
    }

    /// The root of directories.
    pub fn root(&self) -> Option<&(PathBuf, Place)> {
        self.ca.as_ref().filter(|(path, _)| path.is_file())
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
    if node.external_id.is_some() != node.external_key.is_some() {
        checker.mistake(
            raw.external_key.span(),
            "`external_id` and `external_key` go together",
            "write both, or none",
        );
    }
    if let Some((ca, _)) = node.ca.as_ref().filter(|(ca, _)| !ca.is_file()) {
        let mend = "name a PEM file, or leave `ca` out";
        checker.mistake(raw.ca.span(), format!("{} is not there", ca.display()), mend);
    }
    node
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
