// Documents of random parts, cut at random places: what comes out is the same, and what is not touched is what came in. The generator is a
// linear congruential one, so that a failure can be repeated.
const PARTS = ["<", ">", "</", "/>", "<!--", "-->", "--!>", "<script>", "</script", "</script>", "<style>", "</style >", "<title>", "</title>", "<svg>", "</svg>", "<![CDATA[", "]]>", "<p ", "a=\"", "'", "\"", "=", " ", "<b>", "</b>", "é", "😀",
  "\n", "<!doctype html", "<?x", "<!x", "&amp;", "<foreignObject>", "<math><mi>", "x", "y", "<plaintext>", "<li>", "<ul>", "</ul>", "<textarea>", "</textarea>", "<div class=c>", "</div>", "<br>", "<br/>", "-", "--", "<p>", "<Script >", "<!-", "<i/>", "\0", "\r\n"];
let seed = 20261130;
const random = below => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
};
const all = () => {
  const log = [];
  let text = "";
  const set = r => r.on("p", { element(e) { e.setAttribute("z", "1").onEndTag(end => { end.before("E"); log.push("/p"); }); }, comments(c) { c.before("C"); } })
    .on("b", { element(e) { e.remove(); } }).on(".c", { element(e) { e.prepend("<P>", RAW).after("A"); } }).on("svg *", { element(e) { e.before(e.namespaceURI.slice(-4)); } })
    .on("li:nth-child(2n+1)", { element(e) { e.removeAndKeepContent(); } }).on("ul", { element(e) { e.append("U"); } })
    .onDocument({ comments(c) { log.push(c.text); }, doctype(d) { log.push(`${d.name}`); }, end(e) { e.append("END"); },
      text(t) { text += t.text; t.remove(); if (t.lastInTextNode) { t.after(`{${text}}`); text = ""; } } });
  return [set, log];
};
const idle = r => r.on("*", { element() {}, text() {}, comments() {} }).onDocument({ text() {}, comments() {}, doctype() {}, end() {} });
const cutsOf = (length, count) => Array.from({ length: count }, () => random(length)).sort((a, b) => a - b);
for (let round = 0; round < 150; round++) {
  let document = "";
  for (let left = random(25) + 1; left--;) document += PARTS[random(PARTS.length)];
  const bytes = bytesOfText(document);
  if (random(3) === 0) bytes[random(bytes.length)] = random(256);
  for (const set of [idle, r => r.on("none", { element() {} })]) {
    const same = await set(new HTMLRewriter()).transform(new Response(pieces(bytes, cutsOf(bytes.length, 2)))).bytes();
    if (!same.every((byte, i) => byte === bytes[i]) || same.length !== bytes.length) throw new Error(`not as it came: ${JSON.stringify(document)}`);
  }
  const [whole, wanted] = all(), text = await rewrite(bytes, whole);
  for (const cuts of [byBytes(bytes), cutsOf(bytes.length, 3)]) {
    const [set, log] = all();
    eq(await rewrite(bytes, set, cuts), text, `${JSON.stringify(document)} cut at ${cuts}`);
    same(log, wanted, document);
  }
}
