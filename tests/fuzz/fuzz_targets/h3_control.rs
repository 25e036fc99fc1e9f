//! A client's streams of one direction: the type, and frames of the control stream. Whole or in
//! pieces, what is told and the verdict are the same.
//!
//! Input: the length of pieces, and the stream with its type.
#![no_main]

use edge::http::h3::code::Code;
use edge::http::h3::streams::{Control, Front, Told, Use};
use libfuzzer_sys::fuzz_target;

fn read(data: &[u8], size: usize) -> (Option<Use>, Vec<Told>, Option<Code>) {
    let (mut front, mut control, mut what, mut told) = (Front::default(), Control::default(), None, Vec::new());
    for mut piece in data.chunks(size.max(1)) {
        if what.is_none() {
            match front.read(piece) {
                Ok(Some((kind, used))) => {
                    what = Some(kind);
                    piece = &piece[used..];
                }
                Ok(None) => continue,
                Err(code) => return (what, told, Some(code)),
            }
        }
        if what == Some(Use::Control) {
            match control.pass(piece) {
                Ok(more) => told.extend(more),
                Err(code) => return (what, Vec::new(), Some(code)),
            }
        }
    }
    (what, told, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, data)) = data.split_first() else { return };
    assert_eq!(read(data, data.len()), read(data, usize::from(size)));
});
