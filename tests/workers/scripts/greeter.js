// An example: greets by the name of its path, in words of its settings, and counts its visits in the zone's store.
//
//   [zone.worker]
//   settings = { greeting = "good day" }
//   [zone.worker.keyvalue]

export default {
  async fetch(request, env, ctx) {
    const name = decodeURIComponent(new URL(request.url).pathname.slice(1)) || "stranger";
    const greeting = env.greeting ?? "hello";
    let visit = "";
    if (env.KV) {
      const count = 1 + Number((await env.KV.get(`js-visits:${name}`)) ?? 0);
      // Behind the response: nobody waits for the disk.
      ctx.waitUntil(env.KV.put(`js-visits:${name}`, String(count)));
      visit = `, visit ${count}`;
    }
    console.log(`greets ${name}`);
    return new Response(`${greeting}, ${name}${visit}\n`);
  },
};
