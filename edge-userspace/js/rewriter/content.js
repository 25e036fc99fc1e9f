// What handlers get: elements, end tags, text, comments, the doctype and the document's end. Each is good while its handler runs; what is done to
// it is kept in a `Change`, which run.js writes out.

const escaped = text => text.replace(/[<>&]/g, character => (character === "<" ? "&lt;" : character === ">" ? "&gt;" : "&amp;"));
// What is inserted: binary text, or a stream that is read when its turn comes.
const inserted = (content, options) => {
  const html = !!dictionary(options, "the options").html;
  if (isObject(content)) {
    const stream = content instanceof Response ? content.body : content instanceof ReadableStream ? content : undefined;
    if (stream === null) return "";
    if (stream) {
      if (stream.locked) throw new TypeError("HTMLRewriter: the stream is locked");
      return { reader: stream.getReader(), html };
    }
  }
  const text = binary(usv(content));
  return html ? text : escaped(text);
};
// Before and after a token, in its place, and whether it is gone.
class Change {
  before = []; after = []; instead = []; removed = false;
}
const GONE = "HTMLRewriter: this is good only while its handler runs";

// A start tag, as far as it was asked for: names and values are read when somebody wants them.
class Tag {
  own = null; seen = null; written = null; #raw; #tokens; #names = null; #set = null;
  // Of the token in hand, which stays so until nobody asks any more.
  constructor(name, tokens) {
    this.name = name;
    this.nameEnd = tokens.nameEnd;
    this.closed = tokens.closed;
    this.#raw = tokens.text.slice(tokens.at, tokens.end);
    this.#tokens = tokens;
  }
  get changed() { return this.#set !== null || this.written !== null; }
  // Of two attributes with one name, the first counts.
  #index() {
    if (this.#names) return this.#names;
    this.#names = new Map();
    const { attributes, first, count } = this.#tokens;
    for (let i = first; i < first + PER_ATTRIBUTE * count; i += PER_ATTRIBUTE) {
      const name = lower(this.#raw.slice(attributes[i], attributes[i + 1]));
      if (!this.#names.has(name)) this.#names.set(name, i);
    }
    return this.#names;
  }
  // Binary, or undefined.
  attribute(name) {
    if (this.#set) return this.#set.get(name)?.value;
    if (!this.#tokens.count) return undefined;
    const i = this.#index().get(name);
    return i === undefined ? undefined : this.#value(i);
  }
  #value(i) {
    const { attributes } = this.#tokens;
    return attributes[i + 2] < 0 ? "" : this.#raw.slice(attributes[i + 2], attributes[i + 3]);
  }
  pairs() {
    if (this.#set) return Array.from(this.#set, ([name, { value }]) => [name, value]);
    return Array.from(this.#index(), ([name, i]) => [name, this.#value(i)]);
  }
  // From here on it is written anew: name to value and, if it stays as it was, its text.
  #own() {
    if (this.#set) return this.#set;
    const set = new Map(), { attributes } = this.#tokens;
    for (const [name, i] of this.#index()) set.set(name, { value: this.#value(i), raw: this.#raw.slice(attributes[i], attributes[i + 4]) });
    return this.#set = set;
  }
  set(name, value) { this.#own().set(lower(name), { value, raw: `${name}="${value.replaceAll("\"", "&quot;")}"` }); }
  remove(name) { if (this.attribute(name) !== undefined) this.#own().delete(name); }
  // Without its slash, because something comes between it and its end tag.
  open() { if (this.closed) this.#own(), this.closed = false; }
  text() {
    if (!this.changed) return this.#raw;
    let text = `<${this.written ?? this.#raw.slice(1, this.nameEnd)}`;
    for (const { raw } of this.#own().values()) text += ` ${raw}`;
    return `${text}${this.closed ? (this.#own().size ? " />" : "/>") : ">"}`;
  }
}

const tagged = (Class, name) => Object.defineProperty(Class.prototype, Symbol.toStringTag, { value: name, configurable: true });
const NOT_IN_NAME = /[\t\n\f\r \/>]/;
const newName = given => {
  const name = usv(given);
  if (!/^[a-zA-Z]/.test(name) || NOT_IN_NAME.test(name)) throw new TypeError(`HTMLRewriter: not the name of a tag: ${JSON.stringify(name.slice(0, 100))}`);
  return binary(name);
};

// What all but elements have. `expire` ends them.
let expire, changeOf;
class Token {
  #change = new Change();
  static {
    expire = token => { token.#change = null; };
    changeOf = token => {
      if (!token.#change) throw new TypeError(GONE);
      return token.#change;
    };
  }
  constructor(token) { illegal(token); }
  get removed() { return changeOf(this).removed; }
  before(content, options = undefined) {
    required(1, arguments.length, "before");
    changeOf(this).before.push(inserted(content, options));
    return this;
  }
  after(content, options = undefined) {
    required(1, arguments.length, "after");
    changeOf(this).after.unshift(inserted(content, options));
    return this;
  }
  replace(content, options = undefined) {
    required(1, arguments.length, "replace");
    const change = changeOf(this);
    change.instead = [inserted(content, options)];
    change.removed = true;
    return this;
  }
  remove() {
    changeOf(this).removed = true;
    return this;
  }
}
class Text extends Token {
  #text; #last;
  constructor(token, text, last) {
    super(token);
    this.#text = text;
    this.#last = last;
  }
  get text() { return changeOf(this) && this.#text; }
  get lastInTextNode() { return changeOf(this) && this.#last; }
}
let commentText;
class Comment extends Token {
  #text; #new = null;
  static { commentText = comment => comment.#new; }
  constructor(token, text) {
    super(token);
    this.#text = text;
  }
  get text() { return changeOf(this) && (this.#new ?? this.#text); }
  set text(value) {
    changeOf(this);
    const text = usv(value);
    if (/-->|--!>|^-?>/.test(text)) throw new TypeError("HTMLRewriter: the text would end the comment");
    this.#new = text;
  }
}
let endName;
class EndTag {
  #change; #name; #new = null; #own;
  static {
    endName = end => {
      end.#change = null;
      return end.#new;
    };
  }
  // `change` is the element's own; `own` is false if there is no end tag that is this element's.
  constructor(token, change, name, own) {
    illegal(token);
    this.#change = change;
    this.#name = name;
    this.#own = own;
  }
  #live() {
    if (!this.#change) throw new TypeError(GONE);
    return this.#change;
  }
  get name() { return this.#live() && (this.#new === null ? this.#name : decoded(lower(this.#new))); }
  set name(value) {
    this.#live();
    this.#new = newName(value);
  }
  before(content, options = undefined) {
    required(1, arguments.length, "before");
    this.#live().before.push(inserted(content, options));
    return this;
  }
  after(content, options = undefined) {
    required(1, arguments.length, "after");
    this.#live().after.unshift(inserted(content, options));
    return this;
  }
  remove() {
    this.#live().removed = true;
    return this;
  }
}
// What was done to an element: at its start tag, and what is kept until its end comes.
class Kept {
  atStart = null; atEnd = null; name = null; hollow = false; handlers = null;
  get start() { return this.atStart ??= new Change(); }
  get end() { return this.atEnd ??= new Change(); }
  get waits() { return this.atEnd !== null || this.handlers !== null || this.name !== null || this.hollow; }
}
let elementDone;
class Element {
  #tag; #kept; #holds; #space; #gone;
  static { elementDone = element => { element.#tag = null; }; }
  // `holds`: whether it has content, and an end tag. `gone`: it is within what is removed.
  constructor(token, tag, kept, holds, space, gone) {
    illegal(token);
    this.#tag = tag;
    this.#kept = kept;
    this.#holds = holds;
    this.#space = space;
    this.#gone = gone;
  }
  #live() {
    if (!this.#tag) throw new TypeError(GONE);
    return this.#tag;
  }
  #touch() { return this.#live() && this.#kept; }
  get tagName() {
    const tag = this.#live();
    return decoded(lower(tag.written ?? tag.name));
  }
  set tagName(value) {
    const name = newName(value);
    this.#live().written = name;
    if (this.#holds) this.#kept.name = name;
  }
  get namespaceURI() { return this.#live() && this.#space; }
  get removed() { return this.#live() && (this.#gone || !!this.#kept.atStart?.removed); }
  get attributes() { return this.#live().pairs().map(([name, value]) => [decoded(name), decoded(value)])[Symbol.iterator](); }
  getAttribute(name) {
    required(1, arguments.length, "getAttribute");
    const value = this.#live().attribute(binary(lower(usv(name))));
    return value === undefined ? null : decoded(value);
  }
  hasAttribute(name) {
    required(1, arguments.length, "hasAttribute");
    return this.#live().attribute(binary(lower(usv(name)))) !== undefined;
  }
  setAttribute(name, value) {
    required(2, arguments.length, "setAttribute");
    const text = usv(name);
    if (!text || NOT_IN_NAME.test(text) || text.includes("=")) throw new TypeError(`HTMLRewriter: not the name of an attribute: ${JSON.stringify(text.slice(0, 100))}`);
    this.#live().set(binary(text), binary(usv(value)));
    return this;
  }
  removeAttribute(name) {
    required(1, arguments.length, "removeAttribute");
    this.#live().remove(binary(lower(usv(name))));
    return this;
  }
  before(content, options = undefined) {
    required(1, arguments.length, "before");
    this.#touch().start.before.push(inserted(content, options));
    return this;
  }
  after(content, options = undefined) {
    required(1, arguments.length, "after");
    (this.#holds ? this.#touch().end : this.#touch().start).after.unshift(inserted(content, options));
    return this;
  }
  // Into an element that can have nothing in it nothing goes.
  #inside(content, options, put) {
    const kept = this.#touch(), what = inserted(content, options);
    if (!this.#holds) return this;
    this.#tag.open();
    put(kept, what);
    return this;
  }
  prepend(content, options = undefined) {
    required(1, arguments.length, "prepend");
    return this.#inside(content, options, (kept, what) => kept.start.after.unshift(what));
  }
  append(content, options = undefined) {
    required(1, arguments.length, "append");
    return this.#inside(content, options, (kept, what) => kept.end.before.push(what));
  }
  setInnerContent(content, options = undefined) {
    required(1, arguments.length, "setInnerContent");
    return this.#inside(content, options, (kept, what) => {
      this.#empty();
      kept.start.after = [what];
    });
  }
  #empty() {
    const kept = this.#touch();
    if (!this.#holds) return kept;
    if (kept.atStart) kept.atStart.after = [];
    if (kept.atEnd) kept.atEnd.before = [];
    kept.hollow = true;
    return kept;
  }
  replace(content, options = undefined) {
    required(1, arguments.length, "replace");
    const what = inserted(content, options), kept = this.#empty();
    kept.start.instead = [what];
    kept.start.removed = kept.end.removed = true;
    return this;
  }
  remove() {
    const kept = this.#empty();
    kept.start.removed = kept.end.removed = true;
    return this;
  }
  removeAndKeepContent() {
    const kept = this.#touch();
    kept.start.removed = kept.end.removed = true;
    return this;
  }
  onEndTag(handler) {
    required(1, arguments.length, "onEndTag");
    if (typeof handler !== "function") throw new TypeError("onEndTag: the handler is not a function");
    if (!this.#holds) throw new TypeError(`onEndTag: <${this.tagName}> has no end tag`);
    (this.#touch().handlers ??= []).push(handler);
  }
}
const DOCTYPE_PARTS = /^<!doctype[\t\n\f\r ]*([^\t\n\f\r >]+)?[\t\n\f\r ]*(?:public[\t\n\f\r ]*(?:"([^">]*)"?|'([^'>]*)'?)?[\t\n\f\r ]*(?:"([^">]*)"?|'([^'>]*)'?)?|system[\t\n\f\r ]*(?:"([^">]*)"?|'([^'>]*)'?)?)?/i;
class Doctype {
  #parts;
  constructor(token, raw) {
    illegal(token);
    this.#parts = DOCTYPE_PARTS.exec(raw);
  }
  #part(...which) {
    const found = which.map(i => this.#parts[i]).find(part => part !== undefined);
    return found === undefined ? null : decoded(found);
  }
  get name() {
    const name = this.#part(1);
    return name === null ? null : lower(name);
  }
  get publicId() { return this.#part(2, 3); }
  get systemId() { return this.#part(4, 5, 6, 7); }
}
let documentTail;
class DocumentEnd {
  #tail = [];
  static {
    documentTail = end => {
      const tail = end.#tail;
      end.#tail = null;
      return tail;
    };
  }
  constructor(token) { illegal(token); }
  append(content, options = undefined) {
    required(1, arguments.length, "append");
    if (!this.#tail) throw new TypeError(GONE);
    this.#tail.push(inserted(content, options));
    return this;
  }
}
for (const [Class, name] of [[Element, "Element"], [EndTag, "EndTag"], [Text, "Text"], [Comment, "Comment"], [Doctype, "Doctype"], [DocumentEnd, "DocumentEnd"]]) tagged(Class, name);
