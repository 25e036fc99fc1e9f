//! From words to directives with their blocks; files that are included stand where they are named.
//! Hands the tree to the rest of the room.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{BYTES, FILES, Files, is_wild};
use super::lexer::{Lexer, Token};
use super::{Error, Wrong};

/// Directives in all: about 200 bytes each.
const DIRECTIVES: usize = 100_000;
/// Blocks within blocks, and files that include files.
const DEEP: usize = 32;

/// A directive.
#[derive(Debug)]
pub(super) struct Directive {
    /// Its number in the tree.
    pub(super) id: usize,
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    /// What stands in its braces.
    pub(super) block: Option<Vec<Self>>,
    pub(super) file: Arc<Path>,
    /// From 1.
    pub(super) line: usize,
}

impl Directive {
    /// Argument `n`, from 0; empty if there is none.
    pub(super) fn argument(&self, n: usize) -> &str {
        self.arguments.get(n).map_or("", String::as_str)
    }

    /// What stands in its braces.
    pub(super) fn inner(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    /// On one line, at most some hundred characters of it.
    pub(super) fn shown(&self) -> String {
        let words = std::iter::once(&self.name).chain(&self.arguments);
        let text: Vec<String> = words.map(|word| word.escape_debug().to_string()).collect();
        let mut text: String = text.join(" ").replace("\\'", "'").replace("\\\\", "\\");
        if let Some((at, _)) = text.char_indices().nth(120) {
            text.truncate(at);
            text.push('…');
        }
        if self.block.is_some() {
            text.push_str(" { … }");
        }
        text
    }
}

/// Reads files into a tree.
pub(super) struct Parser<'f> {
    files: &'f dyn Files,
    /// What relative names in `include` are relative to.
    prefix: PathBuf,
    bytes: u64,
    read: usize,
    count: usize,
}

/// Where something stands that is read.
struct Reader<'a> {
    lexer: Lexer<'a>,
    file: Arc<Path>,
    deep: usize,
}

impl Reader<'_> {
    fn wrong(&self, wrong: Wrong) -> Error {
        Error {
            file: self.file.clone(),
            line: wrong.line,
            what: wrong.what,
        }
    }
}

impl<'f> Parser<'f> {
    pub(super) fn new(files: &'f dyn Files, prefix: &Path) -> Self {
        Self {
            files,
            prefix: prefix.to_owned(),
            bytes: 0,
            read: 0,
            count: 0,
        }
    }

    /// The directives of `file` and of what it includes.
    ///
    /// # Errors
    /// A file cannot be read, is no configuration of nginx's, or there is more than the bounds.
    pub(super) fn file(&mut self, file: &Path) -> Result<Vec<Directive>, Error> {
        let whole = |what: String| Error {
            file: file.into(),
            line: 0,
            what,
        };
        let content = self.files.read(file, BYTES).map_err(|error| whole(error.to_string()))?;
        self.text(file, &String::from_utf8_lossy(&content))
    }

    /// The directives of `text`, which is said to stand in `file`.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub(super) fn text(&mut self, file: &Path, text: &str) -> Result<Vec<Directive>, Error> {
        let mut all = Vec::new();
        self.included(file.into(), text, 0, &mut all)?;
        Ok(all)
    }

    fn included(&mut self, file: Arc<Path>, text: &str, deep: usize, into: &mut Vec<Directive>) -> Result<(), Error> {
        let mut reader = Reader {
            lexer: Lexer::new(text),
            file,
            deep,
        };
        self.bytes = self.bytes.saturating_add(text.len() as u64);
        self.read += 1;
        if self.bytes > BYTES || self.read > FILES {
            let what = format!("more than {FILES} files, or {} MiB, in all", BYTES >> 20);
            return Err(reader.wrong(Wrong::new(1, what)));
        }
        self.block(&mut reader, None, into)
    }

    /// Reads up to the `}` of the block that was opened on line `open`, or to the end.
    fn block(&mut self, reader: &mut Reader<'_>, open: Option<usize>, into: &mut Vec<Directive>) -> Result<(), Error> {
        let mut words: Vec<String> = Vec::new();
        let mut began = 0;
        loop {
            let next = reader.lexer.next();
            let Some((token, line)) = next.map_err(|wrong| reader.wrong(wrong))? else {
                let what = match (words.is_empty(), open) {
                    (true, None) => return Ok(()),
                    (true, Some(open)) => format!("the end of the file, and the block of line {open} is open"),
                    (false, _) => "the end of the file instead of `;` or `{`".to_owned(),
                };
                return Err(reader.wrong(Wrong::new(reader.lexer.line(), what)));
            };
            match token {
                Token::Word(word) => {
                    if words.is_empty() {
                        began = line;
                    }
                    words.push(word);
                }
                Token::Close if words.is_empty() && open.is_some() => return Ok(()),
                Token::Close => return Err(reader.wrong(Wrong::new(line, "a `}` that nothing was opened for"))),
                _ if words.is_empty() => return Err(reader.wrong(Wrong::new(line, "a `;` or `{` without a directive"))),
                Token::End if words.first().is_some_and(|name| name == "include") => {
                    self.include(reader, &words, began, into)?;
                    words.clear();
                }
                Token::End | Token::Open => {
                    let opens = token == Token::Open;
                    self.directive(reader, std::mem::take(&mut words), (began, line, opens), into)?;
                }
            }
        }
    }

    fn directive(
        &mut self,
        reader: &mut Reader<'_>,
        mut words: Vec<String>,
        (began, line, opens): (usize, usize, bool),
        into: &mut Vec<Directive>,
    ) -> Result<(), Error> {
        let id = self.count;
        self.count += 1;
        if self.count > DIRECTIVES {
            let what = format!("more than {DIRECTIVES} directives");
            return Err(reader.wrong(Wrong::new(began, what)));
        }
        let name = words.remove(0);
        let block = match opens {
            false => None,
            // Another language: nothing of it is looked at.
            true if name.ends_with("_by_lua_block") => {
                reader.lexer.skip_block().map_err(|wrong| reader.wrong(wrong))?;
                Some(Vec::new())
            }
            true => {
                reader.deep += 1;
                if reader.deep > DEEP {
                    return Err(reader.wrong(Wrong::new(line, format!("more than {DEEP} blocks within blocks"))));
                }
                let mut inner = Vec::new();
                self.block(reader, Some(line), &mut inner)?;
                reader.deep -= 1;
                Some(inner)
            }
        };
        into.push(Directive {
            id,
            name,
            arguments: words,
            block,
            file: reader.file.clone(),
            line: began,
        });
        Ok(())
    }

    fn include(
        &mut self,
        reader: &Reader<'_>,
        words: &[String],
        line: usize,
        into: &mut Vec<Directive>,
    ) -> Result<(), Error> {
        let told = |what: String| reader.wrong(Wrong::new(line, what));
        let [_, name] = words else {
            return Err(told("`include` takes one name".to_owned()));
        };
        if reader.deep >= DEEP {
            return Err(told(format!("more than {DEEP} files and blocks within each other")));
        }
        let pattern = self.prefix.join(name);
        let files = self
            .files
            .named(&pattern)
            .map_err(|error| told(format!("include {name}: {error}")))?;
        if files.is_empty() && !is_wild(name) {
            return Err(told(format!("include {name}: there is no such file")));
        }
        for file in files {
            let content = self.files.read(&file, BYTES).map_err(|error| {
                let mend = "relative names are taken from the main file's directory, or from --prefix";
                told(format!("include {}: {error}; {mend}", file.display()))
            })?;
            let text = String::from_utf8_lossy(&content).into_owned();
            self.included(file.into(), &text, reader.deep + 1, into)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::{Disk, Nowhere};
    use super::*;

    fn parse(text: &str) -> Result<Vec<Directive>, Error> {
        Parser::new(&Nowhere, Path::new("/")).text(Path::new("x.conf"), text)
    }

    /// A directive would be read as another one's argument, and nobody be told.
    #[test]
    fn directives_and_blocks() {
        let tree =
            parse("a 1 '2 3';\nb {\n c { }\n d;\n}\ne_by_lua_block { if x == \"}\" then -- it's\n y{} end }\nf;")
                .unwrap();
        let names: Vec<_> = tree
            .iter()
            .map(|directive| (directive.name.as_str(), directive.line))
            .collect();
        assert_eq!(names, [("a", 1), ("b", 2), ("e_by_lua_block", 6), ("f", 8)]);
        assert_eq!(tree[0].arguments, ["1", "2 3"]);
        assert_eq!(tree[1].inner()[1].name, "d");
        assert_eq!(tree[0].shown(), "a 1 2 3");
        assert_eq!(tree[1].shown(), "b { … }");
    }

    /// An operator would search for what nginx itself does not read, or the stack be used up.
    #[test]
    fn what_nginx_does_not_read_is_told_with_its_line() {
        for (text, line) in [
            ("a;\nb {\n", 3),
            ("a;\n}", 2),
            ("a\n;;", 2),
            ("\na \"b", 2),
            ("\n\na", 3),
            ("{}", 1),
            ("include x;", 1),
            ("include;", 1),
            (&"a {\n".repeat(100), 33),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text}");
        }
        assert!(parse(&"a;".repeat(DIRECTIVES + 1)).is_err());
    }

    /// Sites in files of their own would be missing; or files that include each other never end.
    #[test]
    fn files_are_included_where_they_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("main", "a;\nb { include *.site; }\ninclude none*;\nc;");
        write("2.site", "two;");
        write("1.site", "one;\n");
        write("circle", "x { include circle; }");
        write("bad.site2", "d;\ne");
        write("deep", "include bad.site2;");
        let read = |name: &str| {
            let main = directory.path().join(name);
            Parser::new(&Disk, directory.path()).file(&main)
        };
        let tree = read("main").unwrap();
        let inner: Vec<_> = tree[1]
            .inner()
            .iter()
            .map(|directive| directive.name.as_str())
            .collect();
        assert_eq!(inner, ["one", "two"]);
        assert!(tree[1].inner()[0].file.ends_with("1.site"));
        assert!(read("circle").unwrap_err().what.contains("more than 32"));
        let error = read("deep").unwrap_err();
        assert!(error.file.ends_with("bad.site2") && error.line == 2, "{error}");
        assert_eq!(read("missing").unwrap_err().line, 0);
    }
}
