const RAW = { html: true };
const bytesOfText = text => (typeof text === "string" ? new TextEncoder().encode(text) : text);
// A document that comes in pieces, which end at `cuts`.
const pieces = (document, cuts) => {
  const bytes = bytesOfText(document);
  let at = 0;
  return new ReadableStream({
    start(controller) {
      for (const cut of [...cuts, bytes.length]) {
        if (cut > at) controller.enqueue(bytes.slice(at, cut));
        at = Math.max(at, cut);
      }
      controller.close();
    },
  });
};
const byBytes = document => Array.from({ length: bytesOfText(document).length }, (_, i) => i);
const rewrite = (document, set, cuts = []) => set(new HTMLRewriter()).transform(new Response(pieces(document, cuts))).text();
// Whole, and byte by byte.
const becomes = async (document, set, wanted) => {
  eq(await rewrite(document, set), wanted, document);
  eq(await rewrite(document, set, byBytes(document)), wanted, `by bytes: ${document}`);
};
const element = (selector, handler) => rewriter => rewriter.on(selector, { element: handler });
