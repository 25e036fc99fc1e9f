// HTMLRewriter, and one document on its way through it. What no handler touched goes on as it came, byte for byte.

const HTML = "http://www.w3.org/1999/xhtml", SVG = "http://www.w3.org/2000/svg", MATH = "http://www.w3.org/1998/Math/MathML";
const words = text => new Set(text.split(" "));
const VOID = words("area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr");
const RAW_TEXT = words("title textarea style xmp iframe noembed noframes noscript");
// Start tags that end SVG and MathML, and where HTML is within these (HTML standard, sections 13.2.6.5 and 13.2.4.2).
const BREAKS_OUT = words("b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu meta nobr ol p pre ruby s small span " +
  "strong strike sub sup table tt u ul var");
const HTML_IN_SVG = words("foreignobject desc title"), TEXT_IN_MATH = words("mi mo mn ms mtext");
// End tags of other elements than these and those of formatting do not reach beyond one of these (section 13.2.6.4.7, "any other end tag").
const SPECIAL = words("address applet area article aside base basefont bgsound blockquote body br button caption center col colgroup dd details dir div dl dt embed fieldset " +
  "figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe img input keygen li link listing main marquee menu meta nav noembed " +
  "noframes noscript object ol p param plaintext pre script search section select source style summary table tbody td template textarea tfoot th thead title tr track ul wbr xmp");
const FORMATTING = words("a b big code em font i nobr s small strike strong tt u");
// Open elements at once; each takes some 300 bytes.
const DEEPEST = 1 << 15;
// Bytes that are worked on before what came of them is given out.
const STRETCH = 64 << 10;

const UNCHANGED = new Change();

class Run {
  #rules; #documents; #matcher; #reader; #tokens = new Tokens();
  // Open elements, the document itself below them, and how many of each name.
  #open = [{ name: "", space: HTML, point: false, own: null, seen: null, children: 0, types: null, kept: null, rules: null }]; #named = new Map();
  // Text is given out from `copied` on; `hollow` elements around have their content removed.
  #out = []; #copied = 0; #hollow = 0;
  #users; #texts = []; #comments = []; #inText = false;
  #rest = null; #ended = false; #pouring = null;

  constructor(rules, documents, matcher, reader) {
    this.#rules = rules;
    this.#documents = documents;
    this.#matcher = matcher;
    this.#reader = reader;
    this.#users = rules.map(() => 0);
    this.#listen();
  }
  async pull(controller) {
    try {
      for (;;) {
        const bytes = await this.#ready();
        if (bytes === null) {
          controller.close();
          controller.byobRequest?.respond(0);
          return;
        }
        if (bytes?.length) return void controller.enqueue(bytes);
        if (bytes === undefined) await this.#step();
      }
    } catch (error) {
      quiet(this.cancel(error));
      throw error;
    }
  }
  async cancel(reason) {
    const all = [this.#reader, this.#pouring, ...this.#out.filter(isObject)].map(of => quiet((of?.reader ?? of)?.cancel(reason) ?? Promise.resolve()));
    this.#out = [];
    await all[0];
  }
  // Bytes to give out; undefined: there must be more work first; null: that was all.
  async #ready() {
    if (this.#pouring) {
      const { reader, html } = this.#pouring, { value, done } = await reader.read();
      if (done) return this.#pouring = null, NOTHING;
      const bytes = typeof value === "string" ? host.encode(value) : chunkBytes(value);
      return html ? bytes.slice() : host.unbinary(escaped(host.binary(bytes)));
    }
    const until = this.#out.findIndex(isObject);
    if (until === 0) return this.#pouring = this.#out.shift(), NOTHING;
    if (this.#out.length) return host.unbinary(this.#out.splice(0, until < 0 ? this.#out.length : until).join(""));
    return this.#ended ? null : undefined;
  }
  async #step() {
    const tokens = this.#tokens;
    if (!this.#rest?.length) {
      const { value, done } = await this.#reader.read();
      if (done) {
        tokens.last = true;
        tokens.feed(NOTHING);
        this.#copied = 0;
        await this.#work();
        await this.#finish();
        this.#ended = true;
        return;
      }
      this.#rest = chunkBytes(value);
    }
    tokens.feed(this.#rest.subarray(0, STRETCH));
    this.#rest = this.#rest.subarray(STRETCH);
    this.#copied = 0;
    await this.#work();
  }
  async #work() {
    const tokens = this.#tokens;
    for (let kind; (kind = tokens.next()) !== MORE;) {
      let done = this.#inText && kind !== TEXT ? this.#endText() : undefined;
      if (done) await done;
      done = undefined;
      switch (kind) {
        case TEXT: if (this.#texts.length) done = this.#text(); break;
        case START: done = this.#start(); break;
        case END: done = this.#end(); break;
        case COMMENT: if (this.#comments.length) done = this.#comment(); break;
        case DOCTYPE: done = this.#doctype(); break;
      }
      if (done) await done;
    }
    this.#flush(tokens.at);
  }
  async #finish() {
    if (this.#inText) await this.#endText();
    this.#flush(this.#tokens.end);
    await this.#closeTo(1, this.#tokens.end);
    const handlers = this.#documents.filter(({ end }) => end);
    if (!handlers.length) return;
    const end = new DocumentEnd(INTERNAL);
    for (const { self, end: handler } of handlers) await handler.call(self, end);
    this.#put(documentTail(end));
  }

  // What came up to `to` goes out, unless it is within what was removed.
  #flush(to) {
    if (to > this.#copied && !this.#hollow) this.#out.push(this.#tokens.text.slice(this.#copied, to));
    this.#copied = to;
  }
  #put(list) {
    for (const piece of list) {
      if (!this.#hollow) this.#out.push(piece);
      else if (isObject(piece)) quiet(piece.reader.cancel());
    }
  }
  // In place of the token in hand: what was inserted, and the token, or what stands for it.
  #change({ before, after, instead, removed }, text) {
    const { at, end } = this.#tokens;
    this.#flush(at);
    this.#put(before);
    if (removed) this.#put(instead);
    else this.#put([text]);
    this.#put(after);
    this.#copied = end;
  }
  // Which handlers of text and comments are called now, in the order in which they were added.
  #listen() {
    const active = name => [...this.#documents.filter(rule => rule[name]), ...this.#rules.filter((rule, i) => rule[name] && this.#users[i])];
    this.#texts = active("text");
    this.#comments = active("comments");
    this.#tokens.comments = this.#comments.length > 0;
  }

  // Handlers one after the other, then `done`. Nobody waits for what is done at once.
  #each(list, call, done, from = 0) {
    for (let i = from; i < list.length; i++) {
      const result = call(list[i]);
      if (isObject(result) && typeof result.then === "function") return Promise.resolve(result).then(() => this.#each(list, call, done, i + 1));
    }
    return done();
  }
  #text() {
    const { text: all, at, end } = this.#tokens, raw = all.slice(at, end), text = new Text(INTERNAL, decoded(raw), false);
    this.#inText = true;
    return this.#call(this.#texts, "text", text, raw);
  }
  // The last of a text is empty: that it was the last is known when something else comes.
  #endText() {
    this.#inText = false;
    const text = new Text(INTERNAL, "", true), { at } = this.#tokens, change = changeOf(text);
    return this.#each(this.#texts, rule => rule.text.call(rule.self, text), () => {
      expire(text);
      this.#flush(at);
      this.#put(change.before);
      this.#put(change.instead);
      this.#put(change.after);
    });
  }
  #comment() {
    const { text: all, at, end, contentFrom, contentTo } = this.#tokens, comment = new Comment(INTERNAL, decoded(all.slice(contentFrom, contentTo)));
    return this.#call(this.#comments, "comments", comment, all.slice(at, end), () => {
      const text = commentText(comment);
      return text === null ? null : `<!--${binary(text)}-->`;
    });
  }
  #call(handlers, name, token, raw, written = () => null) {
    const change = changeOf(token);
    return this.#each(handlers, rule => rule[name].call(rule.self, token), () => {
      expire(token);
      const text = written();
      if (change.removed || change.before.length || change.after.length || text !== null) this.#change(change, text ?? raw);
    });
  }
  #doctype() {
    const handlers = this.#documents.filter(({ doctype }) => doctype);
    if (!handlers.length) return undefined;
    const { text, at, end } = this.#tokens, doctype = new Doctype(INTERNAL, text.slice(at, end));
    return this.#each(handlers, rule => rule.doctype.call(rule.self, doctype), () => {});
  }

  // Where a start tag stands: nothing, or how many open elements it leaves because it ends SVG and MathML.
  #leaves(tag) {
    const top = this.#open.at(-1);
    if (top.space === HTML || top.point) return 0;
    const { name } = tag;
    if (!BREAKS_OUT.has(name) && !(name === "font" && ["color", "face", "size"].some(of => tag.attribute(of) !== undefined))) return 0;
    return this.#innermost();
  }
  #innermost() {
    let depth = this.#open.length;
    while (this.#open[depth - 1].space !== HTML && !this.#open[depth - 1].point) depth--;
    return depth;
  }
  #start() {
    const { text, at, nameEnd } = this.#tokens, parent = this.#open.at(-1), name = lower(text.slice(at + 1, at + nameEnd));
    // Most elements are nobody's.
    if (parent.space === HTML && !this.#matcher.of(name).length) {
      this.#count(parent, name);
      if (!VOID.has(name)) this.#push({ name, own: null, seen: parent.seen }, this.#space(parent, name), null, null);
      return undefined;
    }
    const tag = new Tag(name, this.#tokens), depth = this.#leaves(tag);
    if (!depth) return this.#begin(tag);
    const left = this.#closeTo(depth, at);
    return left ? left.then(() => this.#begin(tag)) : this.#begin(tag);
  }
  #space(parent, name) {
    const foreign = parent.space !== HTML && !(parent.point && !(parent.space === MATH && (name === "mglyph" || name === "malignmark") && TEXT_IN_MATH.has(parent.name)))
      && !(parent.name === "annotation-xml" && parent.space === MATH && name === "svg");
    return foreign ? parent.space : name === "svg" ? SVG : name === "math" ? MATH : HTML;
  }
  // Its number among its siblings of the same name, if that is ever asked.
  #count(parent, name) {
    parent.children++;
    if (!this.#matcher.counted) return 0;
    parent.types ??= new Map();
    const number = (parent.types.get(name) ?? 0) + 1;
    parent.types.set(name, number);
    return number;
  }
  #begin(tag) {
    const parent = this.#open.at(-1), { name } = tag, space = this.#space(parent, name);
    tag.html = space === HTML;
    tag.typed = this.#count(parent, name);
    tag.index = parent.children;
    const holds = tag.html ? !VOID.has(name) : !tag.closed, matched = this.#matcher.match(tag, parent);
    if (!matched) return void (holds && this.#push(tag, space, null, null));
    return this.#matched(tag, space, holds, matched);
  }
  #matched(tag, space, holds, matched) {
    const kept = new Kept(), element = new Element(INTERNAL, tag, kept, holds, space, this.#hollow > 0);
    return this.#each(matched, index => {
      const { self, element: handler } = this.#rules[index];
      return handler?.call(self, element);
    }, () => {
      elementDone(element);
      if (kept.atStart || tag.changed) this.#change(kept.atStart ?? UNCHANGED, tag.text());
      if (!holds) return;
      const users = matched.filter(index => this.#rules[index].text || this.#rules[index].comments);
      this.#push(tag, space, kept.waits ? kept : null, users.length ? users : null);
      if (kept.hollow) this.#hollow++;
    });
  }
  #push(tag, space, kept, rules) {
    const { name } = tag, tokens = this.#tokens;
    if (this.#open.length > DEEPEST) throw new RangeError(`HTMLRewriter: more than ${DEEPEST} open elements`);
    let point = false;
    if (space === SVG) point = HTML_IN_SVG.has(name);
    else if (space === MATH) point = TEXT_IN_MATH.has(name) || (name === "annotation-xml" && /^(?:text\/html|application\/xhtml\+xml)$/i.test(tag.attribute("encoding") ?? ""));
    this.#open.push({ name, space, point, own: tag.own, seen: tag.seen, children: 0, types: null, kept, rules });
    this.#named.set(name, (this.#named.get(name) ?? 0) + 1);
    tokens.foreign = space !== HTML;
    if (rules) {
      for (const index of rules) this.#users[index]++;
      this.#listen();
    }
    if (space !== HTML) return;
    if (RAW_TEXT.has(name)) tokens.enter(RAW, name);
    else if (name === "script") tokens.enter(SCRIPT);
    else if (name === "plaintext") tokens.enter(PLAIN);
  }
  // Closes the innermost element.
  #pop() {
    const entry = this.#open.pop(), count = this.#named.get(entry.name) - 1;
    if (count) this.#named.set(entry.name, count);
    else this.#named.delete(entry.name);
    if (entry.rules) {
      for (const index of entry.rules) this.#users[index]--;
      this.#listen();
    }
    if (entry.kept?.hollow) this.#hollow--;
    this.#tokens.foreign = this.#open.at(-1).space !== HTML;
    return entry;
  }
  // Ends elements without end tags of their own, innermost first, at `at`, until `depth` are left.
  #closeTo(depth, at) {
    while (this.#open.length > depth) {
      if (this.#open.at(-1).kept) return this.#closeKept(depth, at);
      this.#pop();
    }
    return undefined;
  }
  async #closeKept(depth, at) {
    while (this.#open.length > depth) {
      this.#flush(at);
      const { kept, name } = this.#pop();
      if (!kept) continue;
      if (kept.handlers) await this.#handleEnd(kept, name, () => {});
      if (!kept.atEnd) continue;
      this.#put(kept.atEnd.before);
      this.#put(kept.atEnd.after);
    }
  }
  // `done` gets the new name of the end tag, or null.
  #handleEnd(kept, name, done) {
    const end = new EndTag(INTERNAL, kept.end, decoded(name));
    return this.#each(kept.handlers, handler => handler.call(end, end), () => done(endName(end)));
  }
  #end() {
    const { text, at, nameEnd } = this.#tokens, name = lower(text.slice(at + 2, at + nameEnd)), top = this.#open.at(-1);
    // `</p>` and `</br>` end SVG and MathML as their start tags do.
    const depth = (name === "p" || name === "br") && top.space !== HTML && !top.point ? this.#innermost() : 0;
    const left = depth ? this.#closeTo(depth, at) : undefined;
    return left ? left.then(() => this.#ends(name)) : this.#ends(name);
  }
  #ends(name) {
    // An end tag of nothing that is open passes.
    if (!this.#named.has(name)) return undefined;
    const top = this.#open.at(-1);
    let depth = this.#open.length - 1, across = false, barred = false;
    for (let entry = top; entry.name !== name; entry = this.#open[--depth]) {
      across ||= entry.space !== top.space;
      barred ||= entry.space === HTML && SPECIAL.has(entry.name);
    }
    // What does not leave SVG or MathML in a browser does not do so here: what follows would be read otherwise. Within HTML, authors mean what they write.
    if (barred && (across || this.#open[depth].space !== top.space) && !SPECIAL.has(name) && !FORMATTING.has(name)) return undefined;
    const left = this.#closeTo(depth + 1, this.#tokens.at);
    if (left) return left.then(() => this.#endOwn());
    if (this.#open.at(-1).kept) return this.#endOwn();
    return void this.#pop();
  }
  #endOwn() {
    const { at, end, text } = this.#tokens;
    this.#flush(at);
    const { kept, name } = this.#pop();
    if (!kept) return undefined;
    const done = given => {
      const renamed = given ?? kept.name;
      this.#change(kept.atEnd ?? UNCHANGED, renamed === null ? text.slice(at, end) : `</${renamed}>`);
    };
    return kept.handlers ? this.#handleEnd(kept, kept.name === null ? name : lower(kept.name), done) : done(null);
  }
}

const handlersOf = (handlers, names) => {
  if (!isObject(handlers)) throw new TypeError("HTMLRewriter: the handlers are not an object");
  const made = { self: handlers };
  for (const name of names) {
    const handler = handlers[name];
    if (handler === undefined || handler === null) continue;
    if (typeof handler !== "function") throw new TypeError(`HTMLRewriter: ${name} is not a function`);
    made[name] = handler;
  }
  return made;
};
class HTMLRewriter {
  #rules = []; #documents = []; #matcher = null;
  on(selector, handlers) {
    required(2, arguments.length, "on");
    const parsed = new SelectorParser(usv(selector)).whole();
    this.#rules.push({ selector: parsed, ...handlersOf(handlers, ["element", "comments", "text"]) });
    this.#matcher = null;
    return this;
  }
  onDocument(handlers) {
    required(1, arguments.length, "onDocument");
    this.#documents.push(handlersOf(handlers, ["doctype", "comments", "text", "end"]));
    return this;
  }
  transform(response) {
    required(1, arguments.length, "transform");
    if (!(isObject(response) && response instanceof Response)) throw new TypeError("transform: not a Response");
    if (response.bodyUsed || response.body?.locked) throw new TypeError("transform: the content was read already");
    if (response.body === null) return new Response(null, response);
    this.#matcher ??= new Matcher(this.#rules);
    const run = new Run([...this.#rules], [...this.#documents], this.#matcher, response.body.getReader());
    const made = new Response(new ReadableStream({ type: "bytes", pull: controller => run.pull(controller), cancel: reason => run.cancel(reason) }), response);
    made.headers.delete("content-length");
    return made;
  }
}
return HTMLRewriter;
