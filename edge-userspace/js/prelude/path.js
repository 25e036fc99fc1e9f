// node:path, as on Linux.

const pathText = (name, value) => {
  if (typeof value !== "string") throw wrongType(name, "of type string", value);
  return value;
};
const normalParts = (path, absolute) => {
  const parts = [];
  for (const part of path.split("/")) {
    if (!part || part === ".") continue;
    if (part !== "..") parts.push(part);
    else if (parts.length && parts.at(-1) !== "..") parts.pop();
    else if (!absolute) parts.push("..");
  }
  return parts;
};
// Without slashes at its end, and where its last part begins after a slash: -1 if there is none.
const lastPart = text => {
  const trimmed = text.replace(/\/+$/, "");
  return [trimmed, trimmed.lastIndexOf("/")];
};
const path = {
  sep: "/", delimiter: ":",
  isAbsolute: text => pathText("path", text).startsWith("/"),
  normalize(text) {
    if (!pathText("path", text)) return ".";
    const absolute = text.startsWith("/"), whole = normalParts(text, absolute).join("/") || (absolute ? "" : "."), open = text.endsWith("/") && whole && (whole !== "." || !absolute);
    return (absolute ? "/" : "") + whole + (open ? "/" : "");
  },
  join: (...parts) => path.normalize(parts.filter(part => pathText("path", part)).join("/")),
  resolve(...parts) {
    let text = "";
    for (const part of ["/", ...parts].toReversed()) {
      if (pathText("paths", part)) text = text ? `${part}/${text}` : part;
      if (part.startsWith("/")) break;
    }
    return `/${normalParts(text, true).join("/")}`;
  },
  dirname(text) {
    const [trimmed, at] = lastPart(pathText("path", text));
    if (at < 0) return text.startsWith("/") ? "/" : ".";
    return at === 0 ? "/" : at === 1 && text.startsWith("//") ? "//" : trimmed.slice(0, at);
  },
  basename(text, suffix = "") {
    const [trimmed, at] = lastPart(pathText("path", text)), name = trimmed.slice(at + 1);
    if (pathText("suffix", suffix) && suffix === text) return "";
    return suffix && name !== suffix && name.endsWith(suffix) ? name.slice(0, -suffix.length) : name;
  },
  extname(text) {
    const name = path.basename(text), at = name.lastIndexOf(".");
    return at <= 0 || name === ".." ? "" : name.slice(at);
  },
  relative(from, to) {
    const a = normalParts(path.resolve(pathText("from", from)), true), b = normalParts(path.resolve(pathText("to", to)), true);
    let i = 0;
    while (i < a.length && i < b.length && a[i] === b[i]) i++;
    return [...a.slice(i).map(() => ".."), ...b.slice(i)].join("/");
  },
  parse(text) {
    const [trimmed, at] = lastPart(pathText("path", text)), base = path.basename(text), ext = path.extname(text), root = text.startsWith("/") ? "/" : "";
    return { root, dir: at > 0 ? trimmed.slice(0, at) : root, base, ext, name: ext ? base.slice(0, -ext.length) : base };
  },
  format(parts) {
    if (!isObject(parts)) throw wrongType("pathObject", "of type object", parts);
    const { dir, root = "", base, name = "", ext = "" } = parts, last = base || `${name}${ext && !ext.startsWith(".") ? "." : ""}${ext}`, before = dir || root;
    return before ? `${before}${before === root ? "" : "/"}${last}` : last;
  },
  toNamespacedPath: text => text,
};
path.posix = path;
