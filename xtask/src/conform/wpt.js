// Runs one file of the web-platform-tests in a request: its content is the harness, the file and the scripts that it names, as JSON.

export default {
  async fetch(request) {
    const { url, scripts, files } = await request.json();
    globalThis.GLOBAL = { isWindow: () => false, isWorker: () => true, isShadowRealm: () => false };
    globalThis.location = new URL(url);
    const asked = globalThis.fetch;
    // Resources of the suite that lie beside the file.
    globalThis.fetch = (input, init) => {
      const name = typeof input === "string" ? new URL(input, url).pathname : "";
      return Object.hasOwn(files, name) ? Promise.resolve(new Response(files[name])) : asked(input, init);
    };
    const [harness, ...rest] = scripts, evaluate = eval;
    evaluate(harness);
    const results = new Promise(resolve => globalThis.add_completion_callback((tests, status) =>
      resolve({ harness: status.status, said: status.message ?? null, tests: tests.map(({ name, status: of, message }) => [name, of, message ?? null]) })));
    for (const script of rest) evaluate(script);
    return Response.json(await results);
  },
};
