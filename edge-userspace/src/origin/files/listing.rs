//! What is in a directory, as a page: names, sizes and times, no more than [`MOST`] of them. Names
//! are text that somebody else may have chosen: they are escaped, and links to them begin with
//! `./`, so that none is taken for a scheme or a host.

use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, FileType};

use super::root::{Entry, Root, modified, size};
use crate::base::markup;

/// Names on a page: with 255 bytes each, as long as their escapes can be, 2.5 MB.
const MOST: usize = 1_000;
/// Names of a directory that are looked at: 5 MB, for as long as a page is made.
const LOOKED_AT: usize = 20_000;

/// One name.
struct Line {
    name: String,
    /// Directories come first.
    file: bool,
    size: u64,
    modified: SystemTime,
}

/// The page of `directory`, which is `below` its root: empty, or with a slash at its end. `path` is
/// what the client is told that it is called. `hidden` says of a name whether it is not served.
///
/// # Errors
/// It cannot be read.
pub(super) fn page(
    root: &Root,
    directory: &OwnedFd,
    (below, path): (&str, &str),
    hidden: fn(&str) -> bool,
) -> io::Result<Bytes> {
    let mut names = Vec::new();
    let mut more = false;
    for entry in Dir::read_from(directory)?.take(LOOKED_AT) {
        let entry = entry?;
        // What is not UTF-8 cannot be asked for.
        if let Ok(name) = entry.file_name().to_str()
            && !hidden(name)
        {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let mut lines = Vec::new();
    for (name, kind) in names {
        if lines.len() >= MOST {
            more = true;
            break;
        }
        lines.extend(line(root, directory, below, name, kind)?);
    }
    lines.sort_by_key(|line| line.file);
    Ok(written(path, below.is_empty(), &lines, more).into())
}

/// What is under `name`, if it is served.
fn line(root: &Root, directory: &OwnedFd, below: &str, name: String, kind: FileType) -> io::Result<Option<Line>> {
    let stat = match kind {
        FileType::RegularFile | FileType::Directory => {
            match rustix::fs::statat(directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // It went meanwhile.
                Err(_) => return Ok(None),
            }
        }
        // Links, and those of file systems that do not say: as they would be served.
        FileType::Symlink | FileType::Unknown => match root.find(&format!("{below}{name}"))? {
            Entry::File(found) => {
                return Ok(Some(Line {
                    name,
                    file: true,
                    size: found.size,
                    modified: found.modified,
                }));
            }
            Entry::Directory(found) => rustix::fs::fstat(&found)?,
            Entry::Nothing => return Ok(None),
        },
        _ => return Ok(None),
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    Ok(Some(Line {
        name,
        file: kind != FileType::Directory,
        size: size(&stat),
        modified: modified(&stat),
    }))
}

fn written(path: &str, top: bool, lines: &[Line], more: bool) -> String {
    let mut page = String::with_capacity(512 + lines.len() * 160);
    let title = escaped(path);
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>body{{font:1em/1.5 \
         monospace;margin:2em}}td{{padding-right:2em}}</style></head>\n<body><h1>{title}</h1>\n<table>\n"
    );
    if !top {
        page.push_str("<tr><td><a href=\"../\">../</a></td></tr>\n");
    }
    for Line {
        name,
        file,
        size,
        modified,
    } in lines
    {
        let slash = if *file { "" } else { "/" };
        let size = if *file { size.to_string() } else { String::new() };
        let (href, text) = (encoded(name), escaped(name));
        let time = httpdate::fmt_http_date((*modified).min(latest()));
        let _ = writeln!(
            page,
            "<tr><td><a href=\"./{href}{slash}\">{text}{slash}</a></td><td>{size}</td><td>{time}</td></tr>"
        );
    }
    page.push_str("</table>\n");
    if more {
        let _ = writeln!(page, "<p>The first {MOST} names; there are more.</p>");
    }
    page.push_str("</body></html>\n");
    page
}

/// HTTP's dates end with the year 9999, and httpdate panics beyond.
fn latest() -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799)
}

/// As text of HTML, and within its quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // What turns the direction of a text around would show another name (CVE-2021-42574).
        let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        markup::push(&mut escaped, if turns || c.is_control() { '\u{fffd}' } else { c });
    }
    escaped
}

/// As one segment of a path (RFC 3986 section 2.3: what is not unreserved is encoded).
fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(names: &[&str], directories: &[&str]) -> String {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(directory.path().join(name), "12345").unwrap();
        }
        for name in directories {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("/etc", directory.path().join("out")).unwrap();
        std::os::unix::fs::symlink(names.first().unwrap_or(&""), directory.path().join("in")).unwrap();
        let root = Root::open(directory.path()).unwrap();
        let Entry::Directory(opened) = root.find("").unwrap() else {
            panic!("the directory itself");
        };
        let page = super::page(&root, &opened, ("", "/a<b>/"), |name| name.starts_with('.')).unwrap();
        String::from_utf8(page.to_vec()).unwrap()
    }

    /// Who can write a file with a name of their choice would run script on the site, or lead
    /// visitors to another.
    #[test]
    fn names_are_text() {
        let page = page(
            &[
                "<script>alert(1)<\\",
                "\"onmouseover=x",
                "javascript:alert(1)",
                "a b?c#d%41",
                "\u{202e}gpj.exe",
                ".hidden",
            ],
            &["z", "sub dir"],
        );
        for expected in [
            "<a href=\"./%3Cscript%3Ealert%281%29%3C%5C\">&lt;script&gt;alert(1)&lt;\\</a>",
            "<a href=\"./%22onmouseover%3Dx\">&quot;onmouseover=x</a>",
            "<a href=\"./javascript%3Aalert%281%29\">javascript:alert(1)</a>",
            "<a href=\"./a%20b%3Fc%23d%2541\">a b?c#d%41</a></td><td>5</td>",
            "<a href=\"./sub%20dir/\">sub dir/</a></td><td></td>",
            "<title>/a&lt;b&gt;/</title>",
            "\u{fffd}gpj.exe</a>",
            "<a href=\"./in\">in</a></td><td>5</td>",
        ] {
            assert!(page.contains(expected), "{expected} in {page}");
        }
        for wrong in ["<script", "hidden", "\u{202e}", "./out", "href=\"../\""] {
            assert!(!page.contains(wrong), "{wrong} in {page}");
        }
        assert!(
            page.find("sub dir/").unwrap() < page.find("gpj.exe").unwrap(),
            "directories come first"
        );
    }

    /// A directory of a million files would fill the memory with a page that nobody reads.
    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..1_010).map(|n| format!("f{n:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let page = page(&names, &[]);
        assert_eq!(page.matches("<tr>").count(), MOST);
        assert!(page.contains("there are more") && page.contains("f0998") && !page.contains("f1009"));
    }
}
