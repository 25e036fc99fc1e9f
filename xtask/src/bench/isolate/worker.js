// What tests/workers/bench does, for workerd and for the edge's own JavaScript engine.
export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname === "/sub") {
      const response = await (env.TWO ? env.TWO.fetch("https://two.example/") : fetch("https://two.example/"));
      return new Response("one got: " + (await response.text()));
    }
    if (pathname === "/json") {
      const { items } = await request.json();
      const total = items.reduce((sum, item) => sum + item.price, 0);
      const rows = items.map(({ id, name, price }) => ({ id, label: name, cost: price }));
      rows.sort((a, b) => (a.label < b.label ? -1 : a.label > b.label ? 1 : 0));
      return new Response(JSON.stringify({ count: rows.length, total, rows }));
    }
    return new Response("hello from a worker\n");
  },
};
