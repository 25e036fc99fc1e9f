// An example in front of an origin: links that are signed, and good for a while. /sign?path=/a/b&seconds=60 gives one (for who has the
// password); below /private/ only such links reach the origin; every page of the origin is stamped on its way through.
//
//   [zone.worker]
//   secrets = { link_key = "link.key" }
//   [zone.origin] …

const encoder = new TextEncoder();
const hex = bytes => [...new Uint8Array(bytes)].map(byte => byte.toString(16).padStart(2, "0")).join("");
const unhex = text => Uint8Array.from(text.match(/../g) ?? [], pair => parseInt(pair, 16));
const message = (path, until) => encoder.encode(`${path}\n${until}`);

let keys = null;
const keyOf = env => (keys ??= crypto.subtle.importKey("raw", encoder.encode(env.link_key), { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]));

// Appends a line to a stream without holding it.
const stamp = text => new TransformStream({ flush(controller) { controller.enqueue(encoder.encode(text)); } });

export default {
  async fetch(request, env) {
    const url = new URL(request.url), key = await keyOf(env);
    if (url.pathname === "/sign") {
      if (request.headers.get("authorization") !== `Bearer ${env.link_key}`) return new Response("who are you?\n", { status: 401 });
      const path = url.searchParams.get("path") ?? "/", until = Math.floor(Date.now() / 1000) + Number(url.searchParams.get("seconds") ?? 60);
      return Response.json({ link: `${path}?until=${until}&mac=${hex(await crypto.subtle.sign("HMAC", key, message(path, until)))}` });
    }
    if (url.pathname.startsWith("/private/")) {
      const until = url.searchParams.get("until"), mac = unhex(url.searchParams.get("mac") ?? "");
      const good = await crypto.subtle.verify("HMAC", key, mac, message(url.pathname, until));
      if (!good || Number(until) * 1000 < Date.now()) return new Response("this link is not good, or no longer\n", { status: 403 });
      url.search = "";
    }
    // The worker's own zone: its origin.
    const page = await fetch(new Request(url, request));
    if (!page.headers.get("content-type")?.startsWith("text/")) return page;
    const headers = new Headers(page.headers);
    headers.delete("content-length");
    headers.set("x-worker", "links");
    return new Response(page.body?.pipeThrough(stamp("passed by links.js\n")), { status: page.status, headers });
  },
};
