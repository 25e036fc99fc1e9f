//! Static files: a zone's directory as its origin. Paths are resolved by the kernel beneath the
//! directory (openat2), so neither `..` nor a symbolic link leads out; reading happens off the
//! event loop, a bounded chunk at a time.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, StatusCode, request};
use http_body::{Frame, SizeHint};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use tokio::task::JoinHandle;

use super::conditions::{self, Span, Validators, Verdict};
use super::media;
use crate::http::body::{Body, BodyError};
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
    File {
        file: File,
        size: u64,
        modified: SystemTime,
        content_type: Cow<'static, str>,
        /// Read at once, when it is small.
        whole: Option<Bytes>,
    },
    /// A directory that was asked for without its slash.
    Directory,
    Nothing,
}

/// Answers `head` from `directory`.
///
/// # Errors
/// When nothing is there, or it cannot be read.
pub(super) async fn serve(directory: &Path, head: &request::Parts) -> Result<Response, Failure> {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        let mut response = Response::new(StatusCode::METHOD_NOT_ALLOWED, Body::Empty);
        response
            .head
            .headers
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    let nothing = || Failure::new(Reason::NotFound, "no such file");
    let path = resolve(head.uri.path()).ok_or_else(nothing)?;
    let root = directory.to_owned();
    let reads = head.method == Method::GET;
    let found = tokio::task::spawn_blocking(move || find(&root, &path, reads))
        .await
        .map_err(|_| Failure::new(Reason::Internal, "reading a file was cut off"))?;
    match found {
        Err(error) => Err(Failure::new(Reason::Internal, format!("reading a file: {error}"))),
        Ok(Found::Nothing) => Err(nothing()),
        Ok(Found::Directory) => redirect(head).ok_or_else(nothing),
        Ok(Found::File {
            file,
            size,
            modified,
            content_type,
            whole,
        }) => Ok(answer(head, file, size, modified, content_type, whole)),
    }
}

/// The path relative to the directory, decoded once (RFC 3986 section 2.1); `None` for what cannot
/// be a file of ours. An empty file name stands for the index.
fn resolve(path: &str) -> Option<String> {
    let mut relative = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let name = decode(segment)?;
        if (name.starts_with('.') && name != WELL_KNOWN) || name.contains(['/', '\0']) {
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

fn find(root: &Path, path: &str, reads: bool) -> io::Result<Found> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    let open = |path: &str| {
        // NONBLOCK: opening a FIFO must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)
    };
    let slash = path.is_empty() || path.ends_with('/');
    let index;
    let name = if slash {
        index = format!("{path}index.html");
        &index
    } else {
        path
    };
    let file = match open(name) {
        Ok(file) => file,
        Err(
            rustix::io::Errno::NOENT
            | rustix::io::Errno::NOTDIR
            | rustix::io::Errno::XDEV
            | rustix::io::Errno::LOOP
            | rustix::io::Errno::ACCESS
            | rustix::io::Errno::NAMETOOLONG
            | rustix::io::Errno::INVAL
            | rustix::io::Errno::NXIO,
        ) => return Ok(Found::Nothing),
        Err(error) => return Err(error.into()),
    };
    let stat = rustix::fs::fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        // Without an index there is nothing under the path with its slash either.
        FileType::Directory if !slash => {
            let index = open(&format!("{path}/index.html"));
            return Ok(index.map_or(Found::Nothing, |_| Found::Directory));
        }
        _ => return Ok(Found::Nothing),
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let modified = UNIX_EPOCH
        + Duration::new(
            u64::try_from(stat.st_mtime).unwrap_or(0),
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0).min(999_999_999),
        );
    let content_type = media::of(name);
    let file = File::from(file);
    let whole = if reads && size <= CHUNK {
        Some(read(&file, 0, size)?)
    } else {
        None
    };
    Ok(Found::File {
        file,
        size,
        modified,
        content_type,
        whole,
    })
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

fn answer(
    head: &request::Parts,
    file: File,
    size: u64,
    modified: SystemTime,
    content_type: Cow<'static, str>,
    whole: Option<Bytes>,
) -> Response {
    let validators = Validators::new(size, modified);
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
    if let Some(span) = span {
        if let Ok(content_type) = HeaderValue::try_from(content_type.as_ref()) {
            headers.insert(header::CONTENT_TYPE, content_type);
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
