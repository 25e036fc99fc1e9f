const chosen = async (selector, document, wanted) => {
  const seen = [];
  await rewrite(document, element(selector, e => { seen.push(e.getAttribute("n")); }));
  eq(seen.join(), wanted, `${selector} in ${document}`);
};
const LIST = "<ul n=u class='a b' id=U lang=en-US><li n=1></li><li n=2></li></ul><ul n=v class=ab><li n=3 data-x='Foo Bar'></li><b n=b><li n=4></li></b><li n=5 type=TEXT></li></ul>";
for (const [selector, wanted] of Object.entries({
  "*": "u,1,2,v,3,b,4,5", "li": "1,2,3,4,5", "LI": "1,2,3,4,5", "x": "", ".a": "u", ".a.b": "u", "ul.a#U": "u", "#u": "", ".A": "", "li, b": "1,2,3,b,4,5",
  "[n]": "u,1,2,v,3,b,4,5", "[N='3']": "3", "[n=b]": "b", "[n='']": "", "[lang|=en]": "u", "[lang|='en-us' i]": "u", "[lang|=e]": "", "[data-x~=Bar]": "3", "[data-x~='Foo Bar']": "", "[data-x^=Foo]": "3", "[data-x^='']": "", "[data-x$=bar i]": "3", "[data-x$=bar]": "", "[data-x*='o B' s]": "3", "[data-x*=\"O b\" I]": "3",
  "[type=text]": "5", "[type=text s]": "", "[ n = \"5\" ]": "5",
  "ul > li": "1,2,3,5", "ul li": "1,2,3,4,5", "ul>b>li": "4", "ul b li": "4", "b li, #U": "u,4", "ul ul": "", "* > li": "1,2,3,4,5", ".ab > *": "3,b,5", "ul > li:not([type])": "1,2,3",
  "li:first-child": "1,3,4", "li:nth-child(2)": "2", "li:nth-child(odd)": "1,3,4,5", "li:nth-child(even)": "2", "li:nth-child(2n + 1)": "1,3,4,5", "li:nth-child(-n+2)": "1,2,3,4", "li:nth-child(n+3)": "5", "li:nth-child( 3 )": "5", "li:nth-child(+3n)": "5", "li:nth-child(0)": "",
  "li:first-of-type": "1,3,4", "li:nth-of-type(2)": "2,5", "b:nth-of-type(1)": "b", "ul:nth-of-type(2) > li:nth-of-type(2n)": "5", "ul:nth-child(2) b": "b",
  ":not(li)": "u,v,b", "li:not([n='1'], [n='2'], .x)": "3,4,5", "*:not(ul):not(li)": "b", ":not(:not(b))": "b", "li:not(:first-child)": "2,5", "*|li": "1,2,3,4,5", "*|*": "u,1,2,v,3,b,4,5",
  "ul /* c */ > /**/ b>li": "4", "#\\55": "u", "#\\000055 ": "u", "\\6ci": "1,2,3,4,5", "[data-x=Foo\\ Bar]": "3", "[data-x='Foo\\20 Bar']": "3", "\tli\n,\fb ": "1,2,3,b,4,5",
})) await chosen(selector, LIST, wanted);
await chosen("svg > lineargradient", "<svg><linearGradient n=1 /></svg>", "1"); await chosen("foreignObject", "<svg><foreignobject n=1></svg>", "1"); await chosen("é.ü[ö=ä]", "<p><é n=0><pé n=1><a class='ü x' n=3>", ""); await chosen(".ü[ö=ä]", "<a class='ü x' ö=ä n=1>", "1");
await chosen("p p", "<p n=1><p n=2></p><p n=3>", "2,3"); await chosen("br", "<br n=1><br n=2 />", "1,2"); await chosen("br > i", "<br><i n=1>", ""); await chosen("i:nth-child(3)", "<br><br/><i n=1>", "1");
await chosen("[type=a]", "<svg><g type=A n=1 /></svg><g type=A n=2>", "2"); await chosen("[a=b]", "<p a=b a=c n=1><p a=c a=b n=2>", "1");
for (const bad of ["", " ", ",", "a,", ",a", "a > ", "> a", "a +b", "a ~ b", "a:hover", "a::before", "a:nth-last-child(1)", "a:nth-child(x)", "a:nth-child()", "a:nth-child(1", ":not()", ":not(a b)", ":not(a", ":is(a)", ":root", "[", "[a", "[]", "[a=", "[a==b]", "[a=b x]", "[a='b]", "[a|b]", "a|b", "#", "#1", ".", "a)", "*a", "a{}", "\\"]) throws("TypeError", () => new HTMLRewriter().on(bad, {}));
// A long chain, and many rules.
let chain = new HTMLRewriter(), met = 0;
chain.on(Array(200).fill("i").join(" "), { element() { met++; } });
await chain.transform(new Response("<i>".repeat(250))).text(); eq(met, 51);
let many = new HTMLRewriter(), hits = 0;
for (let i = 0; i < 300; i++) many.on(`.c${i} > p`, { element() { hits++; } });
await many.transform(new Response(Array.from({ length: 300 }, (_, i) => `<div class=c${i}><p></p></div>`).join(""))).text(); eq(hits, 300);
