// Where things go, and in which order.
await becomes("<p id=x>t</p>", element("#x", e => e.before("<1>", RAW).before("<2>", RAW).before("<3>")), "<1><2>&lt;3&gt;<p id=x>t</p>");
await becomes("<p id=x>t</p>", element("#x", e => e.after("<1>", RAW).after("<2>", RAW).after("&3")), "<p id=x>t</p>&amp;3<2><1>");
await becomes("<p>t</p><img>", element("*", e => e.prepend("1").prepend("2").append("3").append("4")), "<p>21t34</p><img>");
await becomes("<p>a<b>b</b></p>c", element("p", e => e.setInnerContent("<x>")), "<p>&lt;x&gt;</p>c");
await becomes("<p>a<b>b</b></p>c", element("p", e => e.append("1").setInnerContent("<x>", RAW).append("2")), "<p><x>2</p>c");
await becomes("<p>a<b>b</b></p>c", element("b", e => e.remove()), "<p>a</p>c");
await becomes("<p>a<b>b</b></p>c", element("b", e => e.before("1").after("2").remove()), "<p>a12</p>c");
await becomes("<p>a<b>b</b></p>c", element("b", e => e.removeAndKeepContent()), "<p>ab</p>c");
await becomes("<p>a<b>b</b></p>c", element("b", e => e.replace("<i>", RAW)), "<p>a<i></p>c");
await becomes("<p>a<b>b</b></p>c", element("b", e => e.replace("1").replace("2")), "<p>a2</p>c");
await becomes("<br><br/>", element("br", e => e.before("1").after("2").append("3").setInnerContent("4")), "1<br>21<br/>2");
await becomes("<br>x", element("br", e => e.replace("y")), "yx");
// Names and attributes: what is not asked for keeps its case, its quotes, its references.
await becomes("<A HREF='x' b=c d>t</A>", element("a[href]", e => e.setAttribute("href", "q\"&").setAttribute("New", "é").removeAttribute("B")), "<A href=\"q&quot;&\" d New=\"é\">t</A>");
await becomes("<a href='?a&amp;b' X = 1>t</a>", element("a", e => { eq(e.getAttribute("HREF"), "?a&amp;b"); eq(e.getAttribute("none"), null); eq(e.hasAttribute("x"), true); same([...e.attributes], [["href", "?a&amp;b"], ["x", "1"]]); e.setAttribute("y", ""); }), "<a href='?a&amp;b' X = 1 y=\"\">t</a>");
await becomes("<Div>t</DIV>", element("div", e => { eq(e.tagName, "div"); eq(e.namespaceURI, "http://www.w3.org/1999/xhtml"); e.tagName = "Section"; eq(e.tagName, "section"); }), "<Section>t</Section>");
await becomes("<svg><g/><path a=b/></svg>", element("g", e => { eq(e.namespaceURI, "http://www.w3.org/2000/svg"); e.tagName = "h"; e.after("!"); }), "<svg><h/>!<path a=b/></svg>");
await becomes("<svg><path a=b /></svg>", element("path", e => e.setAttribute("c", "d")), "<svg><path a=b c=\"d\" /></svg>");
for (const bad of ["", "a b", "a=", "a>", "a/", "\n"]) await becomes("<p>", element("p", e => throws("TypeError", () => e.setAttribute(bad, ""))), "<p>");
for (const bad of ["", "1", "a b", "a>", "é"]) await becomes("<p>", element("p", e => throws("TypeError", () => { e.tagName = bad; })), "<p>");
// End tags.
await becomes("<p>a</p>b", element("p", e => e.append("1").after("2").onEndTag(end => { eq(end.name, "p"); end.before("3").after("4"); })), "<p>a13</p>42b");
await becomes("<p>a</p>b", element("p", e => e.onEndTag(end => { end.name = "q"; eq(end.name, "q"); })), "<p>a</q>b");
await becomes("<p>a</p>b", element("p", e => e.onEndTag(async end => { await 0; end.remove(); })), "<p>ab");
await becomes("<br>", element("br", e => throws("TypeError", () => e.onEndTag(() => {}))), "<br>");
// An end tag that is not there: the element ends where one around it does, whose own end tag stays.
await becomes("<div><p>x</div>y", element("p", e => e.append("1").after("2").onEndTag(end => end.before("3"))), "<div><p>x132</div>y");
await becomes("<div><p>x</div>y", element("p", e => e.remove()), "<div></div>y");
await becomes("<body><p>x", element("body", e => e.append("<s>", RAW)), "<body><p>x<s>");
await becomes("<ul><li>a<li>b</ul>c", element("li", e => { e.tagName = "dd"; }), "<ul><dd>a<dd>b</ul>c");
await becomes("</p><p>a</b></p></p>", element("p", e => e.append("1")), "</p><p>a</b>1</p></p>");
// Within what is removed handlers run, and nothing comes out.
{ const seen = []; await becomes("<div>a<p>b<!--c--></p></div>d", r => r.on("div", { element(e) { e.remove(); } }).on("p", { element(e) { seen.push(e.removed); e.before("x").append(new Response("s")).after("y"); }, text(t) { seen.push(t.text); }, comments(c) { c.before("z"); } }), "d"); same(seen.slice(0, 2), [true, "b"]); }
await becomes("<div>a<p>b</p></div>d", r => r.on("div", { element(e) { e.setInnerContent("i").append("j"); } }).on("p", { element(e) { e.replace("x"); } }), "<div>ij</div>d");
// Text, comments, the doctype, the end.
await becomes("<a>one <b>two</b></a>x", r => r.on("a", { text(t) { if (t.lastInTextNode) t.after("."); else t.replace(t.text.toUpperCase()); } }), "<a>ONE .<b>TWO.</b></a>x");
await becomes("<a>té&amp;</a>x", r => { let all = ""; return r.on("a", { text(t) { all += t.text; t.remove(); eq(t.removed, true); if (t.lastInTextNode) t.before(all, RAW).after("<"); } }); }, "<a>té&amp;&lt;</a>x");
await becomes("a<!-- b -->c", r => r.onDocument({ comments(c) { eq(c.text, " b "); c.text = "é"; eq(c.text, "é"); c.before("1").after("2"); } }), "a1<!--é-->2c");
await becomes("<p><!--a--></p><!--b-->", r => r.on("p", { comments(c) { c.remove(); } }), "<p></p><!--b-->");
await becomes("<!--a-->", r => r.onDocument({ comments(c) { for (const bad of ["-->", "--!>", ">", "->x"]) throws("TypeError", () => { c.text = bad; }); c.replace("<b>", RAW); } }), "<b>");
for (const [text, wanted] of [["<!doctype html>", ["html", null, null]], ["<!DOCTYPE HTML PUBLIC '-//W3C//DTD' \"u\">", ["html", "-//W3C//DTD", "u"]], ["<!doctype x SYSTEM 'é'", ["x", null, "é"]], ["<!doctype>", [null, null, null]]]) {
  let seen = 0;
  await becomes(text, r => r.onDocument({ doctype(d) { seen++; same([d.name, d.publicId, d.systemId], wanted); } }), text);
  eq(seen, 2);
}
await becomes("<p>", r => r.onDocument({ end(e) { e.append("<1>", RAW).append("<2>"); } }).on("p", { element(e) { e.append("3"); } }), "<p>3<1>&lt;2&gt;");
await becomes("", r => r.onDocument({ end(e) { e.append("x"); } }), "x");
// In the order in which they were added; `this` is the object that was given; promises are waited for.
class Handler { constructor(name) { this.name = name; } async element(e) { await new Promise(done => setTimeout(done, 1)); e.append(this.name); } text(t) { if (t.lastInTextNode) t.after(`(${this.name})`); } }
await becomes("<p>t</p>", r => r.on("p", new Handler("1")).on("*", new Handler("2")).onDocument({ text: Handler.prototype.text, name: "d" }), "<p>t(2)(1)(d)12</p>");
// Streams and responses as content, text or markup, read when it is their turn.
await becomes("<p>t</p><i>", r => r.on("p", { element(e) { e.append(new Response("<s>é</s>"), RAW).prepend(pieces("<é&>", [2, 3])); } }).on("i", { element(e) { e.after(new Response(null)).after(ReadableStream.from(["x", bytesOfText("y")])); } }), "<p>&lt;é&amp;&gt;t<s>é</s></p><i>xy");
// What was made of a response.
const from = new Response("<p>", { status: 201, statusText: "Made", headers: { "content-length": "3", "x-a": "b", "content-type": "text/html" } }), made = new HTMLRewriter().transform(from);
same([made.status, made.statusText, made.headers.get("content-length"), made.headers.get("x-a"), made.headers.get("content-type"), await made.text()], [201, "Made", null, "b", "text/html", "<p>"]);
eq(from.bodyUsed, true); throws("TypeError", () => new HTMLRewriter().transform(from)); throws("TypeError", () => new HTMLRewriter().transform("<p>")); throws("TypeError", () => new HTMLRewriter().on("p")); throws("TypeError", () => new HTMLRewriter().on("p", { element: 1 }));
eq(new HTMLRewriter().transform(new Response(null, { status: 204 })).status, 204);
// Once is as good as twice.
{ const one = new HTMLRewriter().on("p:nth-child(1)", { element(e) { e.append("1"); } }); for (let i = 0; i < 2; i++) eq(await one.transform(new Response("<p></p>")).text(), "<p>1</p>"); one.on("p", { element(e) { e.append("2"); } }); eq(await one.transform(new Response("<p></p>")).text(), "<p>12</p>"); }
