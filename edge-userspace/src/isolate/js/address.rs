//! URLs for the engine: the URL standard by the `url` crate, which browsers' cases are run against
//! (tests/urls.rs).

use url::{Url, quirks};

/// Bytes of a URL, in or out; longer ones are no URLs here.
const LONGEST: usize = 256 << 10;
/// Offsets into a URL that the prelude's `URL` cuts by.
pub const PARTS: usize = 10;

/// A URL as it is written, and where its parts are: scheme's end, user name, password and host from
/// and to, port from, path from and to.
#[derive(Debug)]
pub struct Address {
    /// The whole, in ASCII.
    pub href: String,
    /// Bytes from its beginning.
    pub parts: [i32; PARTS],
}

/// Parses `text`, below `base` if there is one.
pub fn parse(text: &str, base: Option<&str>) -> Option<Address> {
    if text.len() > LONGEST || base.is_some_and(|base| base.len() > LONGEST) {
        return None;
    }
    let url = match base {
        Some(base) => Url::options()
            .base_url(Some(&Url::parse(base).ok()?))
            .parse(text)
            .ok()?,
        None => Url::parse(text).ok()?,
    };
    address(url)
}

/// `href` with one of its parts set; `None` leaves it as it is.
pub fn set(href: &str, which: i32, value: &str) -> Option<Address> {
    if href.len().saturating_add(value.len()) > LONGEST {
        return None;
    }
    let mut url = Url::parse(href).ok()?;
    match which {
        1 => quirks::set_protocol(&mut url, value).ok()?,
        2 => quirks::set_username(&mut url, value).ok()?,
        3 => quirks::set_password(&mut url, value).ok()?,
        4 => quirks::set_host(&mut url, value).ok()?,
        5 => quirks::set_hostname(&mut url, value).ok()?,
        6 => quirks::set_port(&mut url, value).ok()?,
        7 => quirks::set_pathname(&mut url, value),
        8 => quirks::set_search(&mut url, value),
        9 => quirks::set_hash(&mut url, value),
        _ => return None,
    }
    // The crate takes the host away from a URL that has a password, and leaves what is no URL.
    (Url::parse(url.as_str()).as_ref() == Ok(&url)).then(|| address(url))?
}

/// The path of a file's URL with its drive letter in the normal form (URL standard, section 4.4,
/// "path state"), if it has it in the other.
fn drive(url: &Url) -> Option<String> {
    let path = url.path();
    let rest = path.get(3..).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    let quirky = url.scheme() == "file" && path.starts_with('/') && path.get(2..3) == Some("|");
    let letter = path
        .get(1..2)
        .filter(|letter| letter.as_bytes().iter().all(u8::is_ascii_alphabetic));
    letter.filter(|_| quirky).map(|letter| format!("/{letter}:{rest}"))
}

/// The offsets are counted from what the parts are: the crate's own slicing asserts what some URLs
/// without a host do not hold.
fn address(mut url: Url) -> Option<Address> {
    if let Some(path) = drive(&url) {
        url.set_path(&path);
    }
    let href = url.as_str();
    let scheme = url.scheme().len();
    let authority = url.has_authority();
    let user = scheme.checked_add(if authority { 3 } else { 1 })?;
    let user_end = user.checked_add(if authority { url.username().len() } else { 0 })?;
    let password = url.password().filter(|_| authority);
    let password_start = if password.is_some() {
        user_end.checked_add(1)?
    } else {
        user_end
    };
    let password_end = password_start.checked_add(password.map_or(0, str::len))?;
    let at_sign = authority && href.as_bytes().get(password_end) == Some(&b'@');
    let host = if at_sign {
        password_end.checked_add(1)?
    } else {
        password_end
    };
    let host_end = host.checked_add(url.host_str().filter(|_| authority).map_or(0, str::len))?;
    let after = href.get(host_end..)?;
    let path_end = host_end.checked_add(after.find(['?', '#']).unwrap_or(after.len()))?;
    let path = path_end.checked_sub(url.path().len())?;
    // With a port it stands between host and path.
    let port_end = if authority { path } else { host_end };
    let offsets = [
        scheme,
        user,
        user_end,
        password_start,
        password_end,
        host,
        host_end,
        port_end,
        path,
        path_end,
    ];
    // The crate writes a path that begins with two slashes, of a URL without a host, as if it were
    // the host.
    if !offsets.is_sorted() {
        return None;
    }
    let mut parts = [0; PARTS];
    for (to, from) in parts.iter_mut().zip(offsets) {
        *to = i32::try_from(from).ok()?;
    }
    let href = String::from(url);
    (href.len() <= LONGEST && href.is_ascii()).then_some(Address { href, parts })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A script would hold an address that no other call takes.
    #[test]
    fn what_a_part_is_set_to_leaves_a_url() {
        for href in ["a://:p@h/", "a://u@h/", "https://u:p@h:1/"] {
            for which in 1..=9 {
                for value in ["", "//", "@", ":", "h2"] {
                    let Some(set) = set(href, which, value) else { continue };
                    assert_eq!(parse(&set.href, None).unwrap().href, set.href, "{href} {which} {value}");
                }
            }
        }
        assert!(set("a://:p@h/", 5, "h2").is_some());
    }

    /// A script would read a path that begins within the scheme.
    #[test]
    fn parts_lie_one_behind_the_other() {
        let relative = ";,;;;;443/a/..!//..!/b?q#f";
        let base = "httpstps:/%2E./b?q#f\nhttpstps:/%2E.//";
        let hrefs = parse(relative, Some(base)).into_iter().map(|parsed| parsed.href);
        for href in hrefs.chain(["s:/a?q".to_owned(), "s:/.//a".to_owned(), "s:a".to_owned()]) {
            for which in 1..=9 {
                for value in [base, "//", "//b", "/.//", "/%2e//"] {
                    let Some(set) = set(&href, which, value) else { continue };
                    assert!(set.parts.is_sorted(), "{href} {which} {value}: {set:?}");
                    let again = parse(&set.href, None).unwrap();
                    assert_eq!(
                        (again.href, again.parts),
                        (set.href, set.parts),
                        "{href} {which} {value}"
                    );
                }
            }
        }
    }
}
