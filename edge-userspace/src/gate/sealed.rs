//! Passes as they go over the wire: sealed `token`s, and `replay` to spend them once. `node` makes one for all zones.

use std::net::IpAddr;
use std::sync::Arc;

use super::clock::Now;
use super::keys::{Epochs, KernelKeys, Secret};
use super::pass::{Opened, Pass, Passes};
use super::replay::Replay;
use super::token::{self, Carrier, Claims, ClientId, Maturity, Tokens};
use crate::base::clock::UnixTime;
use crate::config::Mistake;
use crate::config::gate::{Node, Secret as Place};

/// Sealed tokens of one cluster, spent on this node.
pub struct Sealed {
    tokens: Arc<Tokens>,
    replay: Replay,
}

/// What a node makes its tokens with. Where `judges`, some zone has a gate: reads the cluster's secret, or makes the node's own
/// at its first start. Where none has, only session tickets carry tokens: a secret that the cluster shares is read, so that
/// its nodes resume each other's sessions; without one, no file is touched, and tickets end with the process.
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

    /// Moves to the keys of `now`; those for the kernel if that changed anything. Every few seconds.
    pub fn rotate(&self, now: UnixTime) -> Option<KernelKeys> {
        self.replay.sweep(now);
        self.tokens.rotate(now)
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
        let token::Opened { claims, maturity, .. } =
            self.tokens.open(UnixTime::from(now.unix), address, &token).ok()?;
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
        })
    }

    fn spend(&self, now: Now, admission: u64, expires: u32) -> bool {
        // A full memory refuses: admitting what cannot be remembered would admit it again and again.
        self.replay.spend(UnixTime::from(now.unix), admission, expires).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Clock;
    use super::super::pass::Kind;
    use super::*;
    use std::time::Duration;

    fn sealed(directory: &std::path::Path) -> Sealed {
        let text = format!("[server]\nhttp = [\"127.0.0.1:80\"]\n[gate]\nstate_directory = {directory:?}\n");
        let zone = "[[zone]]\nname = \"a\"\nhosts = [\"a\"]\n[zone.origin]\nservers = [{ address = \"http://a\" }]\n";
        let config = crate::config::Config::parse(std::path::Path::new("edge.toml"), &(text + zone)).unwrap();
        Sealed::new(&config.gate, tokens(&config.gate, true, UnixTime::now()).unwrap())
    }

    /// What the gate writes into a cookie it must read back on any node of the cluster, and from no other address.
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
        assert_eq!(two.open(now, "192.0.2.2".parse().unwrap(), &text), None);
        assert!(two.spend(now, pass.admission(), pass.expires));
        assert!(
            !two.spend(now, pass.admission(), pass.expires),
            "one wait is one admission"
        );
    }
}
