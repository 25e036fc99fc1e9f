// The worker of `cargo xtask soak`: greets, stores, hands on what its origin says, fails, and never ends.

export default {
  async fetch(request, env) {
    const [, what, first, second] = new URL(request.url).pathname.split("/");
    switch (what) {
      case "throw":
        throw new Error("as asked");
      case "spin":
        for (;;);
      case "store": {
        const key = `${first}/${second}`;
        await env.KV.put(key, second);
        const stored = await env.KV.get(key);
        await env.KV.delete(key);
        return new Response(stored);
      }
      case "data":
        return fetch(request);
      default:
        return new Response(`hello, ${first ?? what}\n`);
    }
  },
};
