const fails = async (name, words, document, set, cuts = []) => {
  let error;
  try { await rewrite(document, set, cuts); } catch (thrown) { error = thrown; }
  eq(error?.name, name, `${error?.message}`);
  if (!error.message.includes(words)) throw new Error(`not "${words}": ${error.message}`);
};
// Whatever a handler throws or rejects with, the content fails with; the source is told, too.
for (const set of [
  element("p", () => { throw new RangeError("mine"); }), element("p", async () => { await 1; throw new RangeError("mine"); }),
  element("p", e => e.onEndTag(() => { throw new RangeError("mine"); })), element("p", e => e.append(new ReadableStream({ pull() { throw new RangeError("mine"); } }))),
  r => r.on("p", { text() { throw new RangeError("mine"); } }), r => r.on("p", { comments() { throw new RangeError("mine"); } }),
  r => r.onDocument({ doctype() { throw new RangeError("mine"); } }), r => r.onDocument({ text() { throw new RangeError("mine"); } }), r => r.onDocument({ end() { throw new RangeError("mine"); } }),
]) await fails("RangeError", "mine", "<!doctype html><p>t<!--c--></p>", set);
let told;
const source = new ReadableStream({ pull(controller) { controller.enqueue(bytesOfText("<p>")); }, cancel(reason) { told = reason.message; } });
await rejects("RangeError", () => new HTMLRewriter().on("p", { element() { throw new RangeError("mine"); } }).transform(new Response(source)).text()); eq(told, "mine");
await rejects("RangeError", () => new HTMLRewriter().transform(new Response(new ReadableStream({ pull() { throw new RangeError("source"); } }))).text());
// What came before the failure has gone out.
const reader = new HTMLRewriter().on("b", { element() { throw new RangeError("late"); } }).transform(new Response(pieces("<p>a</p><b>", [8]))).body.getReader();
eq(new TextDecoder().decode((await reader.read()).value), "<p>a</p>"); await rejects("RangeError", () => reader.read());
// Who goes lets the source go.
let gone; const left = new HTMLRewriter().transform(new Response(new ReadableStream({ cancel(reason) { gone = reason; } }))).body; await left.cancel("enough"); eq(gone, "enough");
// A handler's object is good while the handler runs.
const kept = {};
await becomes("<!--c--><p>t</p>", r => r.on("p", { element(e) { kept.e = e; e.onEndTag(end => { kept.end = end; }); }, text(t) { kept.t = t; } }).onDocument({ comments(c) { kept.c = c; }, end(e) { kept.d = e; } }), "<!--c--><p>t</p>");
for (const use of [() => kept.e.before("x"), () => kept.e.tagName, () => kept.e.attributes, () => kept.e.setAttribute("a", "b"), () => kept.end.after("x"), () => kept.end.name, () => kept.t.text, () => kept.t.replace("x"), () => kept.c.text, () => { kept.c.text = "x"; }, () => kept.c.removed, () => kept.d.append("x")]) throws("TypeError", use);
const locked = new Response("x").body; locked.getReader(); await fails("TypeError", "locked", "<p>", element("p", e => e.append(locked)));
// Bounds: of a tag, of a comment that somebody wants to see, of elements within each other.
const long = "x".repeat(1_100_000);
await fails("RangeError", "a tag is longer", `<p ${long}`, element("p", () => {})); await fails("RangeError", "a tag is longer", `<p a="${long}`, r => r); await fails("RangeError", "a doctype", `<!doctype ${long}`, r => r);
await fails("RangeError", "a comment is longer", `<!--${long}`, r => r.onDocument({ comments() {} })); await fails("RangeError", "a comment is longer", `<?${long}`, r => r.onDocument({ comments() {} }));
eq((await rewrite(`<!--${long}--><p>`, element("p", e => e.before("!")))).length, long.length + 11);
eq((await rewrite(`<?${long}><p>`, element("p", e => e.before("!")))).length, long.length + 7);
await fails("RangeError", "open elements", "<b>".repeat(33_000), r => r);
