//! Media types of files by the end of their names (RFC 9110 section 8.3), as IANA has them
//! registered. `files` asks. Pure.
//!
//! The table is that of `mime_guess`; in front of it stands what that one has otherwise than the
//! registry, or as browsers do not take it: types that were registered later, and scripts.

use std::borrow::Cow;

/// What nothing is known of (RFC 2046 section 4.5.1).
const UNKNOWN: &str = "application/octet-stream";

/// Before the table.
const OURS: [(&str, &str); 40] = [
    ("aac", "audio/aac"),
    ("cjs", "text/javascript"),
    ("eot", "application/vnd.ms-fontobject"),
    ("flac", "audio/flac"),
    ("glb", "model/gltf-binary"),
    ("ico", "image/x-icon"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("jsonl", "application/jsonl"),
    ("jxl", "image/jxl"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4s", "video/iso.segment"),
    ("m4v", "video/mp4"),
    ("map", "application/json"),
    ("md", "text/markdown"),
    ("mid", "audio/midi"),
    ("midi", "audio/midi"),
    ("mjs", "text/javascript"),
    ("mk3d", "video/matroska-3d"),
    ("mka", "audio/matroska"),
    ("mkv", "video/matroska"),
    ("mp3", "audio/mpeg"),
    ("mpd", "application/dash+xml"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("sfnt", "font/sfnt"),
    ("toml", "application/toml"),
    ("ts", "video/mp2t"),
    ("ttf", "font/ttf"),
    ("ttml", "application/ttml+xml"),
    ("vcf", "text/vcard"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "application/xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zst", "application/zstd"),
];

/// `Content-Type` of a file called `name`. Text is taken for UTF-8.
pub(super) fn of(name: &str) -> Cow<'static, str> {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let ours = OURS.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known));
    let kind = match ours {
        Some((_, kind)) => kind,
        None => table(extension),
    };
    if kind.starts_with("text/") {
        Cow::Owned(format!("{kind}; charset=utf-8"))
    } else {
        Cow::Borrowed(kind)
    }
}

fn table(extension: &str) -> &'static str {
    mime_guess::from_ext(extension).first_raw().unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong type is a video without subtitles, a script that is not run, a download instead of a
    /// page.
    #[test]
    fn registered() {
        for (name, kind) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a.min.JS", "text/javascript; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.vtt", "text/vtt; charset=utf-8"),
            ("a.m3u8", "application/vnd.apple.mpegurl"),
            ("a.mpd", "application/dash+xml"),
            ("a.ts", "video/mp2t"),
            ("a.mov", "video/quicktime"),
            ("a.mp4", "video/mp4"),
            ("a.m4a", "audio/mp4"),
            ("a.ogg", "audio/ogg"),
            ("a.otf", "font/otf"),
            ("a.woff", "font/woff"),
            ("a.svg", "image/svg+xml"),
            ("a.avif", "image/avif"),
            ("a.ttml", "application/ttml+xml"),
            ("a.MKV", "video/matroska"),
            ("a.vcf", "text/vcard; charset=utf-8"),
            ("a.xhtml", "application/xhtml+xml"),
            ("a.pdf", "application/pdf"),
            (
                "a.docx",
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            ),
            ("a.tar.gz", "application/gzip"),
            ("a.b/c", UNKNOWN),
            ("LICENSE", UNKNOWN),
            ("a.", UNKNOWN),
        ] {
            assert_eq!(of(name), kind, "{name}");
        }
    }
}
