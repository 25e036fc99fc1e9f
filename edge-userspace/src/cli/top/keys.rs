//! Keys, out of the bytes that a terminal sends for them (ECMA-48 section 8.3, xterm's sequences).

/// What was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Character(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    Left,
    Right,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// Control and C.
    Interrupt,
}

/// Takes the keys off the front of `bytes`. What may be the beginning of one stays there, until
/// more comes or `whole` says that nothing will: then a lone ESC is the key of that name. A
/// sequence that is not known is no key.
pub(super) fn decode(bytes: &mut Vec<u8>, whole: bool) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((&first, after)) = rest.split_first() {
        rest = match first {
            0x1b => match sequence(after) {
                Sequence::Whole(key, after) => {
                    keys.extend(key);
                    after
                }
                Sequence::Part if whole => {
                    keys.push(Key::Escape);
                    after
                }
                Sequence::Part => break,
            },
            3 => push(&mut keys, Key::Interrupt, after),
            b'\t' => push(&mut keys, Key::Tab, after),
            b'\r' | b'\n' => push(&mut keys, Key::Enter, after),
            8 | 0x7f => push(&mut keys, Key::Backspace, after),
            0..=0x1f => after,
            _ => match character(rest) {
                Some((character, after)) => {
                    keys.extend(character.map(Key::Character));
                    after
                }
                None if whole => &[],
                None => break,
            },
        };
    }
    *bytes = rest.to_vec();
    keys
}

fn push<'a>(keys: &mut Vec<Key>, key: Key, after: &'a [u8]) -> &'a [u8] {
    keys.push(key);
    after
}

enum Sequence<'a> {
    Whole(Option<Key>, &'a [u8]),
    Part,
}

/// What comes after an ESC.
fn sequence(bytes: &[u8]) -> Sequence<'_> {
    let Some((&kind, after)) = bytes.split_first() else {
        return Sequence::Part;
    };
    if kind != b'[' && kind != b'O' {
        // Alt and a key, or the key ESC and another one: the other one counts by itself.
        return Sequence::Whole(Some(Key::Escape), bytes);
    }
    // Parameters, and the final byte that ends them.
    let Some(end) = after.iter().position(|byte| (0x40..=0x7e).contains(byte)) else {
        return if after.len() > 16 {
            Sequence::Whole(None, &[])
        } else {
            Sequence::Part
        };
    };
    let (parameters, last) = after.split_at(end);
    let (last, after) = last.split_first().unwrap_or((&0, &[]));
    let key = match (last, parameters) {
        (b'A', _) => Some(Key::Up),
        (b'B', _) => Some(Key::Down),
        (b'C', _) => Some(Key::Right),
        (b'D', _) => Some(Key::Left),
        (b'H', _) | (b'~', b"1" | b"7") => Some(Key::Home),
        (b'F', _) | (b'~', b"4" | b"8") => Some(Key::End),
        (b'Z', _) => Some(Key::BackTab),
        (b'~', b"5") => Some(Key::PageUp),
        (b'~', b"6") => Some(Key::PageDown),
        _ => None,
    };
    Sequence::Whole(key, after)
}

/// The first character of UTF-8; `Some(None)` for a byte that is none; `None` if more must come.
fn character(bytes: &[u8]) -> Option<(Option<char>, &[u8])> {
    let head = bytes.get(..bytes.len().min(4)).unwrap_or_default();
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() > 0 => {
            std::str::from_utf8(head.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(error) => match error.error_len() {
            None => return None,
            Some(wrong) => return Some((None, bytes.get(wrong..).unwrap_or_default())),
        },
    };
    let character = valid.chars().next()?;
    Some((Some(character), bytes.get(character.len_utf8()..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8], whole: bool) -> (Vec<Key>, Vec<u8>) {
        let mut bytes = bytes.to_vec();
        let keys = decode(&mut bytes, whole);
        (keys, bytes)
    }

    /// Over a slow link an arrow comes in pieces; it must not be taken for ESC and two letters.
    #[test]
    fn sequences_that_come_in_pieces() {
        assert_eq!(
            keys(b"q\x1b[A\x1bOD", false).0,
            [Key::Character('q'), Key::Up, Key::Left]
        );
        assert_eq!(keys(b"\x1b", false), (vec![], b"\x1b".to_vec()));
        assert_eq!(keys(b"\x1b[", false), (vec![], b"\x1b[".to_vec()));
        assert_eq!(keys(b"\x1b", true), (vec![Key::Escape], vec![]));
        assert_eq!(
            keys(b"\x1b[5~\x1b[6~\x1b[Z\x1b[1~\x1b[F", false).0,
            [Key::PageUp, Key::PageDown, Key::BackTab, Key::Home, Key::End]
        );
        assert_eq!(keys(b"\x1b[200~\x1b[1;5P", false), (vec![], vec![]));
    }

    /// A filter can be written in any script, and bytes that are no text do no harm.
    #[test]
    fn characters() {
        assert_eq!(keys("é".as_bytes(), false).0, [Key::Character('é')]);
        assert_eq!(keys(b"\xc3", false), (vec![], b"\xc3".to_vec()));
        assert_eq!(
            keys(b"\xff\x03\x7f\r\x01a", false).0,
            [Key::Interrupt, Key::Backspace, Key::Enter, Key::Character('a')]
        );
    }
}
