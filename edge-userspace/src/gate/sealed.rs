//! Passes as they go over the wire: sealed `token`s, and `replay` to spend them once. `node` makes
//! one for all zones.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Now;
use super::keys::{Epochs, KernelKeys, Secret};
use super::pass::{Opened, Pass, Passes, Spent, Used};
use super::replay::{Refusal, Replay};
use super::token::{self, Carrier, Claims, ClientId, Maturity, Tokens};
use crate::base::clock::UnixTime;
use crate::config::Mistake;
use crate::config::gate::{Node, Secret as Place};

/// Sealed tokens of one cluster, spent on this node.
pub struct Sealed {
    tokens: Arc<Tokens>,
    replay: Replay,
}

/// What a node makes its tokens with. Where `judges`, some zone has a gate: reads the cluster's
/// secret, or makes the node's own at its first start. Where none has, only session tickets carry
/// tokens: a secret that the cluster shares is read, so that its nodes resume each other's
/// sessions; without one, no file is touched, and tickets end with the process.
///
/// # Errors
/// The secret cannot be used, with its place in the file.
pub fn tokens(config: &Node, judges: bool, now: UnixTime) -> Result<Arc<Tokens>, Mistake> {
    let secret = match &config.secret {
        Place::File(path, place) => Secret::read(path).map_err(|e| e.mistake(place)),
        Place::Own(directory, place) if judges => Secret::read_or_create(directory).map_err(|e| e.mistake(place)),
        Place::Own(_, place) => Secret::random().map_err(|e| e.mistake(place)),
    }?;
    // The configuration keeps to these bounds; the fallback is within them.
    let epochs = Epochs::new(config.key_epoch).unwrap_or(Epochs::DEFAULT);
    Ok(Arc::new(Tokens::new(secret, epochs, now)))
}

/// Whether [`tokens`] will find its secret, or can make one. Nothing is made.
///
/// # Errors
/// As [`tokens`].
pub fn check(config: &Node, judges: bool) -> Result<(), Mistake> {
    match &config.secret {
        Place::File(path, place) => Secret::read(path).map(drop).map_err(|e| e.mistake(place)),
        Place::Own(directory, place) if judges => Secret::check(directory).map_err(|e| e.mistake(place)),
        Place::Own(..) => Ok(()),
    }
}

/// Tokens that end with the process, for what is built only to see whether it can be.
///
/// # Errors
/// The system gives no randomness.
pub fn throwaway(config: &Node, now: UnixTime) -> Result<Arc<Tokens>, Mistake> {
    let (Place::File(_, place) | Place::Own(_, place)) = &config.secret;
    let secret = Secret::random().map_err(|e| e.mistake(place))?;
    Ok(Arc::new(Tokens::new(secret, Epochs::DEFAULT, now)))
}

/// Whether the secret of [`tokens`] is the same after a restart.
pub const fn lasts(config: &Node, judges: bool) -> bool {
    judges || matches!(config.secret, Place::File(..))
}

impl Sealed {
    /// With `tokens` of [`tokens`].
    pub fn new(config: &Node, tokens: Arc<Tokens>) -> Self {
        let replay = Replay::new(tokens.epochs(), config.used_tokens);
        Self { tokens, replay }
    }

    /// Moves to the keys of `now`; those for the kernel if that changed anything. Every few
    /// seconds.
    pub fn rotate(&self, now: Now) -> Option<KernelKeys> {
        self.replay.sweep(now);
        self.tokens.rotate(UnixTime::from(now.unix))
    }

    /// The keys for the kernel now.
    pub fn kernel_keys(&self) -> KernelKeys {
        self.tokens.kernel_keys()
    }
}

impl Passes for Sealed {
    fn client(&self) -> u64 {
        ClientId::fresh().0
    }

    fn zone(&self, name: &str) -> u64 {
        token::zone_id(name)
    }

    fn mint(&self, now: Now, address: IpAddr, pass: &Pass) -> String {
        let claims = Claims {
            client: ClientId(pass.client),
            zone: pass.zone,
            not_before: pass.not_before,
            expires: pass.expires,
            carrier: Carrier::Http,
            place: pass.packed_place(),
            strikes: pass.strikes,
            early: pass.early,
        };
        token::to_text(&self.tokens.mint(UnixTime::from(now.unix), address, &claims))
    }

    fn open(&self, now: Now, address: IpAddr, text: &str) -> Option<Opened> {
        let token = token::from_text(text)?;
        let opened = self.open_at(now.unix, address, &token);
        // What was written before the clock jumped is read by the clock of then: if it is void by
        // the present one, or if the wait it tells looks longer by about as much as the clock has
        // jumped.
        let told = |ahead: i64| {
            let left = opened.map_or(Some(Duration::MAX), |opened| opened.early);
            left.is_some_and(|left| left > Duration::from_millis(ahead.unsigned_abs() / 2))
        };
        let jumps = now.ahead.into_iter().filter(|ahead| *ahead != 0 && told(*ahead));
        let mut before = jumps.filter_map(|ahead| {
            let unix = match u64::try_from(ahead) {
                Ok(ahead) => now.unix.saturating_add(Duration::from_millis(ahead)),
                Err(_) => now.unix.saturating_sub(Duration::from_millis(ahead.unsigned_abs())),
            };
            let opened = self.open_at(unix, address, &token)?;
            Some(Opened {
                pass: opened.pass.moved(ahead),
                ..opened
            })
        });
        before.next().or(opened)
    }

    fn is_spent(&self, admission: u64) -> bool {
        self.replay.is_spent(admission)
    }

    fn spend(&self, now: Now, zone: u64, admission: u64, expires: u32) -> Spent {
        // No token outlives the keys that there are.
        let last = self
            .tokens
            .epochs()
            .last_expiry(self.tokens.epochs().at(UnixTime::from(now.unix)));
        match self.replay.spend(now, zone, admission, expires.min(last.stamp())) {
            Ok(()) => Spent::Now,
            Err(Refusal::Used | Refusal::OutOfRange) => Spent::Before,
            // Admitting what cannot be remembered would admit it again and again.
            Err(Refusal::Full) => Spent::Full,
        }
    }

    fn used(&self) -> Used {
        let (remembered, room, refused) = self.replay.fill();
        Used {
            remembered,
            room,
            refused,
        }
    }
}

impl Sealed {
    /// What a token says by the wall clock `unix`.
    fn open_at(&self, unix: Duration, address: IpAddr, token: &[u8; token::LENGTH]) -> Option<Opened> {
        let (opened, home) = self.tokens.open_from(UnixTime::from(unix), address, token).ok()?;
        let token::Opened { claims, maturity, .. } = opened;
        if claims.carrier != Carrier::Http {
            return None;
        }
        let (kind, place) = Pass::unpack_place(claims.place)?;
        Some(Opened {
            pass: Pass {
                client: claims.client.0,
                zone: claims.zone,
                not_before: claims.not_before,
                expires: claims.expires,
                kind,
                place,
                strikes: claims.strikes,
                early: claims.early,
            },
            early: match maturity {
                Maturity::Mature => None,
                Maturity::Early { wait } => Some(wait),
            },
            home: home == token::Home::Here,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Clock;
    use super::super::pass::Kind;
    use super::*;

    fn sealed(directory: &std::path::Path) -> Sealed {
        let text = format!("[server]\nhttp = [\"127.0.0.1:80\"]\n[gate]\nstate_directory = {directory:?}\n");
        let zone = "[[zone]]\nname = \"a\"\nhosts = [\"a\"]\n[zone.origin]\nservers = [{ address = \"http://a\" }]\n";
        let config = crate::config::Config::parse(std::path::Path::new("edge.toml"), &(text + zone)).unwrap();
        Sealed::new(&config.gate, tokens(&config.gate, true, UnixTime::now()).unwrap())
    }

    /// Waits kept while the clock was wrong would be void when it is right, for who came before it
    /// was and for who came after.
    #[test]
    fn a_clock_that_jumped_voids_no_wait() {
        let directory = tempfile::tempdir().unwrap();
        let sealed = sealed(directory.path());
        let right = Clock::new().now();
        let home: IpAddr = "192.0.2.1".parse().unwrap();
        let days = Duration::from_secs(3 * 86_400);
        let written = |now: Now| {
            let pass = Pass {
                client: 7,
                zone: 1,
                not_before: now.second_after(Duration::from_secs(5)),
                expires: now.second_after(Duration::from_secs(600)),
                kind: Kind::Wait,
                place: now.unix_ms(),
                strikes: 0,
                early: 0,
            };
            sealed.mint(now, home, &pass)
        };
        for wrong in [right.unix + days, right.unix - days] {
            let before = Now { unix: wrong, ..right };
            let token = written(before);
            let ahead = wrong.as_millis() as i64 - right.unix.as_millis() as i64;
            let after = Now {
                ahead: [ahead, 0],
                ..right
            };
            let opened = sealed.open(after, home, &token).unwrap();
            assert!(opened.early.is_some_and(|left| left <= Duration::from_secs(6)));
            assert!(opened.pass.place.abs_diff(right.unix_ms()) < 1_000);
            let later = Now {
                unix: right.unix + Duration::from_secs(6),
                ..after
            };
            assert_eq!(sealed.open(later, home, &token).unwrap().early, None);
            // What is written now keeps its own wait.
            let fresh = sealed.open(after, home, &written(right)).unwrap();
            assert!(fresh.early.is_some_and(|left| left > Duration::from_secs(4)));
        }
    }

    /// What the gate writes into a cookie it must read back on any node of the cluster, and know
    /// whence it comes.
    #[test]
    fn there_and_back_across_nodes() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (sealed(directory.path()), sealed(directory.path()));
        let now = Clock::new().now();
        let pass = Pass {
            client: one.client(),
            zone: one.zone("a"),
            not_before: now.second_after(Duration::from_secs(60)),
            expires: now.second_after(Duration::from_secs(600)),
            kind: Kind::Wait,
            place: now.unix_ms(),
            strikes: 3,
            early: 2,
        };
        let home: IpAddr = "192.0.2.1".parse().unwrap();
        let text = one.mint(now, home, &pass);
        let opened = two.open(now, home, &text).unwrap();
        assert_eq!(opened.pass, pass);
        assert!(opened.early.is_some_and(|left| left > Duration::from_secs(50)));
        let away = two.open(now, "2001:db8::1".parse().unwrap(), &text).unwrap();
        assert_eq!((away.pass, away.home, opened.home), (pass, false, true));
        let altered = text.replace(&text[60..62], if &text[60..62] == "AA" { "BB" } else { "AA" });
        assert_eq!(two.open(now, home, &altered), None);
        assert!(!two.is_spent(pass.admission()));
        let spend = || two.spend(now, pass.zone, pass.admission(), pass.expires);
        assert_eq!(
            (spend(), spend()),
            (Spent::Now, Spent::Before),
            "one wait is one admission"
        );
    }
}
