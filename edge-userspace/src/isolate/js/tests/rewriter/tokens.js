// Each document has one element of the name "b" that is one; it gets a mark. What else looks like one is text, a value, or within a comment.
const mark = element("b", e => e.before("!"));
for (const [document, wanted] of Object.entries({
  "<script>if (a<b) '<b>'</script><b>": "<script>if (a<b) '<b>'</script>!<b>",
  "<script><!--<b><script></script><b>--></script><b>": "<script><!--<b><script></script><b>--></script>!<b>",
  "<script><!-- <script> </script <b> --></script><b>": "<script><!-- <script> </script <b> --></script>!<b>",
  "<script><!--> <script> </script><b>": "<script><!--> <script> </script>!<b>",
  "<script><!---> <script></script><b>": "<script><!---> <script></script>!<b>",
  "<script><!-- </script><b>": "<script><!-- </script>!<b>",
  "<script><!-- <scripty></script><b>": "<script><!-- <scripty></script>!<b>",
  "<script></scriptx></SCRIPT ><b>": "<script></scriptx></SCRIPT >!<b>",
  "<script></script/x><b>": "<script></script/x>!<b>",
  "<title><b></titl></title\n><b>": "<title><b></titl></title\n>!<b>",
  "<textarea><!-- </textarea><b>": "<textarea><!-- </textarea>!<b>",
  "<style><b></style><xmp><b></xmp><iframe><b></iframe><noembed><b></noembed><noframes><b></noframes><noscript><b></noscript><b>": "<style><b></style><xmp><b></xmp><iframe><b></iframe><noembed><b></noembed><noframes><b></noframes><noscript><b></noscript>!<b>",
  "<b><plaintext><b></plaintext><b>": "!<b><plaintext><b></plaintext><b>",
  "<!-- <b> --><b>": "<!-- <b> -->!<b>", "<!--> <b>": "<!--> !<b>", "<!---> <b>": "<!---> !<b>", "<!--!> <b> --><b>": "<!--!> <b> -->!<b>", "<!---!> <b> --!><b>": "<!---!> <b> --!>!<b>",
  "<!-- <!-- --> <b>": "<!-- <!-- --> !<b>", "<!-- <!--><b>": "<!-- <!-->!<b>", "<!- <b><b>": "<!- <b>!<b>", "<? <b><b>": "<? <b>!<b>", "</ <b><b>": "</ <b>!<b>", "</><b>": "</>!<b>", "<!><b>": "<!>!<b>", "<![CDATA[<b>]]><b>": "<![CDATA[<b>]]>!<b>",
  "<a x=\"<b>\" y='<b>' z=<b><b>": "<a x=\"<b>\" y='<b>' z=<b>!<b>", "<a \"<b>\"<b>": "<a \"<b>\"!<b>", "<a x='\"'><b>": "<a x='\"'>!<b>", "<a x=y\"><b>": "<a x=y\">!<b>", "<a x= ><b>": "<a x= >!<b>", "<a =\"><b>": "<a =\">!<b>", "<a/x='<b>'/><b>": "<a/x='<b>'/>!<b>",
  "< b><1b><b>": "< b><1b>!<b>", "a < b > <B/>": "a < b > !<B/>", "<b\n>": "!<b\n>", "<b\f/ >": "!<b\f/ >", "<\0><b\0><b>": "<\0><b\0>!<b>",
  "<svg><![CDATA[<b>]]]>]<g/></svg><b>": "<svg><![CDATA[<b>]]]>]<g/></svg>!<b>",
  "<svg><style></style><desc><style><b></style></desc></svg><b>": "<svg><style></style><desc><style><b></style></desc></svg>!<b>",
  "<svg><script><x></x></script></svg><b>": "<svg><script><x></x></script></svg>!<b>",
  "<svg><title><b>": "<svg><title>!<b>", "<math><mi><style><b></style></mi><annotation-xml><g></g></annotation-xml></math><b>": "<math><mi><style><b></style></mi><annotation-xml><g></g></annotation-xml></math>!<b>",
})) await becomes(document, mark, wanted);
// Where elements are.
const spaces = async (document, wanted) => { const seen = []; await rewrite(document, element("*", e => { seen.push(e.tagName + e.namespaceURI.at(-1)); })); eq(seen.join(" "), wanted, document); };
await spaces("<svg><a/><foreignObject><p><svg></svg></foreignObject><b></svg><i>", "svgg ag foreignobjectg pl svgg bl il");
await spaces("<svg><g><p><g>", "svgg gg pl gl"); await spaces("<svg><font><font color=x><g>", "svgg fontg fontl gl"); await spaces("<svg></p><g>", "svgg gl");
await spaces("<math><mi><g></mi><mglyph/><ms><mglyph><x>", "mathL miL gl mglyphL msL mglyphL xL");
await spaces("<math><annotation-xml encoding='TEXT/html'><g><svg></svg></annotation-xml><annotation-xml><svg/><g>", "mathL annotation-xmlL gl svgg annotation-xmlL svgg gL");
// End tags that leave nothing, as in browsers: what follows is still within SVG.
await spaces("<x><p><svg></x><style><a>", "xl pl svgg styleg ag"); await spaces("<svg><foreignObject><div></svg></div></foreignObject><style><a>", "svgg foreignobjectg divl styleg ag"); await spaces("<div><p><svg></div><g>", "divl pl svgg gl"); await spaces("<x><p></x><p>", "xl pl pl");
await spaces("<svg><g></g></svg><g>", "svgg gg gl");
// What is not whole at the end passes, and is not an element.
for (const rest of ["<b", "<b a", "<b a=", "<b a='>", "<b a=\">", "<b a=x", "</b", "<", "</", "<!", "<!-", "<!doc", "<?", "<script><!--<b></scrip", "<title></titl", "<svg><![CDATA[<b>]"]) {
  let seen = 0;
  const document = `<i>${rest}`;
  await becomes(document, element("b", () => { seen++; }), document);
  eq(seen, 0, document);
}
// Comments that a handler sees.
const comments = async (document, ...wanted) => { const seen = []; await becomes(document, r => r.onDocument({ comments(c) { seen.push(c.text); } }), document); same(seen, [...wanted, ...wanted], document); };
await comments("<!--a--><!--b--!><!--><!---><!----><!--c", "a", "b", "", "", "", "c"); await comments("<!x><?y?></ z>", "x", "?y?", " z"); await comments("<!--a--!b--c-->", "a--!b--c");
await comments("<!--c--", "c"); await comments("<!---", ""); await comments("<!--c--!", "c"); await comments("<!--<!-", "<!");
// Bytes that are no UTF-8 pass, also within a tag and beside what is changed.
const odd = new Uint8Array([0x3c, 0x70, 0x20, 0x61, 0x3d, 0xff, 0x3e, 0xe9, 0x74, 0xe9, 0xc3, 0x3c, 0x2f, 0x70, 0x3e, 0xf0, 0x9f]), out = await element("p", e => { e.append("é"); })(new HTMLRewriter()).transform(new Response(odd)).bytes();
same([...out], [...odd.subarray(0, 11), 0xc3, 0xa9, ...odd.subarray(11)]);
{ let text = ""; const got = await new HTMLRewriter().onDocument({ text(t) { text += t.text; } }).transform(new Response(pieces(odd, byBytes(odd)))).bytes(); same([...got], [...odd]); eq(text, "\ufffdt\ufffd\ufffd\ufffd"); }
