// For componentize-js: what its engine has and edge's own has not, and what workers do anyway.
const started = "componentized";

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  switch (new URL(request.url).pathname) {
    case "/names":
      return Response.json(Object.getOwnPropertyNames(globalThis));
    case "/subtle":
      return Response.json(Object.getOwnPropertyNames(SubtleCrypto.prototype).filter((name) => name !== "constructor"));
    case "/form": {
      const form = await request.formData();
      return Response.json([form.get("name"), form.get("file").name]);
    }
    case "/gzip":
      return new Response(request.body.pipeThrough(new CompressionStream("gzip")));
    case "/echo":
      return new Response(request.body);
    case "/greet": {
      const response = await fetch("https://greeter.example/ann");
      return new Response("greeter said: " + (await response.text()));
    }
    case "/log":
      console.log("a line of its log");
      return new Response("logged");
    case "/spin":
      for (;;);
    case "/throw":
      throw new Error("no luck");
  }
  return new Response(`${started}\n`);
}
