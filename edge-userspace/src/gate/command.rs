//! `edge token`: what an operator asks about tokens, from the shell. Never prints a key.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum};
use edge_common::retry;
use edge_common::token::{self as header, HEADER, Header};

use super::keys::{self, Epochs, Secret};
use super::token::{Carrier, Claims, ClientId, LENGTH, Maturity, Refusal, Tokens, from_text, to_text, zone_id};
use crate::base::clock::UnixTime;
use crate::config::value::Time;

/// The longest text that is looked at; a QUIC token with its library's part stays far below.
const MOST: usize = 4_096;

/// Arguments of `edge token`.
#[derive(Debug, Args)]
pub struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mint a token, as a zone would give it to a client.
    Mint(Mint),
    /// Say whether a token would be accepted from an address, and if not, why.
    Verify(Verify),
    /// Show what a token's header says, without a key: nothing of it is proven.
    Inspect(Inspect),
}

#[derive(Debug, Args)]
struct Shared {
    /// The cluster's secret.
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    /// Epoch length, as the nodes have it.
    #[arg(long, value_name = "DURATION", default_value = "6h", value_parser = epochs)]
    epoch: Epochs,
    /// The client's address.
    #[arg(long)]
    address: IpAddr,
}

#[derive(Debug, Args)]
struct Mint {
    #[command(flatten)]
    shared: Shared,
    /// The zone that tells the client to wait.
    #[arg(long)]
    zone: String,
    /// How long.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    wait: Duration,
    /// How long the token is good after the wait.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    life: Duration,
    /// What carries it.
    #[arg(long, value_enum, default_value_t = By::Http)]
    carrier: By,
    /// The client's id, 16 hexadecimal digits; else a new one.
    #[arg(long, value_name = "ID", value_parser = client)]
    client: Option<u64>,
}

#[derive(Debug, Args)]
struct Verify {
    #[command(flatten)]
    shared: Shared,
    /// Ask for this zone; else for the token's own.
    #[arg(long)]
    zone: Option<String>,
    /// Ask for this carrier; else for the token's own.
    #[arg(long, value_enum)]
    carrier: Option<By>,
    /// The token as text, or - to read it from standard input, which other users cannot see.
    token: String,
}

#[derive(Debug, Args)]
struct Inspect {
    /// The token as text, or - to read it from standard input, which other users cannot see.
    token: String,
}

/// `--carrier`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// A cookie or header.
    Http,
    /// A TLS session ticket.
    Ticket,
    /// A QUIC NEW_TOKEN frame.
    Quic,
}

impl From<By> for Carrier {
    fn from(by: By) -> Self {
        match by {
            By::Http => Self::Http,
            By::Ticket => Self::Ticket,
            By::Quic => Self::Quic,
        }
    }
}

fn epochs(text: &str) -> Result<Epochs, String> {
    Epochs::new(duration(text)?).ok_or_else(|| "write 60s to 24h".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse().map(|Time(duration)| duration)
}

fn client(text: &str) -> Result<u64, String> {
    let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let wrong = || "write 16 hexadecimal digits".to_owned();
    if digits {
        u64::from_str_radix(text, 16).map_err(|_| wrong())
    } else {
        Err(wrong())
    }
}

/// A command that could not be carried out; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The secret.
    #[error(transparent)]
    Secret(#[from] keys::Error),
    /// What was given is no text of a token.
    #[error("this is no token: write its base64url text, from the cookie __Host-edge-wait or the header Edge-Wait")]
    NotText,
    /// No key lives that long.
    #[error("a token lives at most {} s with these epochs; shorten --wait", longest.as_secs())]
    TooLong {
        /// The bound.
        longest: Duration,
    },
    /// Standard input or output.
    #[error("cannot read or write: {0}")]
    Io(#[from] io::Error),
}

/// Carries out the command at `now`, reading a token named `-` from `input` and answering on `out`.
/// `false` if the token asked about is refused: the process should end with status 1.
///
/// # Errors
/// As [`Error`] says.
pub fn run(token: &Token, now: UnixTime, input: &mut dyn Read, out: &mut dyn Write) -> Result<bool, Error> {
    match &token.command {
        Command::Mint(mint) => mint.run(now, out).map(|()| true),
        Command::Verify(verify) => verify.run(now, input, out),
        Command::Inspect(inspect) => inspect.run(now, input, out).map(|()| true),
    }
}

impl Shared {
    fn tokens(&self, now: UnixTime) -> Result<Tokens, Error> {
        Ok(Tokens::new(Secret::read(&self.secret)?, self.epoch, now))
    }
}

impl Mint {
    fn run(&self, now: UnixTime, out: &mut dyn Write) -> Result<(), Error> {
        let longest = self.shared.epoch.longest_life();
        if self.wait >= longest {
            return Err(Error::TooLong { longest });
        }
        let ready = now.after(self.wait);
        let claims = Claims {
            client: self.client.map_or_else(ClientId::fresh, ClientId),
            zone: zone_id(&self.zone),
            not_before: ready.stamp(),
            expires: ready.after(self.life).stamp(),
            carrier: self.carrier.into(),
            place: 0,
            strikes: 0,
            early: 0,
        };
        let token = self.shared.tokens(now)?.mint(now, self.shared.address, &claims);
        Ok(writeln!(out, "{}", to_text(&token))?)
    }
}

impl Verify {
    fn run(&self, now: UnixTime, input: &mut dyn Read, out: &mut dyn Write) -> Result<bool, Error> {
        let text = given(&self.token, input)?;
        let tokens = self.shared.tokens(now)?;
        let token = from_text(&text).ok_or(Refusal::NotAToken);
        let opened = token.and_then(|token| {
            let opened = tokens.open(now, self.shared.address, &token)?;
            let carrier = self.carrier.map_or(opened.claims.carrier, Carrier::from);
            let zone = self.zone.as_deref().map_or(opened.claims.zone, zone_id);
            tokens.open_for(now, self.shared.address, carrier, zone, &token)
        });
        let opened = match opened {
            Ok(opened) => opened,
            Err(refusal) => {
                writeln!(out, "refused: {}: {refusal}", refusal.label())?;
                return Ok(false);
            }
        };
        match opened.maturity {
            Maturity::Mature => writeln!(out, "valid")?,
            Maturity::Early { wait } => writeln!(out, "early: genuine, {:.1} s to wait", wait.as_secs_f64())?,
        }
        let Claims {
            client,
            zone,
            place,
            strikes,
            early,
            carrier,
            ..
        } = opened.claims;
        writeln!(out, "client      {client}\ncarrier     {}", carrier.label())?;
        match &self.zone {
            Some(name) => writeln!(out, "zone        {name}")?,
            None => writeln!(out, "zone        number {zone:016x}; its name by --zone")?,
        }
        times(now, opened.claims.not_before, opened.claims.expires, out)?;
        match place >> 48 {
            0 if place == 0 => {}
            0 => writeln!(out, "place       since {}", date(UnixTime::from_millis(place)))?,
            // What the policies keep above the time of arrival is theirs to name.
            _ => writeln!(out, "place       {place:#018x}")?,
        }
        writeln!(out, "strikes     {strikes}\nearly       {early}")?;
        Ok(matches!(opened.maturity, Maturity::Mature))
    }
}

impl Inspect {
    fn run(&self, now: UnixTime, input: &mut dyn Read, out: &mut dyn Write) -> Result<(), Error> {
        let text = given(&self.token, input)?;
        let bytes = data_encoding::BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| Error::NotText)?;
        match bytes.first() {
            Some(&header::MAGIC) => {
                let (front, rest) = bytes.split_first_chunk::<HEADER>().ok_or(Error::NotText)?;
                let words = header::to_words(front);
                let header = Header::read(words);
                let [.., mac] = words;
                writeln!(out, "wait token, nothing of it proven")?;
                match Carrier::from_flags(header.flags) {
                    Some(carrier) => writeln!(out, "carrier     {}", carrier.label())?,
                    None => writeln!(out, "carrier     unknown: flags {:#04x}", header.flags)?,
                }
                writeln!(out, "client      masked; `edge token verify` tells it")?;
                writeln!(out, "key id      {}\nfamily      IPv{}", header.key_id, header.family)?;
                times(now, header.not_before, header.expires, out)?;
                writeln!(out, "nonce       {:08x}\nmac         {mac:016x}", header.nonce)?;
                let whole = if bytes.len() == LENGTH {
                    ""
                } else {
                    ", not a body that `edge token verify` opens"
                };
                writeln!(out, "sealed      {} bytes{whole}", rest.len())?;
                Ok(())
            }
            Some(&retry::MAGIC) if bytes.len() == retry::LENGTH => {
                writeln!(out, "QUIC Retry token of the XDP program, {} bytes", bytes.len())?;
                Ok(())
            }
            Some(&retry::SEALED_MAGIC) => {
                writeln!(
                    out,
                    "QUIC Retry token sealed by the QUIC library, {} bytes",
                    bytes.len()
                )?;
                Ok(())
            }
            _ => Err(Error::NotText),
        }
    }
}

/// The text itself, or what `input` holds for `-`, without the line's end.
fn given(text: &str, input: &mut dyn Read) -> Result<String, Error> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut read = String::new();
    input
        .take(MOST as u64)
        .read_to_string(&mut read)
        .map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => Error::NotText,
            _ => e.into(),
        })?;
    Ok(read.trim_ascii().to_owned())
}

fn times(now: UnixTime, not_before: u32, expires: u32, out: &mut dyn Write) -> io::Result<()> {
    for (name, secs) in [("not before", not_before), ("expires", expires)] {
        let time = UnixTime::from_secs(u64::from(secs));
        let distance = match now.secs().checked_sub(time.secs()) {
            Some(ago) => format!("{ago} s ago"),
            None => format!("in {} s", time.secs() - now.secs()),
        };
        writeln!(out, "{name:<11} {}, {distance}", date(time))?;
    }
    Ok(())
}

fn date(time: UnixTime) -> String {
    // httpdate's calendar ends with the year 9999.
    let last = UnixTime::from_secs(253_402_300_799);
    httpdate::fmt_http_date(SystemTime::from(time.min(last)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::os::unix::fs::OpenOptionsExt as _;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        token: Token,
    }

    const SECRET: &str = "an example of thirty-two bytes..";
    const T: u64 = 1_700_000_000;

    fn secret() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .unwrap();
        file.write_all(SECRET.as_bytes()).unwrap();
        directory
    }

    fn edge(directory: &tempfile::TempDir, now: u64, line: &str, input: &str) -> Result<(bool, String), Error> {
        let line = line.replace("SECRET", directory.path().join("secret").to_str().unwrap());
        let line = Line::try_parse_from(["token"].into_iter().chain(line.split(' '))).unwrap();
        let mut out = Vec::new();
        let good = run(&line.token, UnixTime::from_secs(now), &mut input.as_bytes(), &mut out)?;
        Ok((good, String::from_utf8(out).unwrap()))
    }

    /// An operator who asks why a client is kept waiting gets the gate's own answer.
    #[test]
    fn mint_verify_inspect() {
        let secret = secret();
        let ask = |now, line: &str, input: &str| edge(&secret, now, line, input).unwrap();
        let mint = "mint --secret SECRET --address 192.0.2.1 --zone shop --wait 30s --client 00000000000000ff";
        let (_, token) = ask(T, mint, "");
        let token = token.trim_end();
        let verify = format!("verify --secret SECRET --address 192.0.2.1 --zone shop {token}");

        let (good, said) = ask(T, &verify, "");
        assert!(!good && said.starts_with("early: genuine, 30.0 s"), "{said}");
        let (good, said) = ask(T + 30, &verify, "");
        assert!(
            good && said.starts_with("valid\n") && said.contains("00000000000000ff"),
            "{said}"
        );
        let (good, _) = ask(T + 30, &verify.replace(token, "-"), &format!("{token}\n"));
        assert!(good);
        for (change, to, reason) in [
            ("shop", "other", "wrong_zone"),
            ("192.0.2.1", "192.0.2.2", "forged"),
            ("--zone shop", "--carrier quic", "wrong_carrier"),
            (token, "AAAA", "not_a_token"),
            ("--zone", "--epoch 1h --zone", ""),
        ] {
            let (good, said) = ask(T + 30, &verify.replace(change, to), "");
            assert!(
                !good && said.starts_with("refused: ") && said.contains(reason),
                "{reason}: {said}"
            );
        }
        assert!(ask(T + 3_000, &verify, "").1.starts_with("refused: expired"));

        let (_, said) = ask(T, &format!("inspect {token}"), "");
        for part in [
            "http",
            "masked",
            "IPv4",
            "in 30 s",
            "Tue, 14 Nov 2023 22:13:50 GMT",
            "43 bytes",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
        // No key, and nothing of one, in whatever was printed.
        let keys = Tokens::new(
            Secret::new(SECRET.as_bytes()).unwrap(),
            Epochs::DEFAULT,
            UnixTime::from_secs(T),
        );
        for key in keys.kernel_keys().0.iter().filter(|key| key.valid == 1) {
            assert!(!said.contains(&format!("{:x}", key.k0)) && !said.contains(SECRET));
        }
    }

    /// Mistakes end in a message with the mend, not in a token that never opens.
    #[test]
    fn mistakes() {
        let secret = secret();
        let mint = "mint --secret SECRET --address 192.0.2.1 --zone shop --epoch 1m --wait 58s";
        assert!(matches!(edge(&secret, T, mint, ""), Err(Error::TooLong { .. })));
        assert!(matches!(edge(&secret, T, "inspect %%%", ""), Err(Error::NotText)));
        assert!(matches!(edge(&secret, T, "inspect AAAA", ""), Err(Error::NotText)));
        assert!(matches!(edge(&secret, T, "inspect -", "p6enp6en"), Err(Error::NotText)));
        let missing = "mint --secret /nonexistent/secret --address 192.0.2.1 --zone shop";
        assert!(matches!(edge(&secret, T, missing, ""), Err(Error::Secret(_))));
        for wrong in ["--epoch 1s", "--client 5", "--client +000000000000005", "--wait 5"] {
            let line = format!("token mint --secret s --address 192.0.2.1 --zone shop {wrong}");
            assert!(Line::try_parse_from(line.split(' ')).is_err(), "{wrong}");
        }
    }
}
