// The functions that the prelude calls: each takes what the prelude has checked, reads strings before buffers (making a string may
// run a worker's code, which may detach a buffer), and hands bytes to the host in place.
#include "edge.h"
#include <stdlib.h>
#include <string.h>

#define NATIVE(name) static JSValue name(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv)
typedef struct {
  const uint8_t *p;
  size_t n;
  const char *string;  // to be freed
} Bytes;

// A Uint8Array, an ArrayBuffer, or a string as UTF-8; nothing for undefined and null. False: an exception is pending.
static int bytes_of(JSContext *ctx, JSValueConst value, Bytes *out) {
  memset(out, 0, sizeof *out);
  if (JS_IsUndefined(value) || JS_IsNull(value)) return 1;
  if (JS_IsString(value)) {
    out->string = JS_ToCStringLen(ctx, &out->n, value);
    out->p = (const uint8_t *)out->string;
    return out->string != NULL;
  }
  if (JS_IsArrayBuffer(value)) {
    out->p = JS_GetArrayBuffer(ctx, &out->n, value);
  } else {
    out->p = JS_GetUint8Array(ctx, &out->n, value);
  }
  if (!out->p && JS_HasException(ctx)) {
    // An empty buffer has no address and is none the worse for it.
    JS_FreeValue(ctx, JS_GetException(ctx));
    out->n = 0;
  }
  return 1;
}
static void release(JSContext *ctx, Bytes *bytes) {
  if (bytes->string) JS_FreeCString(ctx, bytes->string);
}
static int integer(JSContext *ctx, JSValueConst value) {
  int32_t number = 0;
  if (JS_ToInt32(ctx, &number, value)) JS_FreeValue(ctx, JS_GetException(ctx));
  return number;
}

NATIVE(n_log) {
  Bytes text;
  if (!bytes_of(ctx, argv[1], &text)) return JS_EXCEPTION;
  host_log(integer(ctx, argv[0]), (const char *)text.p, text.n);
  release(ctx, &text);
  return JS_UNDEFINED;
}
NATIVE(n_now) { return JS_NewFloat64(ctx, host_now() / 1000); }
NATIVE(n_random) {
  Bytes to;
  if (JS_IsString(argv[0]) || !bytes_of(ctx, argv[0], &to)) return JS_EXCEPTION;
  if (to.n) host_random((uint8_t *)to.p, to.n);
  return JS_UNDEFINED;
}
static void *resized(JSRuntime *rt, void *opaque, void *p, size_t n) {
  (void)opaque;
  return js_realloc_rt(rt, p, n);
}
JSValue bytes_owned(JSContext *ctx, uint8_t *p, size_t n) { return JS_NewUint8Array(ctx, p, n, resized, NULL, false); }
// call(what, a, b, ...parts): a Uint8Array, or a code below zero.
enum { MOST_PARTS = 8 };
NATIVE(n_call) {
  Bytes parts[MOST_PARTS];
  uint32_t pairs[2 * MOST_PARTS];
  int count = argc > 3 ? argc - 3 : 0;
  if (count > MOST_PARTS) count = MOST_PARTS;
  for (int i = 0; i < count; i++) {
    if (!bytes_of(ctx, argv[i + 3], &parts[i])) {
      while (i--) release(ctx, &parts[i]);
      return JS_EXCEPTION;
    }
    pairs[2 * i] = (uint32_t)(uintptr_t)parts[i].p, pairs[2 * i + 1] = (uint32_t)parts[i].n;
  }
  int n = host_call(integer(ctx, argv[0]), integer(ctx, argv[1]), integer(ctx, argv[2]), pairs, (size_t)count);
  for (int i = 0; i < count; i++) release(ctx, &parts[i]);
  if (n < 0) return JS_NewInt32(ctx, n);
  uint8_t *to = js_malloc(ctx, (size_t)n + 1);
  if (!to) return JS_EXCEPTION;
  host_take(0, to);
  return bytes_owned(ctx, to, (size_t)n);
}
// Compares in a time that does not tell where two signatures differ.
NATIVE(n_equal) {
  Bytes a, b;
  if (!bytes_of(ctx, argv[0], &a) || !bytes_of(ctx, argv[1], &b)) return JS_EXCEPTION;
  if (a.n != b.n) return JS_FALSE;
  volatile uint8_t difference = 0;
  for (size_t i = 0; i < a.n; i++) difference |= a.p[i] ^ b.p[i];
  return JS_NewBool(ctx, difference == 0);
}

enum { PARTS = 10 };
// [href, nine offsets into it], or null.
static JSValue url_record(JSContext *ctx, int n, const int32_t *parts) {
  if (n < 0) return JS_NULL;
  char *href = malloc((size_t)n + 1);
  if (!href) return JS_ThrowOutOfMemory(ctx);
  host_take(0, (uint8_t *)href);
  JSValue record = JS_NewArray(ctx);
  JS_SetPropertyUint32(ctx, record, 0, JS_NewStringLen(ctx, href, (size_t)n));
  for (uint32_t i = 0; i < PARTS; i++) JS_SetPropertyUint32(ctx, record, i + 1, JS_NewInt32(ctx, parts[i]));
  free(href);
  return record;
}
NATIVE(n_url_parse) {
  Bytes text, base;
  int32_t parts[PARTS];
  if (!bytes_of(ctx, argv[0], &text) || !bytes_of(ctx, argv[1], &base)) return JS_EXCEPTION;
  int n = host_url_parse((const char *)text.p, text.n, (const char *)base.p, base.n, parts);
  release(ctx, &text);
  release(ctx, &base);
  return url_record(ctx, n, parts);
}
NATIVE(n_url_set) {
  Bytes href, value;
  int32_t parts[PARTS];
  if (!bytes_of(ctx, argv[0], &href) || !bytes_of(ctx, argv[2], &value)) return JS_EXCEPTION;
  int n = host_url_set((const char *)href.p, href.n, integer(ctx, argv[1]), (const char *)value.p, value.n, parts);
  release(ctx, &href);
  release(ctx, &value);
  return url_record(ctx, n, parts);
}

NATIVE(n_encode) {
  Bytes text;
  if (!bytes_of(ctx, argv[0], &text)) return JS_EXCEPTION;
  JSValue array = JS_NewUint8ArrayCopy(ctx, text.p, text.n);
  release(ctx, &text);
  size_t n;
  uint8_t *p = JS_IsException(array) ? NULL : JS_GetUint8Array(ctx, &n, array);
  if (p) utf8_scrub(p, n);
  return array;
}
// Bytes as a string of one character each, and back; characters beyond U+00FF, which the prelude does not hand over, lose what does not fit.
NATIVE(n_binary) {
  Bytes data;
  if (!bytes_of(ctx, argv[0], &data)) return JS_EXCEPTION;
  char *wide = malloc(2 * data.n + 1);
  if (!wide) return JS_ThrowOutOfMemory(ctx);
  size_t n = 0;
  for (size_t i = 0; i < data.n; i++) {
    uint8_t byte = data.p[i];
    if (byte >= 0x80) wide[n++] = (char)(0xC0 | byte >> 6), byte = 0x80 | (byte & 0x3F);
    wide[n++] = (char)byte;
  }
  JSValue text = JS_NewStringLen(ctx, wide, n);
  free(wide);
  return text;
}
NATIVE(n_unbinary) {
  Bytes text;
  if (!bytes_of(ctx, argv[0], &text)) return JS_EXCEPTION;
  uint8_t *to = js_malloc(ctx, text.n + 1);
  size_t n = 0;
  for (size_t i = 0; to && i < text.n; i++) {
    uint8_t byte = text.p[i];
    if (byte >= 0xC0 && i + 1 < text.n) byte = (uint8_t)(byte << 6 | (text.p[++i] & 0x3F));
    to[n++] = byte;
  }
  release(ctx, &text);
  return to ? bytes_owned(ctx, to, n) : JS_EXCEPTION;
}
// Reads a whole tag of HTML, as rewriter/tokens.js does piece by piece: `out` gets its length (0: it is not whole within n bytes, or has more
// attributes than are counted here), where its name ends, whether it ends with a slash, the number of its attributes, and of each where its name,
// its value begin and end, and where all of it does.
enum { TAG_HEAD = 4, PER_ATTRIBUTE = 5, MOST_ATTRIBUTES = 64 };
static int html_space(uint8_t c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f'; }
static size_t html_spaces(const uint8_t *p, size_t n, size_t i) {
  while (i < n && html_space(p[i])) i++;
  return i;
}
static void html_tag(const uint8_t *p, size_t n, int32_t *out) {
  int32_t count = 0, closed = 0;
  size_t i = 2;
  out[0] = 0;
  while (i < n && !html_space(p[i]) && p[i] != '/' && p[i] != '>') i++;
  out[1] = (int32_t)i;
  for (;;) {
    while (i < n && (html_space(p[i]) || p[i] == '/')) i++;
    if (i >= n) return;
    if (p[i] == '>') {
      closed = p[i - 1] == '/';
      break;
    }
    if (count == MOST_ATTRIBUTES) return;
    int32_t *of = out + TAG_HEAD + PER_ATTRIBUTE * count++;
    of[0] = (int32_t)i++;
    while (i < n && !html_space(p[i]) && p[i] != '/' && p[i] != '>' && p[i] != '=') i++;
    of[1] = of[4] = (int32_t)i;
    of[2] = of[3] = -1;
    i = html_spaces(p, n, i);
    if (i >= n) return;
    if (p[i] != '=') continue;
    i = html_spaces(p, n, i + 1);
    if (i >= n) return;
    uint8_t quote = p[i] == '"' || p[i] == '\'' ? p[i++] : 0;
    of[2] = (int32_t)i;
    if (quote) {
      const uint8_t *end = memchr(p + i, quote, n - i);
      if (!end) return;
      i = (size_t)(end - p);
    } else {
      while (i < n && !html_space(p[i]) && p[i] != '>') i++;
      if (i >= n) return;
    }
    of[3] = (int32_t)i;
    if (quote) i++;
    of[4] = (int32_t)i;
    // What ends with a bare value has no slash of its own.
    if (!quote && p[i] == '>') break;
  }
  out[3] = count, out[2] = closed, out[0] = (int32_t)i + 1;
}
static int html_letter(uint8_t c) { return (uint8_t)((c | 0x20) - 'a') < 26; }
// tag(bytes, from, out): where the next markup begins, or -1. If it is a tag, `out`, the bytes of an Int32Array, gets what html_tag reads of it.
NATIVE(n_tag) {
  size_t n = 0, room = 0;
  const uint8_t *p = JS_GetUint8Array(ctx, &n, argv[0]);
  int32_t *out = (int32_t *)JS_GetUint8Array(ctx, &room, argv[2]);
  if (!out || room < sizeof *out * (TAG_HEAD + PER_ATTRIBUTE * MOST_ATTRIBUTES)) return JS_ThrowTypeError(ctx, "no room for a tag");
  for (size_t i = (size_t)integer(ctx, argv[1]); p && i < n; i++) {
    const uint8_t *open = memchr(p + i, '<', n - i);
    if (!open) break;
    i = (size_t)(open - p);
    if (i + 1 >= n) break;
    uint8_t c = p[i + 1];
    if (!html_letter(c) && c != '/' && c != '!' && c != '?') continue;
    out[0] = 0;
    if (html_letter(c) || (c == '/' && i + 2 < n && html_letter(p[i + 2]))) html_tag(open, n - i, out);
    return JS_NewInt32(ctx, (int32_t)i);
  }
  return JS_NewInt32(ctx, -1);
}
// The function of a unit, by its name.
NATIVE(n_unit) {
  const char *name = JS_ToCString(ctx, argv[0]);
  if (!name) return JS_EXCEPTION;
  JSValue function = unit_function(ctx, name);
  JS_FreeCString(ctx, name);
  return function;
}
// decode(bytes, encoding 0 utf-8 1 utf-16le 2 utf-16be, fatal, more) -> [text, used], or null if malformed and fatal.
NATIVE(n_decode) {
  Bytes data;
  size_t used = 0;
  if (!bytes_of(ctx, argv[0], &data)) return JS_EXCEPTION;
  int encoding = integer(ctx, argv[1]), fatal = JS_ToBool(ctx, argv[2]), more = JS_ToBool(ctx, argv[3]);
  JSValue text = encoding ? utf16_decode(ctx, data.p, data.n, encoding == 2, fatal, more, &used)
                          : utf8_decode(ctx, data.p, data.n, fatal, more, &used);
  if (JS_IsUninitialized(text)) return JS_NULL;
  if (JS_IsException(text)) return text;
  JSValue pair = JS_NewArray(ctx);
  JS_SetPropertyUint32(ctx, pair, 0, text);
  JS_SetPropertyUint32(ctx, pair, 1, JS_NewUint32(ctx, (uint32_t)used));
  return pair;
}
// The text of a body: UTF-8, malformed parts replaced; a byte order mark dropped, unless the second argument keeps it.
NATIVE(n_text) {
  Bytes data;
  size_t used;
  if (!bytes_of(ctx, argv[0], &data)) return JS_EXCEPTION;
  if (!JS_ToBool(ctx, argv[1]) && data.n >= 3 && memcmp(data.p, "\xEF\xBB\xBF", 3) == 0) data.p += 3, data.n -= 3;
  return utf8_decode(ctx, data.p, data.n, 0, 0, &used);
}
// JSON straight from a body's bytes, without making a string of them first.
NATIVE(n_json) {
  Bytes data;
  if (!bytes_of(ctx, argv[0], &data)) return JS_EXCEPTION;
  if (data.n >= 3 && memcmp(data.p, "\xEF\xBB\xBF", 3) == 0) data.p += 3, data.n -= 3;
  if (utf8_valid(data.p, data.n) != data.n) return JS_UNDEFINED;
  JSValue plain = json_read(ctx, data.p, data.n);
  if (!JS_IsUninitialized(plain)) return plain;
  // The parser wants a zero behind the text, and no code of the worker's runs while it reads.
  char *text = malloc(data.n + 1);
  if (!text) return JS_ThrowOutOfMemory(ctx);
  memcpy(text, data.p, data.n);
  text[data.n] = 0;
  JSValue value = JS_ParseJSON(ctx, text, data.n, "<body>");
  free(text);
  return value;
}

// JSON.parse and JSON.stringify: what is plain, and for the rest QuickJS's own, which are kept.
static JSValue json_of(JSContext *ctx, int argc, JSValueConst *argv, JSValueConst *kept) {
  return JS_Call(ctx, *kept, JS_UNDEFINED, argc, argv);
}
static JSValue n_json_parse(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv, int magic, JSValueConst *kept) {
  if (argc >= 1 && JS_IsString(argv[0]) && (argc == 1 || JS_IsUndefined(argv[1]))) {
    size_t n;
    const char *text = JS_ToCStringLen(ctx, &n, argv[0]);
    if (!text) return JS_EXCEPTION;
    // A lone surrogate is not well-formed.
    JSValue plain = utf8_valid((const uint8_t *)text, n) == n ? json_read(ctx, (const uint8_t *)text, n) : JS_UNINITIALIZED;
    JS_FreeCString(ctx, text);
    if (!JS_IsUninitialized(plain)) return plain;
  }
  return json_of(ctx, argc, argv, kept);
}
static JSValue n_json_stringify(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv, int magic, JSValueConst *kept) {
  if (argc >= 1 && (argc < 2 || JS_IsUndefined(argv[1]) || JS_IsNull(argv[1])) && (argc < 3 || JS_IsUndefined(argv[2]))) {
    JSValue plain = json_write(ctx, argv[0]);
    if (!JS_IsUninitialized(plain)) return plain;
  }
  return json_of(ctx, argc, argv, kept);
}
void json_install(JSContext *ctx) {
  static const struct {
    const char *name;
    JSCFunctionData *function;
    int arguments;
  } all[] = {{"parse", n_json_parse, 2}, {"stringify", n_json_stringify, 3}};
  JSValue global = JS_GetGlobalObject(ctx), json = JS_GetPropertyStr(ctx, global, "JSON");
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    JSValue kept = JS_GetPropertyStr(ctx, json, all[i].name);
    JSValue function = JS_NewCFunctionData(ctx, all[i].function, all[i].arguments, 0, 1, &kept);
    JS_DefinePropertyValueStr(ctx, function, "name", JS_NewString(ctx, all[i].name), JS_PROP_CONFIGURABLE);
    JS_DefinePropertyValueStr(ctx, json, all[i].name, function, JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE);
    JS_FreeValue(ctx, kept);
  }
  JS_FreeValue(ctx, json);
  JS_FreeValue(ctx, global);
}

NATIVE(n_respond) {
  Bytes head, body;
  if (!bytes_of(ctx, argv[1], &head) || !bytes_of(ctx, argv[2], &body)) return JS_EXCEPTION;
  int code = host_respond(integer(ctx, argv[0]), (const char *)head.p, head.n, body.p, body.n, integer(ctx, argv[3]));
  release(ctx, &head);
  release(ctx, &body);
  return JS_NewInt32(ctx, code);
}
NATIVE(n_fetch) {
  Bytes head, body;
  if (!bytes_of(ctx, argv[0], &head) || !bytes_of(ctx, argv[1], &body)) return JS_EXCEPTION;
  int code = host_fetch((const char *)head.p, head.n, body.p, body.n, integer(ctx, argv[2]));
  release(ctx, &head);
  release(ctx, &body);
  return JS_NewInt32(ctx, code);
}
NATIVE(n_read) { return JS_NewInt32(ctx, host_read(integer(ctx, argv[0]), JS_ToBool(ctx, argv[1]))); }
NATIVE(n_write) {
  Bytes data;
  if (!bytes_of(ctx, argv[1], &data)) return JS_EXCEPTION;
  int code = host_write(integer(ctx, argv[0]), data.p, data.n);
  release(ctx, &data);
  return JS_NewInt32(ctx, code);
}
NATIVE(n_close) {
  host_close(integer(ctx, argv[0]), JS_ToBool(ctx, argv[1]));
  return JS_UNDEFINED;
}
NATIVE(n_store) {
  Bytes names, value;
  if (!bytes_of(ctx, argv[1], &names) || !bytes_of(ctx, argv[2], &value)) return JS_EXCEPTION;
  int code = host_store(integer(ctx, argv[0]), (const char *)names.p, names.n, value.p, value.n);
  release(ctx, &names);
  release(ctx, &value);
  return JS_NewInt32(ctx, code);
}
NATIVE(n_context) { return context_now(ctx); }
NATIVE(n_enter) {
  context_enter(ctx, argv[0]);
  return JS_UNDEFINED;
}
NATIVE(n_keep) {
  host_keep(JS_ToBool(ctx, argv[0]));
  return JS_UNDEFINED;
}
NATIVE(n_pass) {
  host_pass();
  return JS_UNDEFINED;
}
// find(bytes, wanted, from): where the wanted bytes begin next, or -1.
NATIVE(n_find) {
  Bytes data, wanted;
  if (JS_IsString(argv[0]) || JS_IsString(argv[1]) || !bytes_of(ctx, argv[0], &data) || !bytes_of(ctx, argv[1], &wanted)) return JS_EXCEPTION;
  int from = integer(ctx, argv[2]);
  if (from < 0 || (size_t)from > data.n || !wanted.n) return JS_NewInt32(ctx, -1);
  const uint8_t *at = data.p + from, *end = data.p + data.n;
  while ((size_t)(end - at) >= wanted.n) {
    at = memchr(at, wanted.p[0], (size_t)(end - at) - wanted.n + 1);
    if (!at) break;
    if (memcmp(at, wanted.p, wanted.n) == 0) return JS_NewInt32(ctx, (int32_t)(at - data.p));
    at++;
  }
  return JS_NewInt32(ctx, -1);
}
NATIVE(n_cancel) {
  host_cancel(integer(ctx, argv[0]));
  return JS_UNDEFINED;
}
// The buffer, offset and length of a typed array, from the engine and not from properties that a worker may have put in front of them;
// undefined for what is none.
NATIVE(n_view) {
  size_t offset, length, each;
  if (JS_GetTypedArrayType(argv[0]) < 0) return JS_UNDEFINED;
  JSValue buffer = JS_GetTypedArrayBuffer(ctx, argv[0], &offset, &length, &each);
  if (JS_IsException(buffer)) return buffer;
  JSValue triple = JS_NewArray(ctx);
  JS_SetPropertyUint32(ctx, triple, 0, buffer);
  JS_SetPropertyUint32(ctx, triple, 1, JS_NewUint32(ctx, (uint32_t)offset));
  JS_SetPropertyUint32(ctx, triple, 2, JS_NewUint32(ctx, (uint32_t)length));
  return triple;
}
NATIVE(n_is_buffer) { return JS_NewBool(ctx, JS_IsArrayBuffer(argv[0])); }
NATIVE(n_is_proxy) { return JS_NewBool(ctx, JS_IsProxy(argv[0])); }
NATIVE(n_is_promise) { return JS_NewBool(ctx, JS_IsPromise(argv[0])); }

JSValue natives(JSContext *ctx) {
  static const struct {
    const char *name;
    JSCFunction *function;
    int arguments;
  } all[] = {
      {"log", n_log, 2},         {"now", n_now, 0},       {"random", n_random, 1},     {"call", n_call, 3},
      {"keep", n_keep, 1},       {"pass", n_pass, 0},     {"find", n_find, 3},         {"context", n_context, 0}, {"enter", n_enter, 1},
            {"equal", n_equal, 2},   {"urlParse", n_url_parse, 2}, {"urlSet", n_url_set, 3},
      {"encode", n_encode, 1},   {"decode", n_decode, 4}, {"text", n_text, 2},         {"json", n_json, 1},
      {"binary", n_binary, 1},   {"unbinary", n_unbinary, 1}, {"unit", n_unit, 1}, {"tag", n_tag, 3},
      {"respond", n_respond, 4}, {"fetch", n_fetch, 3},   {"read", n_read, 2},         {"write", n_write, 2},
      {"close", n_close, 2},     {"store", n_store, 3},   {"cancel", n_cancel, 1},     {"view", n_view, 1},
      {"isBuffer", n_is_buffer, 1}, {"isPromise", n_is_promise, 1}, {"isProxy", n_is_proxy, 1},
  };
  JSValue host = JS_NewObject(ctx);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    JS_SetPropertyStr(ctx, host, all[i].name, JS_NewCFunction(ctx, all[i].function, all[i].name, all[i].arguments));
  return host;
}
