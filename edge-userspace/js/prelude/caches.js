// The zone's cache as a worker uses it by itself (Service Workers standard, section 5.4, as servers have it): `caches.default` and
// `caches.open`. What is kept ends by what its fields say (RFC 9111), and may go before.

const LONGEST_CACHE = 128;
const cacheName = value => {
  const name = usv(value);
  if (!name || name.length > LONGEST_CACHE || name.includes("\n")) throw new TypeError(`caches: a name has 1 to ${LONGEST_CACHE} characters on one line`);
  return name;
};
const cacheRequest = (input, what) => {
  whileLive(what);
  const request = isObject(input) && input instanceof Request ? input : new Request(isObject(input) && input instanceof URL ? input : new URL(usv(input), currentUrl));
  if (!/^https?:/.test(request.url)) throw new TypeError(`${what}: not an http URL`);
  return request;
};
class Cache {
  #name;
  constructor(token, name) { illegal(token); this.#name = name; }
  // The answer to a wish: of status 0 if there is none.
  #ask(request, deed, rest = "", content = null, kind = 0) {
    const id = host.fetch(`GET\n${request.url}\n${requestParts(request).headers}\n${deed}\n${this.#name}${rest}`, content, kind);
    return { id, answer: operation(id, `caches: ${deed}`) };
  }
  async match(input, options = undefined) {
    required(1, arguments.length, "match");
    const request = cacheRequest(input, "match");
    if (request.method !== "GET" && !dictionary(options, "the options").ignoreMethod) return undefined;
    const found = await this.#ask(request, "find").answer;
    return found.status ? responseOf(found, "GET", request.url, false) : undefined;
  }
  async put(input, response) {
    required(2, arguments.length, "put");
    const request = cacheRequest(input, "put");
    if (request.method !== "GET") throw new TypeError(`put: a response to ${request.method} is not kept`);
    if (!isObject(response) || !(response instanceof Response) || response.type === "error") throw new TypeError("put: not a response");
    if (response.status === 206 || response.status < 200) throw new TypeError(`put: a response with status ${response.status} is not whole`);
    if ((response.headers.get("vary") ?? "").split(",").some(name => name.trim() === "*")) throw new TypeError("put: the response varies by everything");
    const content = contentTake(response), rest = `\n${response.status}\n${responseHead(response)}`;
    const { kind, value } = content;
    const { id, answer } = kind === TEXT || kind === BYTES ? this.#ask(request, "keep", rest, value, 1)
      : kind === FOREIGN ? this.#ask(request, "keep", rest, null, 16 + value) : this.#ask(request, "keep", rest, null, kind === STREAM ? 2 : 0);
    if (kind !== STREAM) return void await answer;
    // Content that is not kept is not read to its end either.
    let broken = null;
    const poured = id >= 0 ? pour(value, -1 - id, "put", CLIENT_GONE).catch(error => { if (error !== CLIENT_GONE) broken = error; }) : undefined;
    await answer;
    await poured;
    if (broken) throw broken;
  }
  async delete(input, options = undefined) {
    required(1, arguments.length, "delete");
    const request = cacheRequest(input, "delete");
    if (request.method !== "GET" && !dictionary(options, "the options").ignoreMethod) return false;
    return (await this.#ask(request, "forget").answer).status !== 0;
  }
}
class CacheStorage {
  #default;
  constructor(token) { illegal(token); this.#default = new Cache(INTERNAL, "default"); }
  get default() { return this.#default; }
  async open(name) {
    required(1, arguments.length, "open");
    return new Cache(INTERNAL, `=${cacheName(name)}`);
  }
}
interfaces({ Cache, CacheStorage });
expose("caches", new CacheStorage(INTERNAL));
