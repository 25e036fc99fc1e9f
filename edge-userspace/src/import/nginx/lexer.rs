//! Words, `;`, `{` and `}` of nginx's configuration, as nginx's own reader divides them
//! (ngx_conf_read_token of src/core/ngx_conf_file.c): two kinds of quotes, backslashes, `#` only in
//! front of a word, `${` within one. Read by `syntax`.

use super::Wrong;

/// Bytes of a word. nginx's buffer has 4,096.
const WORD: usize = 16 << 10;

/// A piece of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name or an argument, without its quotes and escapes.
    Word(String),
    /// `;`
    End,
    /// `{`
    Open,
    /// `}`
    Close,
}

/// Divides a text.
pub(super) struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: text.strip_prefix('\u{feff}').unwrap_or(text),
            line: 1,
        }
    }

    /// The line that is read next, from 1.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The next piece and the line that it begins on; `None` at the end.
    ///
    /// # Errors
    /// A quote that is not closed, a word that is too long or not UTF-8, or letters right after a
    /// closing quote.
    pub(super) fn next(&mut self) -> Result<Option<(Token, usize)>, Wrong> {
        self.skip_space();
        let line = self.line;
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        let single = match first {
            ';' => Some(Token::End),
            '{' => Some(Token::Open),
            '}' => Some(Token::Close),
            _ => None,
        };
        if let Some(token) = single {
            self.take(first);
            return Ok(Some((token, line)));
        }
        let word = match first {
            '"' | '\'' => {
                self.take(first);
                self.quoted(first, line)?
            }
            _ => self.plain(),
        };
        if word.len() > WORD {
            return Err(Wrong::new(line, format!("a word of {} bytes", word.len())));
        }
        if word.contains('\u{fffd}') {
            return Err(Wrong::new(line, "a word that is not UTF-8"));
        }
        Ok(Some((Token::Word(unescaped(&word)), line)))
    }

    /// Passes over all up to the `}` that closes a block of another language, whose `{` was read.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn skip_block(&mut self) -> Result<(), Wrong> {
        let (line, mut depth, mut quote) = (self.line, 1_usize, None);
        while let Some(c) = self.rest.chars().next() {
            self.take(c);
            match (quote, c) {
                (Some(_), '\\') => {
                    if let Some(c) = self.rest.chars().next() {
                        self.take(c);
                    }
                }
                (Some(open), c) if open == c || c == '\n' => quote = None,
                (None, '"' | '\'') => quote = Some(c),
                // A comment of Lua: quotes within it are none.
                (None, '-') if self.rest.starts_with('-') => {
                    while let Some(c) = self.rest.chars().next().filter(|c| *c != '\n') {
                        self.take(c);
                    }
                }
                (None, '{') => depth += 1,
                (None, '}') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
        Err(Wrong::new(line, "a block without its end"))
    }

    fn take(&mut self, c: char) {
        if c == '\n' {
            self.line += 1;
        }
        self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
    }

    fn skip_space(&mut self) {
        let mut comment = false;
        while let Some(c) = self.rest.chars().next() {
            comment = match c {
                '\n' => false,
                '#' => true,
                ' ' | '\t' | '\r' => comment,
                _ if comment => true,
                _ => return,
            };
            self.take(c);
        }
    }

    fn quoted(&mut self, quote: char, line: usize) -> Result<String, Wrong> {
        let mut word = String::new();
        while let Some(c) = self.rest.chars().next() {
            self.take(c);
            match c {
                '\\' => {
                    word.push(c);
                    if let Some(c) = self.rest.chars().next() {
                        self.take(c);
                        word.push(c);
                    }
                }
                c if c == quote => {
                    let next = self.rest.chars().next();
                    return match next {
                        None | Some(' ' | '\t' | '\r' | '\n' | ';' | '{' | ')') => Ok(word),
                        Some(c) => Err(Wrong::new(self.line, format!("{c:?} right after a closing quote"))),
                    };
                }
                c => word.push(c),
            }
        }
        Err(Wrong::new(line, "a quote that is not closed"))
    }

    fn plain(&mut self) -> String {
        let (mut word, mut variable) = (String::new(), false);
        while let Some(c) = self.rest.chars().next() {
            if matches!(c, ' ' | '\t' | '\r' | '\n' | ';') || c == '{' && !variable {
                break;
            }
            variable = c == '$';
            self.take(c);
            word.push(c);
            if c == '\\'
                && let Some(c) = self.rest.chars().next()
            {
                self.take(c);
                word.push(c);
            }
        }
        word
    }
}

/// `\"`, `\'` and `\\` are the character, `\t`, `\r` and `\n` what they are elsewhere; every other
/// backslash stays, as expressions need it.
fn unescaped(word: &str) -> String {
    if !word.contains('\\') {
        return word.to_owned();
    }
    let mut text = String::with_capacity(word.len());
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        let meant = match (c, chars.peek()) {
            ('\\', Some(next @ ('"' | '\'' | '\\'))) => Some(*next),
            ('\\', Some('t')) => Some('\t'),
            ('\\', Some('r')) => Some('\r'),
            ('\\', Some('n')) => Some('\n'),
            _ => None,
        };
        match meant {
            Some(meant) => {
                chars.next();
                text.push(meant);
            }
            None => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<String>, Wrong> {
        let mut lexer = Lexer::new(text);
        let mut words = Vec::new();
        while let Some((token, line)) = lexer.next()? {
            let text = match token {
                Token::Word(word) => word,
                Token::End => ";".to_owned(),
                Token::Open => "{".to_owned(),
                Token::Close => "}".to_owned(),
            };
            words.push(format!("{line}:{text}"));
        }
        Ok(words)
    }

    /// A value would be cut, joined or taken for a comment, and something else be translated than
    /// nginx does.
    #[test]
    fn words_are_divided_as_nginx_does() {
        for (text, expected) in [
            ("a b;", &["1:a", "1:b", "1:;"][..]),
            ("a # b;\n c;", &["1:a", "2:c", "2:;"]),
            ("a b#c;", &["1:a", "1:b#c", "1:;"]),
            ("a \"b;\nc\" d;", &["1:a", "1:b;\nc", "2:d", "2:;"]),
            (
                "a 'b\"c' \"d\\\"e\" f\\;g;",
                &["1:a", "1:b\"c", "1:d\"e", "1:f\\;g", "1:;"],
            ),
            ("l ~ \\.php$ {}", &["1:l", "1:~", "1:\\.php$", "1:{", "1:}"]),
            (
                "l ~ ^/(a|b){2} {}",
                &["1:l", "1:~", "1:^/(a|b)", "1:{", "1:2}", "1:{", "1:}"],
            ),
            ("l ~ \"^/a{2}\" {}", &["1:l", "1:~", "1:^/a{2}", "1:{", "1:}"]),
            ("r ${a}b$c{", &["1:r", "1:${a}b$c", "1:{"]),
            (
                "if ($a = \"b\") {}",
                &["1:if", "1:($a", "1:=", "1:b", "1:)", "1:{", "1:}"],
            ),
            ("a \\\\.b \\t;", &["1:a", "1:\\.b", "1:\t", "1:;"]),
            ("\u{feff}a;", &["1:a", "1:;"]),
            ("", &[]),
            ("# only", &[]),
        ] {
            assert_eq!(words(text).unwrap(), expected, "{text}");
        }
        for wrong in ["a \"b", "a 'b\\'", "a \"b\"c;", "a \u{fffd};", &"a".repeat(WORD + 1)] {
            assert!(words(wrong).is_err(), "{wrong}");
        }
        assert_eq!(words("a\n\n\"b").unwrap_err().line, 3);
        assert!(words("a # caf\u{fffd}\n;").is_ok(), "comments may be in Latin-1");
    }
}
