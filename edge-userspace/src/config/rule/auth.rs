//! Who may pass a rule: names and passwords from a file as `htpasswd` writes it.

use std::collections::HashMap;
use std::fmt;

use http::HeaderValue;
use zeroize::Zeroizing;

/// Users of one file.
const USERS: usize = 10_000;

/// `auth.basic` (RFC 7617).
#[derive(Debug, PartialEq)]
pub struct Basic {
    /// By name.
    pub users: HashMap<Box<str>, Hash>,
    /// `WWW-Authenticate`, ready to be sent.
    pub challenge: HeaderValue,
    /// Whether the origin gets the credentials, too.
    pub forward: bool,
}

/// How a password was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `$2a$`, `$2b$`, `$2x$`, `$2y$`.
    Bcrypt,
    /// `$argon2id$`, `$argon2i$`, `$argon2d$`.
    Argon2,
    /// `$5$`, `$6$`: SHA-crypt.
    Sha,
}

/// The hash of a password; wiped when it goes.
#[derive(PartialEq)]
pub struct Hash {
    /// How it was made.
    pub scheme: Scheme,
    /// As the file has it, with salt and cost.
    pub text: Zeroizing<String>,
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({:?})", self.scheme)
    }
}

/// Reads lines `name:hash`; empty lines and `#` are passed over.
///
/// # Errors
/// The number of the first line that cannot be used, and why.
pub fn users(text: &str) -> Result<HashMap<Box<str>, Hash>, (usize, &'static str)> {
    let mut users = HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, hash) = line.split_once(':').ok_or((number, "no `:` between name and hash"))?;
        let scheme = match hash {
            _ if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|tag| hash.starts_with(tag)) => Scheme::Bcrypt,
            _ if hash.starts_with("$argon2") => Scheme::Argon2,
            _ if hash.starts_with("$5$") || hash.starts_with("$6$") => Scheme::Sha,
            _ => {
                return Err((
                    number,
                    "not a bcrypt, argon2 or SHA-crypt hash; MD5, SHA-1 and plain passwords are not taken",
                ));
            }
        };
        let text = Zeroizing::new(hash.to_owned());
        if name.is_empty() || users.insert(name.into(), Hash { scheme, text }).is_some() {
            return Err((number, "an empty name, or one that is there already"));
        }
        if users.len() > USERS {
            return Err((number, "more than 10,000 users"));
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A weak hash would pass for a sound one, or a user be missing with nobody told.
    #[test]
    fn files_are_read_whole_or_refused() {
        let text = "# staff\nann:$2y$05$abc\n\nbob:$argon2id$v=19$x\ncy:$6$salt$x\n";
        let users = super::users(text).unwrap();
        assert_eq!(users.len(), 3);
        assert_eq!(users["cy"].scheme, Scheme::Sha);
        assert!(!format!("{:?}", users["ann"]).contains("abc"), "no hash in a log");
        for (text, line) in [
            ("ann:$apr1$x$y", 1),
            ("a:$6$x$y\nann:secret", 2),
            ("ann", 1),
            (":$6$x$y", 1),
            ("a:$6$x$y\na:$6$x$y", 2),
            ("a:{SHA}x", 1),
        ] {
            assert_eq!(super::users(text).unwrap_err().0, line, "{text}");
        }
    }
}
