// A tokenizer of HTML (HTML standard, section 13.2.5) that reads no more than a rewriter has to know: where tokens begin and end. References of
// characters stay as they are. What is given piece by piece is read piece by piece: a token that is not whole is read on where it was left.

const MORE = 0, TEXT = 1, START = 2, END = 3, COMMENT = 4, DOCTYPE = 5, PASSED = 6;
// How text is read: the last three go on to where something that nobody wants to see ends.
const DATA = 0, RAW = 1, SCRIPT = 2, PLAIN = 3, CDATA = 4, IN_COMMENT = 5, IN_BOGUS = 6;
// As in natives.c.
const TAG_HEAD = 4, PER_ATTRIBUTE = 5, MOST_ATTRIBUTES = 64;
// Where in a tag.
const IN_NAME = 0, BETWEEN = 1, IN_ATTRIBUTE = 2, AFTER_ATTRIBUTE = 3, BEFORE_VALUE = 4, IN_DOUBLE = 5, IN_SINGLE = 6, IN_BARE = 7;
// Bytes of a tag, a doctype, or a comment that a handler wants to see.
const LONGEST_TOKEN = 1 << 20;
const NAME_END = /[\t\n\f\r \/>]/g, NOT_BETWEEN = /[^\t\n\f\r \/]/g, ATTRIBUTE_END = /[\t\n\f\r \/>=]/g, NOT_SPACE = /[^\t\n\f\r ]/g, BARE_END = /[\t\n\f\r >]/g;
const COMMENT_END = /--!?>/g;
// What ends scripts, or changes how they end: outside, within `<!--`, and within `<script` within that.
const SCRIPT_STEPS = [/<!--|<\/script[\t\n\f\r \/>]/gi, /-->|<\/?script[\t\n\f\r \/>]/gi, /-->|<\/script[\t\n\f\r \/>]/gi];
const LONGEST_SCRIPT_STEP = 9;
const find = (regex, text, at) => {
  regex.lastIndex = at;
  return regex.test(text) ? regex.lastIndex - 1 : -1;
};
const isLetter = code => (code >= 97 && code <= 122) || (code >= 65 && code <= 90);
// Where a character of UTF-8 begins that is not all there at the end of `text`; else its length.
const wholeTo = (text, least) => {
  const n = text.length;
  for (let back = 1; back <= 3 && n - back >= least; back++) {
    const code = text.charCodeAt(n - back);
    if (code < 0x80) return n;
    if (code >= 0xc0) return (code >= 0xf0 ? 4 : code >= 0xe0 ? 3 : 2) > back ? n - back : n;
  }
  return n;
};
const rawEnds = new Map();
const rawEnd = name => {
  if (!rawEnds.has(name)) rawEnds.set(name, new RegExp(`</${name}[\\t\\n\\f\\r />]`, "gi"));
  return rawEnds.get(name);
};

class Tokens {
  // What is not consumed, as a binary string and as bytes.
  text = ""; #bytes = NOTHING; at = 0; end = 0; last = false;
  mode = DATA; #ends = null; #step = 0; #read = 0;
  // Whether `<![CDATA[` is what it says: within SVG and MathML. Whether comments are wanted.
  foreign = false; comments = false;
  // Of a tag: where its name ends, and from `first` on five numbers for each of `count` attributes: where its name, its value begin and end, and
  // where all of it does. All are counted from the tag's `<`.
  nameEnd = 0; attributes = null; first = 0; count = 0; closed = false;
  // A tag that is whole is read at once (natives.c), into `out`; `#ahead` is where one begins that was read and is not yet told.
  #out = new Int32Array(TAG_HEAD + PER_ATTRIBUTE * MOST_ATTRIBUTES); #outBytes = new Bytes(this.#out.buffer); #ahead = -1;
  #phase = IN_NAME; #scan = 0; #name = 0; #nameEnd = 0; #value = 0; #begun = false;

  // Another piece; what is before `at` is not needed any more.
  feed(piece) {
    const text = host.binary(piece), rest = this.text.length - this.end;
    if (rest) {
      const joined = new Bytes(rest + piece.length);
      joined.set(this.#bytes.subarray(this.end));
      joined.set(piece, rest);
      this.#bytes = joined;
      this.text = this.text.slice(this.end) + text;
    } else {
      this.#bytes = piece;
      this.text = text;
    }
    this.#read = Math.max(this.#read - this.end, 0);
    this.#ahead = -1;
    this.at = this.end = 0;
  }
  // How a start tag's content is read.
  enter(mode, name) {
    this.mode = mode;
    this.#ends = mode === RAW ? rawEnd(name) : null;
    this.#step = 0;
    this.#read = this.end;
  }
  // The next token, from `at` to `end`; MORE: it is not all there.
  next() {
    this.at = this.end;
    if (this.at >= this.text.length) return MORE;
    switch (this.mode) {
      case RAW: return this.#raw();
      case SCRIPT: return this.#script();
      case PLAIN: return this.#run(this.text.length);
      case CDATA: return this.#cdata();
      case IN_COMMENT: case IN_BOGUS: return this.#passing();
      default: return this.#data();
    }
  }
  #token(kind, end) {
    this.end = end;
    this.#begun = false;
    return kind;
  }
  // Text up to `end`, without a character that is not all there.
  #run(end) {
    if (end === this.text.length && !this.last) end = wholeTo(this.text, this.at);
    return end > this.at ? this.#token(TEXT, end) : MORE;
  }
  #wait(what) {
    if (this.text.length - this.at > LONGEST_TOKEN) throw new RangeError(`HTMLRewriter: ${what} is longer than ${LONGEST_TOKEN >> 20} MiB`);
    return MORE;
  }
  // An unfinished tag at the document's end is not a tag, and passes.
  #unfinished(what) { return this.last ? this.#token(PASSED, this.text.length) : this.#wait(what); }
  #data() {
    const { text, at } = this;
    if (this.#begun) return this.#tag();
    const open = this.#ahead === at ? at : host.tag(this.#bytes, at, this.#outBytes);
    if (open < 0) {
      // A `<` at the end may begin something.
      const end = !this.last && text.endsWith("<") ? text.length - 1 : text.length;
      return end > at ? this.#run(end) : MORE;
    }
    const whole = this.#out[0];
    if (open > at) {
      this.#ahead = whole ? open : -1;
      return this.#run(open);
    }
    if (whole) {
      this.nameEnd = this.#out[1];
      this.closed = this.#out[2] === 1;
      this.attributes = this.#out;
      this.first = TAG_HEAD;
      this.count = this.#out[3];
      this.end = at + whole;
      return text.charCodeAt(at + 1) === 0x2f ? END : START;
    }
    const code = text.charCodeAt(at + 1);
    if (code === 0x21) return this.#declaration();
    if (code === 0x3f) return this.#bogus(2);
    if (code === 0x2f) {
      if (at + 2 >= text.length) return this.last ? this.#token(TEXT, text.length) : MORE;
      const third = text.charCodeAt(at + 2);
      if (third === 0x3e) return this.#token(PASSED, at + 3);
      if (!isLetter(third)) return this.#bogus(2);
    }
    this.#begun = true;
    this.#phase = IN_NAME;
    this.#scan = 2;
    this.attributes = [];
    this.first = this.count = 0;
    return this.#tag();
  }
  #tag() {
    const { text, at, attributes } = this, n = text.length, kind = text.charCodeAt(at + 1) === 0x2f ? END : START;
    let i = at + this.#scan;
    const put = (value, valueEnd, end) => {
      attributes.push(this.#name, this.#nameEnd, value, valueEnd, end);
      this.count++;
    };
    // What was looked at is not looked at again.
    const pause = () => {
      this.#scan = Math.max(n - at, this.#scan);
      return this.#unfinished("a tag");
    };
    for (;;) {
      switch (this.#phase) {
        case IN_NAME:
          if ((i = find(NAME_END, text, i)) < 0) return pause();
          this.nameEnd = i - at;
          this.#phase = BETWEEN;
          break;
        case BETWEEN:
          if ((i = find(NOT_BETWEEN, text, i)) < 0) return pause();
          if (text.charCodeAt(i) === 0x3e) {
            this.closed = text.charCodeAt(i - 1) === 0x2f;
            return this.#token(kind, i + 1);
          }
          this.#name = i - at;
          // Its first character is part of it, also a `=`.
          i++;
          this.#phase = IN_ATTRIBUTE;
          break;
        case IN_ATTRIBUTE:
          if ((i = find(ATTRIBUTE_END, text, i)) < 0) return pause();
          this.#nameEnd = i - at;
          this.#phase = AFTER_ATTRIBUTE;
          break;
        case AFTER_ATTRIBUTE:
          if ((i = find(NOT_SPACE, text, i)) < 0) return pause();
          if (text.charCodeAt(i) === 0x3d) {
            i++;
            this.#phase = BEFORE_VALUE;
            break;
          }
          put(-1, -1, this.#nameEnd);
          this.#phase = BETWEEN;
          break;
        case BEFORE_VALUE: {
          if ((i = find(NOT_SPACE, text, i)) < 0) return pause();
          const code = text.charCodeAt(i);
          if (code === 0x3e) {
            put(i - at, i - at, i - at);
            this.closed = false;
            return this.#token(kind, i + 1);
          }
          const quoted = code === 0x22 || code === 0x27;
          if (quoted) i++;
          this.#value = i - at;
          this.#phase = code === 0x22 ? IN_DOUBLE : quoted ? IN_SINGLE : IN_BARE;
          break;
        }
        case IN_BARE:
          if ((i = find(BARE_END, text, i)) < 0) return pause();
          put(this.#value, i - at, i - at);
          // `a=b/>` has the value `b/`.
          if (text.charCodeAt(i) === 0x3e) {
            this.closed = false;
            return this.#token(kind, i + 1);
          }
          this.#phase = BETWEEN;
          break;
        default:
          if ((i = text.indexOf(this.#phase === IN_DOUBLE ? "\"" : "'", i)) < 0) return pause();
          put(this.#value, i - at, ++i - at);
          this.#phase = BETWEEN;
      }
    }
  }
  #declaration() {
    const { text, at } = this, head = text.slice(at, at + 9);
    const could = word => head.length < word.length && word.startsWith(head.toUpperCase()) && !this.last;
    if (head.startsWith("<!--")) return this.#comment();
    if (/^<!doctype/i.test(head)) {
      const end = text.indexOf(">", at + 9);
      return end >= 0 ? this.#token(DOCTYPE, end + 1) : this.last ? this.#token(DOCTYPE, text.length) : this.#wait("a doctype");
    }
    if (this.foreign && head === "<![CDATA[") {
      this.mode = CDATA;
      return this.#token(PASSED, at + 9);
    }
    if (could("<!--") || could("<!DOCTYPE") || (this.foreign && could("<![CDATA["))) return MORE;
    return this.#bogus(2);
  }
  #comment() {
    const { text, at } = this;
    // `<!-->` and `<!--->` are comments; `<!--!>` is not the end of one.
    for (let i = Math.max(at + 2, this.#read - 3); (i = this.#comment_end(i)) >= 0; i++) {
      if (text[COMMENT_END.lastIndex - 2] === "-" || i >= at + 4) {
        const end = COMMENT_END.lastIndex;
        this.contentFrom = at + 4;
        this.contentTo = Math.max(i, at + 4);
        return this.#token(COMMENT, end);
      }
    }
    this.#read = text.length;
    if (this.last) {
      // What may have begun its end is not part of it.
      this.contentFrom = Math.min(at + 4, text.length);
      this.contentTo = text.length - (/(?:--!?|-)$/.exec(text.slice(this.contentFrom))?.[0].length ?? 0);
      return this.#token(COMMENT, text.length);
    }
    if (this.comments || text.length - at < 8) return this.#wait("a comment");
    this.mode = IN_COMMENT;
    return this.#token(PASSED, text.length - 3);
  }
  #comment_end(i) {
    COMMENT_END.lastIndex = i;
    const found = COMMENT_END.exec(this.text);
    return found ? found.index : -1;
  }
  // What is read as a comment: from `<!`, `<?` or `</` to the next `>`.
  #bogus(skip) {
    const { text, at } = this, end = text.indexOf(">", Math.max(at + skip, this.#read));
    this.contentFrom = text.charCodeAt(at + 1) === 0x3f ? at + 1 : at + skip;
    if (end >= 0 || this.last) {
      this.contentTo = end < 0 ? text.length : end;
      return this.#token(COMMENT, end < 0 ? text.length : end + 1);
    }
    this.#read = text.length;
    if (this.comments) return this.#wait("a comment");
    this.mode = IN_BOGUS;
    return this.#token(PASSED, text.length);
  }
  #passing() {
    const { text, at } = this, comment = this.mode === IN_COMMENT;
    const found = comment ? this.#comment_end(at) : text.indexOf(">", at);
    if (found >= 0) {
      this.mode = DATA;
      return this.#token(PASSED, comment ? COMMENT_END.lastIndex : found + 1);
    }
    const end = comment && !this.last ? text.length - 3 : text.length;
    return end > at ? this.#token(PASSED, end) : MORE;
  }
  #cdata() {
    const { text, at } = this, end = text.indexOf("]]>", at);
    if (end === at) {
      this.mode = DATA;
      return this.#token(PASSED, at + 3);
    }
    if (end > at) return this.#run(end);
    if (this.last) return this.#run(text.length);
    return this.#run(Math.max(text.endsWith("]]") ? text.length - 2 : text.endsWith("]") ? text.length - 1 : text.length, at));
  }
  #raw() {
    const { text, at } = this, ends = this.#ends;
    ends.lastIndex = at;
    const found = ends.exec(text);
    if (found) {
      if (found.index > at) return this.#run(found.index);
      this.mode = DATA;
      return this.#data();
    }
    const open = this.last ? -1 : text.lastIndexOf("<");
    return this.#run(open >= at && text.length - open <= ends.source.length ? open : text.length);
  }
  #script() {
    const { text, at } = this;
    let i = Math.max(this.#read, at);
    for (;;) {
      const steps = SCRIPT_STEPS[this.#step];
      steps.lastIndex = i;
      const found = steps.exec(text);
      if (!found) break;
      const word = found[0];
      if (word === "<!--") {
        this.#step = 1;
        // `<!-->` is over already.
        i = found.index + 2;
      } else if (word === "-->") {
        this.#step = 0;
        i = found.index + 3;
      } else if (this.#step === 2) {
        this.#step = 1;
        i = found.index + word.length;
      } else if (word[1] !== "/") {
        this.#step = 2;
        i = found.index + word.length;
      } else if (found.index > at) {
        this.#read = found.index;
        return this.#run(found.index);
      } else {
        this.mode = DATA;
        return this.#data();
      }
    }
    // A step may have begun in the last characters; what is before them is text.
    const held = Math.max(i, text.length - LONGEST_SCRIPT_STEP);
    this.#read = held;
    const tail = text.slice(held), begun = this.last ? -1 : tail.search(/[<-]/);
    return this.#run(begun < 0 ? text.length : held + begun);
  }
}
