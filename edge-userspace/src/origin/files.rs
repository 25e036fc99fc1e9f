//! Static files: a zone's directory as its origin. `root` finds what is under a path, beneath the
//! directory, `listing` shows what is in one; reading happens off the event loop, a bounded chunk
//! at a time.

mod listing;
mod root;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode, request};
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use self::root::{Entry, Regular, Root};
use super::conditions::{self, Span, Validators, Verdict};
use super::media;
use crate::base::glob;
use crate::config::coding::Encoding;
use crate::config::files::{Fallback, Files};
use crate::http::body::{Body, BodyError};
use crate::http::codings::{self, Accepted};
use crate::http::handler::{Failure, Reason};
use crate::http::message::Response;

/// Read at once; of each response twice as much is held at most (one chunk on its way, one read
/// ahead).
const CHUNK: u64 = 64 << 10;

/// Names that start with a dot are hidden, but for this one (RFC 8615), which certificates are
/// issued by.
const WELL_KNOWN: &str = ".well-known";

/// What was found under a path.
enum Found {
    File(Picked),
    /// A directory that was asked for without its slash.
    Directory,
    /// What is in a directory, as a page.
    Listing(Bytes),
    Nothing,
}

/// A file that answers.
struct Picked {
    /// Its path below the directory, without what its coding adds.
    name: String,
    file: Regular,
    /// It holds the file of that name in this coding.
    coding: Option<Encoding>,
    /// Read at once, when it is small.
    whole: Option<Bytes>,
}

/// What a request says of which file it takes.
struct Asked {
    /// Relative, decoded; empty, or with a slash at its end, for a directory.
    path: String,
    accepted: Accepted,
    /// Content is wanted.
    reads: bool,
}

/// Answers `head` from `directory`, as `files` says.
///
/// # Errors
/// When nothing is there, or it cannot be read.
pub(super) async fn serve(directory: &Path, files: &Arc<Files>, head: &request::Parts) -> Result<Response, Failure> {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        let mut response = Response::new(StatusCode::METHOD_NOT_ALLOWED, Body::Empty);
        response
            .head
            .headers
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    let nothing = || Failure::new(Reason::NotFound, "no such file");
    let asked = Asked {
        path: resolve(head.uri.path()).ok_or_else(nothing)?,
        accepted: match files.precompressed.is_empty() {
            true => Accepted::default(),
            false => Accepted::of(&head.headers),
        },
        reads: head.method == Method::GET,
    };
    let (root, served) = (directory.to_owned(), files.clone());
    let found = tokio::task::spawn_blocking(move || find(&root, &served, &asked))
        .await
        .map_err(|_| Failure::new(Reason::Internal, "reading a file was cut off"))?;
    match found {
        Err(error) => Err(Failure::new(Reason::Internal, format!("reading a file: {error}"))),
        Ok(Found::Nothing) => Err(nothing()),
        Ok(Found::Directory) => redirect(head).ok_or_else(nothing),
        Ok(Found::Listing(page)) => Ok(listed(head, page)),
        Ok(Found::File(picked)) => Ok(answer(head, files, picked)),
    }
}

/// Whether what is called so is not served.
fn hidden(name: &str) -> bool {
    name.starts_with('.') && name != WELL_KNOWN
}

/// The path relative to the directory, decoded once (RFC 3986 section 2.1); `None` for what cannot
/// be a file of ours. An empty file name stands for the index.
fn resolve(path: &str) -> Option<String> {
    let mut relative = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let name = decode(segment)?;
        if hidden(&name) || name.contains(['/', '\0']) {
            return None;
        }
        relative.push_str(&name);
        relative.push('/');
    }
    if !path.ends_with('/') {
        relative.pop();
    }
    Some(relative)
}

fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    let digit = |b: u8| char::from(b).to_digit(16);
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next()?)? << 4 | digit(rest.next()?)?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// What answers: the file of that path; its index, or a list, for a directory; else the first of
/// what the operator names in its place.
fn find(root: &Path, files: &Files, asked: &Asked) -> io::Result<Found> {
    let root = Root::open(root)?;
    let path = asked.path.as_str();
    if path.is_empty() || path.ends_with('/') {
        for index in &files.index {
            let name = format!("{path}{index}");
            if let Entry::File(file) = root.find(&name)? {
                return pick(&root, files, asked, name, file);
            }
        }
        if files.listing
            && let Entry::Directory(directory) = root.find(path)?
        {
            let page = listing::page(&root, &directory, (path, &format!("/{path}")), hidden)?;
            return Ok(Found::Listing(page));
        }
    } else {
        match root.find(path)? {
            Entry::File(file) => return pick(&root, files, asked, path.to_owned(), file),
            // Without an index there is nothing under the path with its slash either.
            Entry::Directory(_) if files.listing => return Ok(Found::Directory),
            Entry::Directory(_) => {
                for index in &files.index {
                    if !matches!(root.find(&format!("{path}/{index}"))?, Entry::Nothing) {
                        return Ok(Found::Directory);
                    }
                }
            }
            Entry::Nothing => {}
        }
    }
    for fallback in &files.fallbacks {
        let name = match fallback {
            Fallback::File(name) => name.to_string(),
            Fallback::Ending(_) if path.is_empty() => continue,
            Fallback::Ending(ending) => format!("{}{ending}", path.trim_end_matches('/')),
        };
        if let Entry::File(file) = root.find(&name)? {
            return pick(&root, files, asked, name, file);
        }
    }
    Ok(Found::Nothing)
}

/// The form of `file` that the client takes best.
fn pick(root: &Root, files: &Files, asked: &Asked, name: String, file: Regular) -> io::Result<Found> {
    let mut picked = Picked {
        name,
        file,
        coding: None,
        whole: None,
    };
    let mut left = files.precompressed.clone();
    while let Some(coding) = asked.accepted.choose(&left) {
        let coded = match root.find(&format!("{}{}", picked.name, ending(coding)))? {
            // Of an earlier version, perhaps.
            Entry::File(coded) => (coded.modified >= picked.file.modified).then_some(coded),
            Entry::Directory(_) | Entry::Nothing => None,
        };
        if let Some(coded) = coded {
            picked.file = coded;
            picked.coding = Some(coding);
            break;
        }
        left.retain(|other| *other != coding);
    }
    let size = picked.file.size;
    if asked.reads && size <= CHUNK {
        picked.whole = Some(read(&picked.file.file, 0, size)?);
    }
    Ok(Found::File(picked))
}

/// What the name of a file's form in a coding has at its end.
fn ending(coding: Encoding) -> &'static str {
    match coding {
        Encoding::Zstd => ".zst",
        Encoding::Br => ".br",
        Encoding::Gzip => ".gz",
    }
}

/// Exactly `n` bytes from `at`; a file that has become shorter is an error, as its length has been
/// told.
fn read(file: &File, at: u64, n: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; usize::try_from(n).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut buffer, at)?;
    Ok(buffer.into())
}

/// 308 to the path with its slash, so that relative links of the index work. Built from the
/// segments: a path such as `//other.example` would name another host.
fn redirect(head: &request::Parts) -> Option<Response> {
    let mut location = String::new();
    for segment in head.uri.path().split('/').filter(|segment| !segment.is_empty()) {
        location.push('/');
        location.push_str(segment);
    }
    location.push('/');
    if let Some(query) = head.uri.query() {
        location.push('?');
        location.push_str(query);
    }
    let mut response = Response::new(StatusCode::PERMANENT_REDIRECT, Body::Empty);
    response
        .head
        .headers
        .insert(header::LOCATION, HeaderValue::from_str(&location).ok()?);
    Some(response)
}

/// A page that shows what is in a directory. Its names are other people's text: whatever a browser
/// makes of them, nothing runs.
fn listed(head: &request::Parts, page: Bytes) -> Response {
    let length = page.len();
    let body = match head.method == Method::GET {
        true => Body::from(page),
        false => Body::Empty,
    };
    let mut response = Response::new(StatusCode::OK, body);
    let headers = &mut response.head.headers;
    let fields: [(HeaderName, &'static str); 4] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fields {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn answer(head: &request::Parts, files: &Files, picked: Picked) -> Response {
    let Picked {
        name,
        file: Regular { file, size, modified },
        coding,
        whole,
    } = picked;
    // Ranges and tags are of the form that is sent (RFC 9110 section 8.8.3: a strong tag is of one
    // coding).
    let validators = Validators::new(size, modified, coding.map(codings::token));
    let verdict = conditions::judge(&head.method, &head.headers, &validators, size);
    let (status, span) = match verdict {
        Verdict::Whole => (StatusCode::OK, Some(Span { from: 0, length: size })),
        Verdict::Part(span) => (StatusCode::PARTIAL_CONTENT, Some(span)),
        Verdict::NotModified => (StatusCode::NOT_MODIFIED, None),
        Verdict::Failed => (StatusCode::PRECONDITION_FAILED, None),
        Verdict::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
    };
    let body = match span {
        Some(span) if head.method == Method::GET => content(file, span, whole),
        _ => Body::Empty,
    };
    let mut response = Response::new(status, body);
    let headers = &mut response.head.headers;
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if !files.precompressed.is_empty() {
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if matches!(verdict, Verdict::Failed | Verdict::Unsatisfiable) {
        if verdict == Verdict::Unsatisfiable
            && let Ok(range) = HeaderValue::from_str(&format!("bytes */{size}"))
        {
            headers.insert(header::CONTENT_RANGE, range);
        }
        return response;
    }
    headers.insert(header::ETAG, validators.etag.clone());
    headers.insert(header::LAST_MODIFIED, validators.last_modified.clone());
    let path = format!("/{name}");
    if let Some((_, value)) = files
        .cache_control
        .iter()
        .find(|(pattern, _)| glob::begins(pattern, &path))
    {
        headers.insert(header::CACHE_CONTROL, value.clone());
    }
    if let Some(span) = span {
        if let Ok(content_type) = HeaderValue::try_from(media::of(&name).as_ref()) {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        if let Some(coding) = coding {
            let token = HeaderValue::from_static(codings::token(coding));
            headers.insert(header::CONTENT_ENCODING, token);
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(span.length));
        if let Verdict::Part(span) = verdict {
            let last = span.from + span.length - 1;
            if let Ok(range) = HeaderValue::from_str(&format!("bytes {}-{last}/{size}", span.from)) {
                headers.insert(header::CONTENT_RANGE, range);
            }
        }
    }
    response
}

fn content(file: File, span: Span, whole: Option<Bytes>) -> Body {
    let end = span.from + span.length;
    if let Some(whole) = whole {
        let bounds = usize::try_from(span.from).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
        return if bounds.end <= whole.len() {
            whole.slice(bounds).into()
        } else {
            Body::Empty
        };
    }
    if span.length == 0 {
        return Body::Empty;
    }
    let mut reader = Reader {
        file: Arc::new(file),
        at: span.from,
        end,
        left: span.length,
        next: None,
    };
    reader.read_ahead();
    Body::boxed(reader)
}

/// A file's content, one chunk read ahead of what was asked for.
struct Reader {
    file: Arc<File>,
    /// Where the next read begins.
    at: u64,
    end: u64,
    /// Not handed on yet.
    left: u64,
    next: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Reader {
    fn read_ahead(&mut self) {
        let (file, at, n) = (self.file.clone(), self.at, CHUNK.min(self.end - self.at));
        if n > 0 {
            self.at += n;
            self.next = Some(tokio::task::spawn_blocking(move || read(&file, at, n)));
        }
    }
}

impl http_body::Body for Reader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(next) = &mut this.next else {
            return Poll::Ready(None);
        };
        let outcome = ready!(Pin::new(next).poll(cx));
        this.next = None;
        let chunk = outcome
            .map_err(io::Error::other)
            .and_then(|chunk| chunk)
            .map_err(BodyError::File);
        if let Ok(chunk) = &chunk {
            this.left -= chunk.len() as u64;
            this.read_ahead();
        }
        Poll::Ready(Some(chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
