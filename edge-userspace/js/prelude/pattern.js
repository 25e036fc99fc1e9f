// URLPattern (URL Pattern standard): each component's pattern becomes a regular expression.

const COMPONENTS = ["protocol", "username", "password", "hostname", "port", "pathname", "search", "hash"];
const SPECIAL_PORTS = { http: "80", https: "443", ws: "80", wss: "443", ftp: "21" };
const patternError = why => new TypeError(`URLPattern: ${why}`);
const NAME_START = /[\p{ID_Start}$_]/u, NAME_PART = /[\p{ID_Continue}$\u200c\u200d]/u;
const escapeRegexp = text => text.replace(/[.+*?^${}()[\]|/\\]/g, "\\$&");
const patternTokens = text => {
  const tokens = [], characters = [...text];
  for (let i = 0; i < characters.length;) {
    const c = characters[i];
    if (c === "*") tokens.push(["*", c]), i++;
    else if (c === "+" || c === "?") tokens.push(["modifier", c]), i++;
    else if (c === "{" || c === "}") tokens.push([c, c]), i++;
    else if (c === "\\") {
      if (i + 1 >= characters.length) throw patternError("a backslash at the end");
      tokens.push(["char", characters[i + 1]]), i += 2;
    } else if (c === ":") {
      let name = "";
      while (i + 1 < characters.length && (name ? NAME_PART : NAME_START).test(characters[i + 1])) name += characters[++i];
      if (!name) tokens.push(["char", c]);
      else tokens.push(["name", name]);
      i++;
    } else if (c === "(") {
      let depth = 1, body = "";
      for (i++; i < characters.length; i++) {
        const d = characters[i];
        if (d === "\\") { body += d + (characters[++i] ?? ""); continue; }
        if (d === ")" && !--depth) break;
        if (d === "(") {
          depth++;
          if (characters[i + 1] !== "?") throw patternError("a group within a group that captures");
        }
        body += d;
      }
      if (depth || !body || body.startsWith("?") || /[^\x00-\x7f]/.test(body)) throw patternError("a group that is none");
      tokens.push(["regexp", body]), i++;
    } else tokens.push(["char", c]), i++;
  }
  return tokens;
};
// Parts of a pattern: { type, value, name, prefix, suffix, modifier }.
const patternParts = (text, { prefixes, segment }, encode) => {
  const tokens = patternTokens(text), parts = [], names = new Set();
  let at = 0, key = 0, pending = "";
  const take = (...kinds) => (at < tokens.length && kinds.includes(tokens[at][0]) ? tokens[at++][1] : null);
  const flush = () => {
    if (pending) parts.push({ type: "fixed", value: encode(pending), modifier: "" });
    pending = "";
  };
  const add = (prefix, name, regexp, wild, suffix, modifier) => {
    if (name === null && regexp === null && !wild) {
      if (!modifier) return void (pending += prefix);
      flush();
      if (prefix) parts.push({ type: "fixed", value: encode(prefix), modifier });
      return;
    }
    flush();
    const label = name ?? `${key++}`;
    if (names.has(label)) throw patternError(`the name ${label} twice`);
    names.add(label);
    const type = wild || regexp === ".*" ? "full" : regexp === null || regexp === segment ? "segment" : "regexp";
    parts.push({ type, value: regexp, name: label, prefix: encode(prefix), suffix: encode(suffix), modifier });
  };
  const modifier = () => take("modifier") ?? take("*") ?? "";
  while (at < tokens.length) {
    const char = take("char"), name = take("name"), regexp = take("regexp"), wild = name === null && regexp === null && take("*") !== null;
    if (name !== null || regexp !== null || wild) {
      let prefix = char ?? "";
      if (prefix && !prefixes.includes(prefix)) pending += prefix, prefix = "";
      flush();
      add(prefix, name, regexp, wild, "", modifier());
      continue;
    }
    if (char !== null) { pending += char; continue; }
    if (take("{") !== null) {
      const chars = () => { let all = ""; for (let c; (c = take("char")) !== null;) all += c; return all; };
      const prefix = chars(), inner = take("name"), body = take("regexp"), any = inner === null && body === null && take("*") !== null, suffix = chars();
      if (take("}") === null) throw patternError("a brace that is not closed");
      add(prefix, inner, body, any, suffix, modifier());
      continue;
    }
    throw patternError(`${tokens[at][1]} where nothing can be repeated`);
  }
  flush();
  return parts;
};
const patternRegexp = (parts, segment, ignoreCase) => {
  let source = "^";
  const names = [];
  for (const { type, value, name, prefix, suffix, modifier } of parts) {
    if (type === "fixed") {
      source += modifier ? `(?:${escapeRegexp(value)})${modifier}` : escapeRegexp(value);
      continue;
    }
    names.push(name);
    const body = type === "full" ? ".*" : type === "segment" ? segment : value, before = escapeRegexp(prefix), after = escapeRegexp(suffix);
    if (!before && !after) source += !modifier || modifier === "?" ? `(${body})${modifier}` : `((?:${body})${modifier})`;
    else if (!modifier || modifier === "?") source += `(?:${before}(${body})${after})${modifier}`;
    else source += `(?:${before}((?:${body})(?:${after}${before}(?:${body}))*)${after})${modifier === "*" ? "?" : ""}`;
  }
  try { return { regexp: new RegExp(`${source}$`, ignoreCase ? "vi" : "v"), names }; } catch { throw patternError("a group that is no regular expression"); }
};
const partsText = parts => parts.map(({ type, value, name, prefix, suffix, modifier }) => {
  const escaped = text => text.replace(/[+*?:{}()\\]/g, "\\$&");
  if (type === "fixed") return modifier ? `{${escaped(value)}}${modifier}` : escaped(value);
  const own = /^\d+$/.test(name), body = type === "full" ? (own ? "*" : "(.*)") : type === "segment" ? "" : `(${value})`, whole = `${own ? "" : `:${name}`}${body || (own ? "([^/]+?)" : "")}`;
  return suffix || (prefix && prefix !== "/") ? `{${escaped(prefix)}${whole}${escaped(suffix)}}${modifier}` : `${escaped(prefix)}${whole}${modifier}`;
}).join("");
const viaUrl = (base, set, get) => text => {
  if (!text) return text;
  const url = new URL(base);
  set(url, text);
  return get(url);
};
const CANONICAL = {
  protocol: text => { if (text && !/^[A-Za-z][A-Za-z0-9+\-.]*$/.test(text)) throw patternError("a protocol that is none"); return text.toLowerCase(); },
  username: viaUrl("https://h/", (url, text) => { url.username = text; }, url => url.username), password: viaUrl("https://h/", (url, text) => { url.password = text; }, url => url.password),
  hostname: text => (/^\[/.test(text) || !/^[\x21-\x7e\u0080-\uffff]+$/.test(text) || /[#%/:<>?@[\\\]^|]/.test(text) ? text.toLowerCase() : viaUrl("https://h/", (url, name) => { url.hostname = name; }, url => url.hostname)(text)),
  port: text => text, pathname: viaUrl("https://h/", (url, text) => { url.pathname = text.startsWith("/") ? text : `/-${text}`; }, url => url.pathname),
  search: viaUrl("https://h/", (url, text) => { url.search = text; }, url => url.search.slice(1)), hash: viaUrl("https://h/", (url, text) => { url.hash = text; }, url => url.hash.slice(1)),
};
const canonicalPath = text => { const made = CANONICAL.pathname(text); return text.startsWith("/") || !made ? made : made.slice(2); };
const OPTIONS = { hostname: { prefixes: "", segment: "[^\\.]+?" }, pathname: { prefixes: "/", segment: "[^\\/]+?" }, other: { prefixes: "", segment: ".+?" } };
// A pattern's string cut into its components: the delimiters of a URL outside groups and braces.
const patternPieces = text => {
  const found = {}, tokens = patternTokens(text);
  let state = "pathname", depth = 0;
  const places = [];
  for (let i = 0, k = 0; k < tokens.length; k++) {
    const [kind, value] = tokens[k], raw = kind === "char" ? (text.startsWith("\\", i) ? `\\${value}` : value) : kind === "name" ? `:${value}` : kind === "regexp" ? `(${value})` : value;
    places.push({ kind, value, raw, at: i });
    i += raw.length;
  }
  // An escaped character delimits, too (URLPattern standard, "is a non-special pattern char"): so `\\?` begins a search after a name.
  const char = (k, c) => places[k]?.kind === "char" && places[k].value === c || (c === "?" && places[k]?.kind === "modifier" && places[k].value === "?");
  const cut = k => places[k]?.at ?? text.length;
  let k = 0;
  for (let j = 0; j < places.length && !("protocol" in found); j++) {
    if (places[j].kind === "{") depth++;
    else if (places[j].kind === "}") depth--;
    else if (!depth && char(j, ":") ) { found.protocol = text.slice(0, cut(j)); k = j + 1; }
    else if (!depth && (char(j, "/") || char(j, "?") && j > 0 && places[j - 1].kind === "char" || char(j, "#"))) break;
  }
  depth = 0;
  if ("protocol" in found && char(k, "/") && char(k + 1, "/")) {
    k += 2;
    let end = k, sign = -1, colon = -1;
    for (; end < places.length; end++) {
      if (places[end].kind === "{") depth++;
      else if (places[end].kind === "}") depth--;
      else if (!depth && (char(end, "/") || char(end, "#") || (char(end, "?") && places[end].kind === "char") || (char(end, "?") && places[end - 1]?.kind === "char"))) break;
      else if (!depth && char(end, "@")) sign = end, colon = -1;
      else if (!depth && char(end, ":")) colon = end;
    }
    if (sign >= 0) {
      const user = text.slice(cut(k), cut(sign)), at = user.indexOf(":");
      found.username = at < 0 ? user : user.slice(0, at);
      if (at >= 0) found.password = user.slice(at + 1);
      k = sign + 1;
    }
    found.hostname = text.slice(cut(k), colon >= 0 ? cut(colon) : cut(end));
    found.port = colon >= 0 ? text.slice(cut(colon) + 1, cut(end)) : "";
    k = end;
  }
  let begin = cut(k);
  depth = 0;
  for (; k <= places.length; k++) {
    if (places[k]?.kind === "{") depth++;
    else if (places[k]?.kind === "}") depth--;
    const search = !depth && state === "pathname" && char(k, "?") && (places[k].kind === "char" || !["name", "regexp", "}", "*"].includes(places[k - 1]?.kind)), hash = !depth && char(k, "#");
    if (k === places.length || search || hash) {
      const piece = text.slice(begin, cut(k));
      if (piece || state !== "pathname" || "hostname" in found) found[state] = piece;
      begin = cut(k) + 1;
      state = search ? "search" : "hash";
      if (hash && k < places.length) {
        found.hash = text.slice(begin);
        break;
      }
    }
  }
  return found;
};
class URLPattern {
  #parts = {}; #compiled = {};
  constructor(input = {}, base = undefined, options = undefined) {
    if (isObject(base)) [base, options] = [undefined, base];
    const { ignoreCase } = dictionary(options, "the options");
    let init;
    if (typeof input === "string" || !isObject(input)) {
      init = patternPieces(`${input}`);
      if (base === undefined && !("protocol" in init)) throw patternError("a relative pattern without a base");
      init = { ...init, ...(base === undefined ? {} : { baseURL: base }) };
    } else {
      if (base !== undefined) throw patternError("a base beside an object");
      init = { ...input };
    }
    const found = URLPattern.#inherit(init);
    for (const name of COMPONENTS) {
      let text = found[name] ?? "*";
      if (name === "port" && SPECIAL_PORTS[found.protocol] === text) text = "";
      const opaque = name === "pathname" && found.protocol !== undefined && !/[*:({]/.test(found.protocol) && !(found.protocol in SPECIAL_PORTS) && found.protocol !== "file" && found.protocol !== "";
      const settings = OPTIONS[opaque ? "other" : name] ?? OPTIONS.other;
      const parts = patternParts(text, settings, name === "pathname" ? (opaque ? piece => piece : canonicalPath) : CANONICAL[name]);
      this.#parts[name] = partsText(parts);
      this.#compiled[name] = { ...patternRegexp(parts, settings.segment, !!ignoreCase), custom: parts.some(part => part.type === "regexp") };
    }
  }
  // What is not given comes from the base, up to the first component that is.
  static #inherit({ baseURL, ...init }) {
    const found = {};
    for (const name of COMPONENTS) if (init[name] !== undefined) found[name] = `${init[name]}`;
    if (found.protocol?.endsWith(":")) found.protocol = found.protocol.slice(0, -1);
    if (found.search?.startsWith("?")) found.search = found.search.slice(1);
    if (found.hash?.startsWith("#")) found.hash = found.hash.slice(1);
    if (baseURL !== undefined) {
      const url = new URL(baseURL), escaped = text => text.replace(/[+*?:{}()\\]/g, "\\$&");
      const given = name => name in found;
      if (!given("protocol")) found.protocol = url.protocol.slice(0, -1);
      if (!["protocol", "hostname", "port"].some(name => init[name] !== undefined)) {
        found.hostname = escaped(url.hostname);
        found.port = url.port;
      }
      const above = ["protocol", "hostname", "port"].some(name => init[name] !== undefined);
      if (!given("pathname")) { if (!above) found.pathname = escaped(url.pathname); }
      else if (!found.pathname.startsWith("/") && !/^[*{(]/.test(found.pathname) && !above) found.pathname = escaped(url.pathname.slice(0, url.pathname.lastIndexOf("/") + 1)) + found.pathname;
      if (!given("search") && !above && init.pathname === undefined) found.search = escaped(url.search.slice(1));
      if (!given("hash") && !above && init.pathname === undefined && init.search === undefined) found.hash = escaped(url.hash.slice(1));
    }
    return found;
  }
  #match(input, base) {
    let values;
    if (typeof input === "string" || !isObject(input) || input instanceof URL) {
      const url = URL.parse(`${input}`, base);
      if (!url) return null;
      values = { protocol: url.protocol.slice(0, -1), username: url.username, password: url.password, hostname: url.hostname, port: url.port, pathname: url.pathname, search: url.search.slice(1), hash: url.hash.slice(1) };
    } else {
      if (base !== undefined) throw patternError("a base beside an object");
      let from = {};
      if (input.baseURL !== undefined) {
        const url = URL.parse(`${input.baseURL}`);
        if (!url) return null;
        from = { protocol: url.protocol.slice(0, -1), hostname: url.hostname, port: url.port, pathname: url.pathname };
      }
      values = { protocol: "", username: "", password: "", hostname: "", port: "", pathname: "", search: "", hash: "", ...from };
      for (const name of COMPONENTS) {
        if (input[name] === undefined) continue;
        let text = `${input[name]}`;
        if (name === "protocol") text = text.replace(/:$/, "");
        if (name === "search") text = text.replace(/^\?/, "");
        if (name === "hash") text = text.replace(/^#/, "");
        try { values[name] = name === "pathname" ? canonicalPath(text) : CANONICAL[name](text); } catch { return null; }
      }
    }
    const result = { inputs: base === undefined ? [input] : [input, base] };
    for (const name of COMPONENTS) {
      const { regexp, names } = this.#compiled[name], found = regexp.exec(values[name]);
      if (!found) return null;
      result[name] = { input: values[name], groups: Object.fromEntries(names.map((group, i) => [group, found[i + 1]])) };
    }
    return result;
  }
  test(input = {}, base = undefined) { return this.#match(input, base) !== null; }
  exec(input = {}, base = undefined) { return this.#match(input, base); }
  get protocol() { return this.#parts.protocol; }
  get username() { return this.#parts.username; }
  get password() { return this.#parts.password; }
  get hostname() { return this.#parts.hostname; }
  get port() { return this.#parts.port; }
  get pathname() { return this.#parts.pathname; }
  get search() { return this.#parts.search; }
  get hash() { return this.#parts.hash; }
  get hasRegExpGroups() { return COMPONENTS.some(name => this.#compiled[name].custom); }
}
interfaces({ URLPattern });
