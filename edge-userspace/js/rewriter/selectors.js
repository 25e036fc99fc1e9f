// Selectors of CSS that can be decided when a start tag is met (Selectors Level 4, of which HTMLRewriter has those that look neither ahead nor
// at siblings), and which rules an element matches. Text of documents is "binary" in this unit: one character for each byte.

const { host, usv, isObject, required, dictionary, illegal, INTERNAL, Bytes, NOTHING, chunkBytes, quiet, Response, ReadableStream } = from;

const BEYOND_ASCII = /[^\x00-\x7f]/;
const binary = text => (BEYOND_ASCII.test(text) ? host.binary(host.encode(text)) : text);
const decoded = text => (BEYOND_ASCII.test(text) ? host.text(host.unbinary(text), true) : text);
// Letters of ASCII only: in a binary string, other characters are halves of something.
const lower = text => (BEYOND_ASCII.test(text) ? text.replace(/[A-Z]+/g, letters => letters.toLowerCase()) : text.toLowerCase());

const ESCAPE = "\\\\(?:[0-9a-fA-F]{1,6}[\\t\\n\\f\\r ]?|[^\\n\\f\\r0-9a-fA-F])";
const IDENTIFIER = new RegExp(`(?:--|-?(?:[a-zA-Z_\\u0080-\\uffff]|${ESCAPE}))(?:[-\\w\\u0080-\\uffff]|${ESCAPE})*`, "y");
const STRING = /"((?:[^"\\\n\f\r]|\\[^])*)"|'((?:[^'\\\n\f\r]|\\[^])*)'/y;
const unescaped = text => text.replace(/\\(?:([0-9a-fA-F]{1,6})[\t\n\f\r ]?|(\r\n|[\n\f\r])|([^]))/g, (_, hex, line, character) => {
  if (line !== undefined) return "";
  if (hex === undefined) return character;
  const code = parseInt(hex, 16);
  return code === 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? "\ufffd" : String.fromCodePoint(code);
});
// Attributes whose values are compared without case (HTML standard, section 4.16.2).
const WITHOUT_CASE = new Set(("accept accept-charset align alink axis bgcolor charset checked clear codetype color compact declare defer dir direction disabled enctype face " +
  "frame hreflang http-equiv lang language link media method multiple nohref noresize noshade nowrap readonly rel rev rules scope scrolling selected shape target text type " +
  "valign valuetype vlink").split(" "));

class SelectorParser {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }
  fail(what) { throw new TypeError(`HTMLRewriter: the selector ${JSON.stringify(this.text.slice(0, 200))}: ${what}`); }
  peek() { return this.text[this.at]; }
  space() {
    const from = this.at;
    for (;;) {
      while (this.at < this.text.length && " \t\n\r\f".includes(this.text[this.at])) this.at++;
      if (!this.text.startsWith("/*", this.at)) return this.at > from;
      const end = this.text.indexOf("*/", this.at + 2);
      this.at = end < 0 ? this.text.length : end + 2;
    }
  }
  take(regex) {
    regex.lastIndex = this.at;
    const found = regex.exec(this.text);
    if (found) this.at = regex.lastIndex;
    return found;
  }
  identifier(what) {
    const found = this.take(IDENTIFIER);
    if (!found) this.fail(this.at < this.text.length ? `no ${what} at ${JSON.stringify(this.text.slice(this.at, this.at + 10))}` : `it ends before ${what}`);
    return unescaped(found[0]);
  }
  // A list of complex selectors, each of compounds with how they hang on the one before: "", " ", ">".
  list(within) {
    const all = [];
    do {
      this.space();
      all.push(within ? [{ compound: this.compound(), hangs: "" }] : this.complex());
      this.space();
    } while (this.peek() === "," && ++this.at);
    return all;
  }
  whole() {
    const all = this.list(false);
    if (this.at < this.text.length) this.fail(`unexpected ${JSON.stringify(this.text[this.at])}`);
    return all;
  }
  complex() {
    const parts = [{ compound: this.compound(), hangs: "" }];
    for (;;) {
      const spaced = this.space(), next = this.peek();
      if (next === "+" || next === "~") this.fail(`the combinator ${next} is not supported`);
      if (next === ">") {
        this.at++;
        this.space();
      } else if (!spaced || next === undefined || next === "," || next === ")") return parts;
      parts.push({ compound: this.compound(), hangs: next === ">" ? ">" : " " });
    }
  }
  compound() {
    const made = { name: null, ids: null, classes: [], attributes: [], nth: [], not: [] }, from = this.at;
    // Any namespace, or none: elements of other namespaces are not told apart by selectors.
    if (this.text.startsWith("*|", this.at) && this.text[this.at + 2] !== "=") this.at += 2;
    if (this.peek() === "*") this.at++;
    else {
      const name = this.take(IDENTIFIER);
      if (name) made.name = binary(lower(unescaped(name[0])));
    }
    if (this.peek() === "|") this.fail("namespaces are not supported");
    for (;;) {
      const next = this.peek();
      if (next === "#") this.at++, made.ids = [...(made.ids ?? []), binary(this.identifier("an id"))];
      else if (next === ".") this.at++, made.classes.push(binary(this.identifier("a class")));
      else if (next === "[") this.at++, made.attributes.push(this.attribute());
      else if (next === ":") this.at++, this.pseudo(made);
      else break;
    }
    if (this.at === from) this.fail(this.at < this.text.length ? `unexpected ${JSON.stringify(this.peek())}` : "it is empty, or ends too early");
    return made;
  }
  attribute() {
    this.space();
    const name = binary(lower(this.identifier("an attribute")));
    this.space();
    if (this.peek() === "|" && this.text[this.at + 1] !== "=") this.fail("namespaces are not supported");
    if (this.peek() === "]") return this.at++, { name, how: "", value: "", folded: false };
    const how = this.take(/[~|^$*]?=/y)?.[0];
    if (!how) this.fail("an attribute is compared by =, ~=, |=, ^=, $= or *=");
    this.space();
    const string = this.take(STRING), text = string ? unescaped(string[1] ?? string[2]) : this.identifier("a value");
    this.space();
    const flag = this.take(/[isIS]/y)?.[0].toLowerCase();
    this.space();
    if (this.peek() !== "]") this.fail("an attribute ends with ]");
    this.at++;
    const folded = flag === "i" ? true : flag === "s" ? false : WITHOUT_CASE.has(name) ? null : false;
    return { name, how: how.slice(0, -1) || "=", value: binary(text), folded };
  }
  pseudo(made) {
    if (this.peek() === ":") this.fail("pseudo-elements are not supported");
    const name = this.identifier("a pseudo-class").toLowerCase();
    if (name === "first-child" || name === "first-of-type") return void made.nth.push({ step: 0, offset: 1, typed: name === "first-of-type" });
    if (this.peek() !== "(" || !["nth-child", "nth-of-type", "not"].includes(name)) this.fail(`:${name} is not supported`);
    this.at++;
    if (name === "not") made.not.push(this.list(true).map(([{ compound }]) => compound));
    else made.nth.push({ ...this.nth(), typed: name === "nth-of-type" });
    this.space();
    if (this.peek() !== ")") this.fail(`:${name} ends with ), and takes ${name === "not" ? "no combinators" : "a number, odd, even or an+b"}`);
    this.at++;
  }
  nth() {
    this.space();
    const found = this.take(/(odd|even)|([+-]?\d*)n(?:[\t\n\f\r ]*([+-])[\t\n\f\r ]*(\d+))?|([+-]?\d+)/iy);
    if (!found) this.fail("not a number, odd, even or an+b");
    const [, word, step, sign, offset, number] = found;
    if (word) return { step: 2, offset: word.toLowerCase() === "odd" ? 1 : 0 };
    if (number !== undefined) return { step: 0, offset: +number };
    return { step: step === "" || step === "+" ? 1 : step === "-" ? -1 : +step, offset: offset === undefined ? 0 : +`${sign}${offset}` };
  }
}

const isNth = ({ step, offset }, index) => (step === 0 ? index === offset : (index - offset) % step === 0 && (index - offset) / step >= 0);
const SPACES = /[\t\n\f\r ]+/;
const compares = ({ how, value, folded }, given, html) => {
  if (folded === null ? html : folded) given = lower(given), value = lower(value);
  switch (how) {
    case "=": return given === value;
    case "~": return value !== "" && !SPACES.test(value) && given.split(SPACES).includes(value);
    case "|": return given === value || given.startsWith(`${value}-`);
    case "^": return value !== "" && given.startsWith(value);
    case "$": return value !== "" && given.endsWith(value);
    default: return value !== "" && given.includes(value);
  }
};
// `tag`: what is asked of an element (run.js): `name`, `html`, `index`, `typed`, and `attribute(name)`.
const fits = (compound, tag) => {
  if (compound.name !== null && compound.name !== tag.name) return false;
  for (const nth of compound.nth) if (!isNth(nth, nth.typed ? tag.typed : tag.index)) return false;
  if (compound.ids) for (const id of compound.ids) if (tag.attribute("id") !== id) return false;
  if (compound.classes.length) {
    const list = tag.attribute("class")?.split(SPACES);
    if (!list || !compound.classes.every(name => list.includes(name))) return false;
  }
  for (const wanted of compound.attributes) {
    const given = tag.attribute(wanted.name);
    if (given === undefined || (wanted.how && !compares(wanted, given, tag.html))) return false;
  }
  for (const list of compound.not) if (list.some(inner => fits(inner, tag))) return false;
  return true;
};

// Names whose steps are remembered: documents may have any number of names.
const NAMES_KEPT = 500;
// The rules of one rewriter. A complex selector is a row of steps; a step that others hang on has a number, and an open element knows which of
// these it met (`own`), and which it or one above it did (`seen`).
class Matcher {
  steps = []; states = 0; counted = false; #byName = new Map();
  constructor(rules) {
    rules.forEach((rule, index) => {
      for (const parts of rule.selector) {
        let before = -1;
        parts.forEach(({ compound, hangs }, at) => {
          const last = at === parts.length - 1, state = last ? -1 : this.states++;
          this.steps.push({ compound, before, child: hangs === ">", state, rule: last ? index : -1 });
          this.counted ||= JSON.stringify(compound).includes("\"typed\":true");
          before = state;
        });
      }
    });
  }
  // The steps that an element of this name can meet.
  of(name) {
    let steps = this.#byName.get(name);
    if (!steps) {
      steps = this.steps.filter(({ compound }) => compound.name === null || compound.name === name);
      if (this.#byName.size < NAMES_KEPT) this.#byName.set(name, steps);
    }
    return steps;
  }
  // Numbers of the rules that `tag` matches, in their order, or null; its `own` and `seen` are set.
  match(tag, parent) {
    let matched = null, own = null;
    for (const { compound, before, child, state, rule } of this.of(tag.name)) {
      if (before >= 0 && !(child ? parent.own : parent.seen)?.has(before)) continue;
      if (rule >= 0 && matched?.includes(rule)) continue;
      if (!fits(compound, tag)) continue;
      if (rule >= 0) (matched ??= []).push(rule);
      else (own ??= new Set()).add(state);
    }
    tag.own = own;
    tag.seen = own ? (parent.seen ? new Set([...parent.seen, ...own]) : own) : parent.seen;
    return matched;
  }
}
