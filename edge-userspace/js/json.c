// QuickJS itself, and JSON beside it: reading and writing what is plain, several times as fast as QuickJS does, which matters to workers
// more than anything else that they compute. What is not plain (a getter, `toJSON`, a proxy, a key twice, a syntax error) is left to
// QuickJS as if nothing had been tried: no code of the worker runs on the way, so nothing has happened yet.
//
// This file includes QuickJS's source, because it works on shapes and fast arrays, which the interface does not show.
#include "quickjs.h"

// How deep QuickJS's own functions have called themselves, in bytes of the stack that WebAssembly does not show: they take little or
// nothing of the one that QuickJS measures, and deep input would be a trap in place of a RangeError. `cargo xtask build-js` puts this
// around those that call themselves as deep as their input is. What one call takes is rounded up from measurements; the sum stays
// below what the host leaves beside calls of JavaScript (isolate/engine.rs, WASM_STACK).
enum { NATIVE_STACK = 1536 * 1024 };
static int native_used;
static inline int js_deeper(int bytes) {
  if (native_used > NATIVE_STACK - bytes) return 0;
  native_used += bytes;
  return 1;
}
static inline void js_shallower(int bytes) { native_used -= bytes; }

// What the job that runs belongs to (AsyncLocalStorage): reactions of promises keep it, and jobs run with the one of their reaction.
static JSValue js_context = JS_UNDEFINED;

#include "quickjs.c"
#include <wasm_simd128.h>

// Of sixteen bytes: a bit for each that a string of JSON does not hold as it is (quotes, backslashes, control characters).
static inline uint32_t special_bytes(v128_t bytes) {
  v128_t found = wasm_v128_or(wasm_i8x16_eq(bytes, wasm_i8x16_splat('"')), wasm_i8x16_eq(bytes, wasm_i8x16_splat('\\')));
  return wasm_i8x16_bitmask(wasm_v128_or(found, wasm_u8x16_lt(bytes, wasm_u8x16_splat(0x20))));
}

enum { DEEPEST = 128, HINTS = 16 };

JSValue context_now(JSContext *ctx) { return js_dup(js_context); }
void context_enter(JSContext *ctx, JSValueConst context) {
  JSValue before = js_context;
  js_context = js_dup(context);
  JS_FreeValue(ctx, before);
}

static int is_plain_shape(JSContext *ctx, JSShape *shape, JSClassID class) {
  return shape->proto == JS_VALUE_GET_OBJ(ctx->class_proto[class]) && !shape->deleted_prop_count;
}

// ---- Reading ----

typedef struct {
  JSContext *ctx;
  const uint8_t *p, *end;
  // Values of the arrays and objects that are being read, innermost last.
  JSValue *values;
  size_t count, room;
  // The shape of the object that was last read at each depth: rows of a list are alike.
  JSShape *hints[HINTS];
} Reader;

// JS_UNINITIALIZED is "not plain", also of an exception (there is only: no memory), which comes again.
static JSValue read_value(Reader *r, int depth);

static int keep_value(Reader *r, JSValue value) {
  if (r->count == r->room) {
    size_t room = r->room ? r->room * 2 : 64;
    JSValue *values = js_realloc_rt(r->ctx->rt, r->values, room * sizeof *values);
    if (!values) {
      JS_FreeValue(r->ctx, value);
      return -1;
    }
    r->values = values, r->room = room;
  }
  r->values[r->count++] = value;
  return 0;
}

static void drop_values(Reader *r, size_t from) {
  while (r->count > from) JS_FreeValue(r->ctx, r->values[--r->count]);
}

static void skip_space(Reader *r) {
  while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\r' || *r->p == '\t')) r->p++;
}

static int take(Reader *r, uint8_t c) {
  skip_space(r);
  if (r->p >= r->end || *r->p != c) return 0;
  r->p++;
  return 1;
}

// Behind the opening quote: to the closing one. False if the string has an escape or a control character.
static int string_span(Reader *r, const uint8_t **from, size_t *length, int *ascii) {
  const uint8_t *p = r->p;
  uint8_t all = 0;
  for (; r->end - p >= 16; p += 16) {
    v128_t bytes = wasm_v128_load(p);
    if (special_bytes(bytes)) break;
    if (wasm_i8x16_bitmask(bytes)) all = 0x80;
  }
  while (p < r->end && *p != '"') {
    if (*p == '\\' || *p < 0x20) return 0;
    all |= *p++;
  }
  if (p >= r->end) return 0;
  *from = r->p, *length = (size_t)(p - r->p), *ascii = all < 0x80;
  r->p = p + 1;
  return 1;
}

static int hex4(const uint8_t *p) {
  int value = 0;
  for (int i = 0; i < 4; i++) {
    int c = p[i], digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
    if (digit < 0) return -1;
    value = value << 4 | digit;
  }
  return value;
}

static JSValue read_escaped(Reader *r) {
  size_t most = 0;
  const uint8_t *q = r->p;
  while (q < r->end && *q != '"') {
    if (*q < 0x20) return JS_UNINITIALIZED;
    q += *q == '\\' ? 2 : 1, most++;
  }
  if (q >= r->end) return JS_UNINITIALIZED;
  uint16_t *units = js_malloc_rt(r->ctx->rt, (most + 1) * sizeof *units);
  if (!units) return JS_UNINITIALIZED;
  size_t n = 0;
  JSValue text = JS_UNINITIALIZED;
  uint16_t wide = 0;
  const uint8_t *p = r->p;
  while (*p != '"') {
    uint32_t c = *p++;
    if (c == '\\') {
      c = *p++;
      switch (c) {
        case 'b': c = 8; break;
        case 'f': c = 12; break;
        case 'n': c = 10; break;
        case 'r': c = 13; break;
        case 't': c = 9; break;
        case '"': case '\\': case '/': break;
        case 'u': {
          int value = r->end - p >= 4 ? hex4(p) : -1;
          if (value < 0) goto end;
          c = (uint32_t)value, p += 4;
          break;
        }
        default: goto end;
      }
    } else if (c >= 0x80) {
      // Well-formed: the caller has seen to it.
      int more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
      c &= 0x3F >> more;
      while (more--) c = c << 6 | (*p++ & 0x3F);
      if (c >= 0x10000) units[n++] = (uint16_t)(0xD7C0 + (c >> 10)), c = 0xDC00 | (c & 0x3FF), wide = 0xFFFF;
    }
    units[n++] = (uint16_t)c, wide |= (uint16_t)c;
  }
  if (wide < 0x80) {
    for (size_t i = 0; i < n; i++) ((uint8_t *)units)[i] = (uint8_t)units[i];
    text = js_new_string8_len(r->ctx, (char *)units, (int)n);
  } else {
    text = JS_NewStringUTF16(r->ctx, units, n);
  }
  r->p = p + 1;
end:
  js_free_rt(r->ctx->rt, units);
  return text;
}

static JSValue read_string(Reader *r) {
  const uint8_t *from;
  size_t length;
  int ascii;
  if (!string_span(r, &from, &length, &ascii)) return read_escaped(r);
  return ascii ? js_new_string8_len(r->ctx, (const char *)from, (int)length) : JS_NewStringLen(r->ctx, (const char *)from, length);
}

static JSValue read_number(Reader *r) {
  static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  const uint8_t *p = r->p, *end = r->end;
  int negative = *p == '-';
  if (negative) p++;
  const uint8_t *digits = p;
  uint64_t mantissa = 0;
  int count = 0, scale = 0;
  while (p < end && *p >= '0' && *p <= '9') mantissa = mantissa * 10 + (*p++ - '0'), count++;
  if (!count || (count > 1 && *digits == '0')) return JS_UNINITIALIZED;
  if (p < end && *p == '.') {
    const uint8_t *fraction = ++p;
    while (p < end && *p >= '0' && *p <= '9') mantissa = mantissa * 10 + (*p++ - '0'), count++;
    if (p == fraction) return JS_UNINITIALIZED;
    scale = (int)(fraction - p);
  }
  // Exact: at most 15 digits, and a power of ten that a double holds.
  if (count > 15 || (p < end && (*p == 'e' || *p == 'E'))) return JS_UNINITIALIZED;
  r->p = p;
  if (scale == 0) {
    if (mantissa <= INT32_MAX && !(negative && mantissa == 0)) return js_int32(negative ? -(int32_t)mantissa : (int32_t)mantissa);
    return js_float64(negative ? -(double)mantissa : (double)mantissa);
  }
  double value = (double)mantissa / powers[-scale];
  return js_number(negative ? -value : value);
}

// Whether the next bytes are the name of `atom`, quoted, and a colon; then they are read.
static int is_next_key(Reader *r, JSAtom atom) {
  if (__JS_AtomIsTaggedInt(atom)) return 0;
  JSString *name = r->ctx->rt->atom_array[atom];
  if (name->is_wide_char || name->kind != JS_STRING_KIND_NORMAL || (size_t)(r->end - r->p) < (size_t)name->len + 2) return 0;
  if (r->p[name->len + 1] != '"' || memcmp(str8(name), r->p + 1, name->len) != 0) return 0;
  const uint8_t *p = r->p;
  // A name with a backslash or a byte above 0x7F is not spelt like that.
  for (uint32_t i = 0; i < name->len; i++)
    if (p[i + 1] == '\\' || p[i + 1] >= 0x80 || p[i + 1] < 0x20) return 0;
  r->p += name->len + 2;
  if (take(r, ':')) return 1;
  r->p = p;
  return 0;
}

// A key of any kind.
static JSAtom read_key(Reader *r) {
  const uint8_t *from;
  size_t length;
  int ascii;
  JSAtom atom;
  if (string_span(r, &from, &length, &ascii)) {
    atom = JS_NewAtomLen(r->ctx, (const char *)from, length);
  } else {
    JSValue name = read_escaped(r);
    if (!JS_IsString(name)) return JS_ATOM_NULL;
    atom = JS_ValueToAtom(r->ctx, name);
    JS_FreeValue(r->ctx, name);
  }
  if (atom != JS_ATOM_NULL && !take(r, ':')) {
    JS_FreeAtom(r->ctx, atom);
    return JS_ATOM_NULL;
  }
  return atom;
}

// Behind the brace.
static JSValue read_object(Reader *r, int depth) {
  JSContext *ctx = r->ctx;
  JSShape **hint = &r->hints[depth < HINTS ? depth : HINTS - 1];
  if (take(r, '}')) return JS_NewObject(ctx);
  size_t base = r->count;
  int n = 0;
  JSValue object = JS_UNINITIALIZED;
  // As the object before it, as far as that goes.
  if (*hint) {
    JSShape *shape = js_dup_shape(*hint);
    JSShapeProperty *property = get_shape_prop(shape);
    int whole = 0;
    for (;;) {
      skip_space(r);
      if (r->p >= r->end || *r->p != '"') goto failed_shape;
      if (n >= shape->prop_count || !is_next_key(r, property[n].atom)) break;
      JSValue value = read_value(r, depth + 1);
      if (JS_IsUninitialized(value) || keep_value(r, value)) goto failed_shape;
      n++;
      if (take(r, ',')) continue;
      if (!take(r, '}')) goto failed_shape;
      whole = 1;
      break;
    }
    if (whole && n == shape->prop_count) {
      object = JS_NewObjectFromShape(ctx, shape, JS_CLASS_OBJECT, NULL);
      if (JS_IsException(object)) goto failed;
      JSProperty *to = JS_VALUE_GET_OBJ(object)->prop;
      for (int i = 0; i < n; i++) to[i].u.value = r->values[base + (size_t)i];
      r->count = base;
      return object;
    }
    object = JS_NewObject(ctx);
    if (JS_IsException(object)) goto failed_shape;
    for (int i = 0; i < n; i++) {
      JSValue value = r->values[base + (size_t)i];
      r->values[base + (size_t)i] = JS_UNDEFINED;
      if (JS_DefinePropertyValue(ctx, object, property[i].atom, value, JS_PROP_C_W_E) < 0) goto failed_shape;
    }
    drop_values(r, base);
    js_free_shape(ctx->rt, shape);
    if (whole) goto done;
    goto generic;
  failed_shape:
    js_free_shape(ctx->rt, shape);
    goto failed;
  }
  object = JS_NewObject(ctx);
  if (JS_IsException(object)) goto failed;
generic:
  for (;;) {
    skip_space(r);
    if (r->p >= r->end || *r->p++ != '"') goto failed;
    JSAtom atom = read_key(r);
    if (atom == JS_ATOM_NULL) goto failed;
    JSValue value = read_value(r, depth + 1);
    if (JS_IsUninitialized(value) || JS_DefinePropertyValue(ctx, object, atom, value, JS_PROP_C_W_E) < 0) {
      JS_FreeAtom(ctx, atom);
      goto failed;
    }
    JS_FreeAtom(ctx, atom);
    if (take(r, ',')) continue;
    if (!take(r, '}')) goto failed;
    break;
  }
done:;
  JSShape *made = JS_VALUE_GET_OBJ(object)->shape;
  if (made->is_hashed && is_plain_shape(ctx, made, JS_CLASS_OBJECT)) {
    js_free_shape_null(ctx->rt, *hint);
    *hint = js_dup_shape(made);
  }
  return object;
failed:
  drop_values(r, base);
  if (JS_IsException(object)) JS_FreeValue(ctx, JS_GetException(ctx));
  else if (!JS_IsUninitialized(object)) JS_FreeValue(ctx, object);
  if (JS_HasException(ctx)) JS_FreeValue(ctx, JS_GetException(ctx));
  return JS_UNINITIALIZED;
}

// Behind the bracket.
static JSValue read_array(Reader *r, int depth) {
  size_t base = r->count;
  if (!take(r, ']')) {
    do {
      JSValue value = read_value(r, depth + 1);
      if (JS_IsUninitialized(value) || keep_value(r, value)) goto failed;
    } while (take(r, ','));
    if (!take(r, ']')) goto failed;
  }
  JSValue array = JS_NewArrayFrom(r->ctx, (int)(r->count - base), r->values + base);
  r->count = base;
  if (!JS_IsException(array)) return array;
  JS_FreeValue(r->ctx, JS_GetException(r->ctx));
  return JS_UNINITIALIZED;
failed:
  drop_values(r, base);
  return JS_UNINITIALIZED;
}

static int word(Reader *r, const char *text, size_t n) {
  if ((size_t)(r->end - r->p) < n || memcmp(r->p, text, n) != 0) return 0;
  r->p += n;
  return 1;
}

static JSValue read_value(Reader *r, int depth) {
  if (depth > DEEPEST) return JS_UNINITIALIZED;
  skip_space(r);
  if (r->p >= r->end) return JS_UNINITIALIZED;
  JSValue value = JS_UNINITIALIZED;
  switch (*r->p) {
    case '{': r->p++; return read_object(r, depth);
    case '[': r->p++; return read_array(r, depth);
    case '"': r->p++, value = read_string(r); break;
    case 't': return word(r, "true", 4) ? JS_TRUE : JS_UNINITIALIZED;
    case 'f': return word(r, "false", 5) ? JS_FALSE : JS_UNINITIALIZED;
    case 'n': return word(r, "null", 4) ? JS_NULL : JS_UNINITIALIZED;
    case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9': return read_number(r);
  }
  if (!JS_IsException(value)) return value;
  JS_FreeValue(r->ctx, JS_GetException(r->ctx));
  return JS_UNINITIALIZED;
}

// The value of n bytes of JSON, which are well-formed UTF-8; JS_UNINITIALIZED if QuickJS must read them.
JSValue json_read(JSContext *ctx, const uint8_t *text, size_t n) {
  Reader r = {.ctx = ctx, .p = text, .end = text + n};
  JSValue value = read_value(&r, 0);
  skip_space(&r);
  if (!JS_IsUninitialized(value) && r.p != r.end) {
    JS_FreeValue(ctx, value);
    value = JS_UNINITIALIZED;
  }
  drop_values(&r, 0);
  js_free_rt(ctx->rt, r.values);
  for (int i = 0; i < HINTS; i++) js_free_shape_null(ctx->rt, r.hints[i]);
  return value;
}

// ---- Writing ----

typedef struct {
  JSContext *ctx;
  uint8_t *bytes;
  size_t count, room;
  int ascii;
} Writer;

static int make_room(Writer *w, size_t n) {
  if (w->room - w->count >= n) return 1;
  size_t room = w->room * 2 > w->count + n ? w->room * 2 : w->count + n;
  if (room < 1024) room = 1024;
  uint8_t *bytes = js_realloc_rt(w->ctx->rt, w->bytes, room);
  if (!bytes) return 0;
  w->bytes = bytes, w->room = room;
  return 1;
}

static int put(Writer *w, const char *text, size_t n) {
  if (!make_room(w, n)) return 0;
  memcpy(w->bytes + w->count, text, n);
  w->count += n;
  return 1;
}

static uint8_t *put_escape(uint8_t *to, uint32_t c) {
  static const char hex[] = "0123456789abcdef";
  const char *found = c < 0x20 ? strchr("\bb\ff\nn\rr\tt", (int)c) : NULL;
  *to++ = '\\';
  if (c == '"' || c == '\\') *to++ = (uint8_t)c;
  else if (found && c) *to++ = (uint8_t)found[1];
  else {
    *to++ = 'u';
    for (int shift = 12; shift >= 0; shift -= 4) *to++ = (uint8_t)hex[c >> shift & 15];
  }
  return to;
}

static int write_string(Writer *w, JSString *s) {
  // At most six bytes for a unit.
  if (!make_room(w, (size_t)s->len * 6 + 2)) return 0;
  uint8_t *to = w->bytes + w->count;
  *to++ = '"';
  if (!s->is_wide_char) {
    const uint8_t *from = str8(s);
    for (uint32_t i = 0; i < s->len; i++) {
      while (s->len - i >= 16) {
        v128_t bytes = wasm_v128_load(from + i);
        if (special_bytes(bytes) | wasm_i8x16_bitmask(bytes)) break;
        wasm_v128_store(to, bytes);
        to += 16, i += 16;
      }
      if (i == s->len) break;
      uint8_t c = from[i];
      if (c < 0x20 || c == '"' || c == '\\') to = put_escape(to, c);
      else if (c < 0x80) *to++ = c;
      else *to++ = 0xC0 | c >> 6, *to++ = 0x80 | (c & 0x3F), w->ascii = 0;
    }
  } else {
    const uint16_t *from = str16(s);
    for (uint32_t i = 0; i < s->len; i++) {
      uint32_t c = from[i];
      if (c < 0x20 || c == '"' || c == '\\') {
        to = put_escape(to, c);
      } else if (c < 0x80) {
        *to++ = (uint8_t)c;
      } else {
        w->ascii = 0;
        if (c < 0x800) {
          *to++ = (uint8_t)(0xC0 | c >> 6);
        } else if ((c & 0xF800) != 0xD800) {
          *to++ = (uint8_t)(0xE0 | c >> 12), *to++ = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        } else if (c < 0xDC00 && i + 1 < s->len && (from[i + 1] & 0xFC00) == 0xDC00) {
          c = 0x10000 + ((c & 0x3FF) << 10) + (from[++i] & 0x3FF);
          *to++ = (uint8_t)(0xF0 | c >> 18), *to++ = (uint8_t)(0x80 | (c >> 12 & 0x3F)), *to++ = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        } else {
          to = put_escape(to, c);
          continue;
        }
        *to++ = (uint8_t)(0x80 | (c & 0x3F));
      }
    }
  }
  *to++ = '"';
  w->count = (size_t)(to - w->bytes);
  return 1;
}

static int write_integer(Writer *w, int64_t value) {
  char digits[24];
  int at = sizeof digits;
  uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
  do digits[--at] = (char)('0' + rest % 10);
  while (rest /= 10);
  if (value < 0) digits[--at] = '-';
  return put(w, digits + at, sizeof digits - (size_t)at);
}

static int write_double(Writer *w, double value) {
  if (!isfinite(value)) return put(w, "null", 4);
  if (value == (double)(int64_t)value && fabs(value) < 1e15) return write_integer(w, (int64_t)value);
  // A decimal of at most 15 digits that reads back as this value is the shortest.
  if (fabs(value) < 1e12 && fabs(value) >= 1e-2) {
    for (int places = 1; places <= 2; places++) {
      double scale = places == 1 ? 10 : 100, scaled = rint(value * scale);
      if (scaled / scale != value) continue;
      int64_t number = (int64_t)scaled, whole = number / (int64_t)scale, part = number % (int64_t)scale;
      if (number < 0 && !put(w, "-", 1)) return 0;
      if (!write_integer(w, whole < 0 ? -whole : whole)) return 0;
      part = part < 0 ? -part : part;
      char text[3] = {'.', (char)('0' + (places == 1 ? part : part / 10)), (char)('0' + part % 10)};
      return put(w, text, (size_t)places + 1);
    }
  }
  char text[128];
  JSDTOATempMem memory;
  return put(w, text, (size_t)js_dtoa(text, value, 10, 0, JS_DTOA_FORMAT_FREE, &memory));
}

// 1: written; 0: QuickJS must; -1: the value has no JSON, which is up to who holds it.
static int write_value(Writer *w, JSValueConst value, int depth) {
  switch (JS_VALUE_GET_NORM_TAG(value)) {
    case JS_TAG_STRING: return write_string(w, JS_VALUE_GET_STRING(value));
    case JS_TAG_STRING_ROPE: {
      JSValue whole = js_linearize_string_rope(w->ctx, value);
      if (JS_IsException(whole)) return JS_FreeValue(w->ctx, JS_GetException(w->ctx)), 0;
      int done = JS_VALUE_GET_TAG(whole) == JS_TAG_STRING && write_string(w, JS_VALUE_GET_STRING(whole));
      JS_FreeValue(w->ctx, whole);
      return done;
    }
    case JS_TAG_INT: return write_integer(w, JS_VALUE_GET_INT(value));
    case JS_TAG_FLOAT64: return write_double(w, JS_VALUE_GET_FLOAT64(value));
    case JS_TAG_BOOL: return JS_VALUE_GET_BOOL(value) ? put(w, "true", 4) : put(w, "false", 5);
    case JS_TAG_NULL: return put(w, "null", 4);
    case JS_TAG_UNDEFINED:
    case JS_TAG_SYMBOL: return -1;
    case JS_TAG_OBJECT: break;
    default: return 0;
  }
  // A cycle ends here, too.
  if (depth > DEEPEST) return 0;
  JSObject *p = JS_VALUE_GET_OBJ(value);
  JSShape *shape = p->shape;
  if (p->class_id == JS_CLASS_ARRAY) {
    if (!p->fast_array || shape->prop_count != 1 || !is_plain_shape(w->ctx, shape, JS_CLASS_ARRAY)) return 0;
    if (JS_VALUE_GET_NORM_TAG(p->prop[0].u.value) != JS_TAG_INT || (uint32_t)JS_VALUE_GET_INT(p->prop[0].u.value) != p->u.array.count) return 0;
    if (!put(w, "[", 1)) return 0;
    for (uint32_t i = 0; i < p->u.array.count; i++) {
      if (i && !put(w, ",", 1)) return 0;
      JSValueConst item = p->u.array.u.values[i];
      if (JS_VALUE_GET_NORM_TAG(item) == JS_TAG_OBJECT && JS_IsFunction(w->ctx, item)) return 0;
      int done = write_value(w, item, depth + 1);
      if (!done || (done < 0 && !put(w, "null", 4))) return 0;
    }
    return put(w, "]", 1);
  }
  if (p->class_id != JS_CLASS_OBJECT || p->is_exotic || !is_plain_shape(w->ctx, shape, JS_CLASS_OBJECT)) return 0;
  if (!put(w, "{", 1)) return 0;
  JSShapeProperty *property = get_shape_prop(shape);
  int any = 0;
  for (int i = 0; i < shape->prop_count; i++) {
    JSAtom atom = property[i].atom;
    // Numbers come first, and symbols not at all: their order is QuickJS's business.
    if (__JS_AtomIsTaggedInt(atom) || atom == JS_ATOM_NULL || atom == JS_ATOM_toJSON || (property[i].flags & JS_PROP_TMASK)) return 0;
    if (!(property[i].flags & JS_PROP_ENUMERABLE)) continue;
    JSString *name = w->ctx->rt->atom_array[atom];
    if (name->atom_type != JS_ATOM_TYPE_STRING || (name->len && !name->is_wide_char && str8(name)[0] <= '9' && str8(name)[0] >= '0')) return 0;
    JSValueConst item = p->prop[i].u.value;
    if (JS_VALUE_GET_NORM_TAG(item) == JS_TAG_OBJECT && JS_IsFunction(w->ctx, item)) return 0;
    size_t before = w->count;
    if (any && !put(w, ",", 1)) return 0;
    if (!write_string(w, name) || !put(w, ":", 1)) return 0;
    int done = write_value(w, item, depth + 1);
    if (!done) return 0;
    if (done < 0) w->count = before;
    else any = 1;
  }
  return put(w, "}", 1);
}

// The JSON of a value; JS_UNINITIALIZED if QuickJS must write it.
JSValue json_write(JSContext *ctx, JSValueConst value) {
  for (int i = 0; i < 2; i++) {
    JSObject *prototype = JS_VALUE_GET_OBJ(ctx->class_proto[i ? JS_CLASS_ARRAY : JS_CLASS_OBJECT]);
    if (find_own_property1(prototype, JS_ATOM_toJSON)) return JS_UNINITIALIZED;
    JSObject *above = prototype->shape->proto;
    if (i ? above != JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_OBJECT]) : above != NULL) return JS_UNINITIALIZED;
  }
  Writer w = {.ctx = ctx, .ascii = 1};
  JSValue text = JS_UNINITIALIZED;
  if (JS_VALUE_GET_NORM_TAG(value) == JS_TAG_OBJECT && write_value(&w, value, 0) == 1 && w.count <= JS_STRING_LEN_MAX)
    text = w.ascii ? js_new_string8_len(ctx, (char *)w.bytes, (int)w.count) : JS_NewStringLen(ctx, (char *)w.bytes, w.count);
  js_free_rt(ctx->rt, w.bytes);
  return text;
}
