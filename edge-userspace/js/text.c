// UTF-8 and UTF-16 as the Encoding Standard reads them: what is malformed becomes U+FFFD, one for each maximal part.
#include "edge.h"
#include <stdlib.h>
#include <string.h>
#include <wasm_simd128.h>

// The length of the well-formed sequence at p, or 0; then *bad is how many bytes one U+FFFD stands for, and *cut whether the
// input only ended too early.
static size_t sequence(const uint8_t *p, size_t n, size_t *bad, int *cut) {
  uint8_t lead = p[0], low = 0x80, high = 0xBF;
  size_t need;
  *cut = 0;
  *bad = 1;
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) need = 1;
  else if (lead >= 0xE0 && lead <= 0xEF) {
    need = 2;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    need = 3;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else return 0;
  for (size_t i = 1; i <= need; i++) {
    if (i >= n) {
      *bad = i;
      *cut = 1;
      return 0;
    }
    if (p[i] < low || p[i] > high) {
      *bad = i;
      return 0;
    }
    low = 0x80, high = 0xBF;
  }
  return need + 1;
}

// How many bytes from the start are well-formed.
size_t utf8_valid(const uint8_t *p, size_t n) {
  size_t i = 0, bad;
  int cut;
  while (i < n) {
    while (i + 16 <= n && !wasm_i8x16_bitmask(wasm_v128_load(p + i))) i += 16;
    while (i < n && p[i] < 0x80) i++;
    if (i >= n) break;
    size_t length = sequence(p + i, n - i, &bad, &cut);
    if (!length) break;
    i += length;
  }
  return i;
}

// The text of n bytes. With `fatal`, malformed input gives JS_UNINITIALIZED. With `more`, a sequence that is cut off at the end is
// left for the next piece. *used is how many bytes were read.
JSValue utf8_decode(JSContext *ctx, const uint8_t *p, size_t n, int fatal, int more, size_t *used) {
  size_t good = utf8_valid(p, n), bad;
  int cut;
  *used = n;
  if (good == n) return JS_NewStringLen(ctx, (const char *)p, n);
  if (fatal || more) {
    (void)sequence(p + good, n - good, &bad, &cut);
    if (more && cut) {
      *used = good;
      return JS_NewStringLen(ctx, (const char *)p, good);
    }
    if (fatal) return JS_UNINITIALIZED;
  }
  // Each malformed byte becomes at most three.
  uint8_t *out = malloc(n * 3 + 1);
  if (!out) return JS_ThrowOutOfMemory(ctx);
  size_t length = 0, i = 0;
  while (i < n) {
    size_t sound = utf8_valid(p + i, n - i);
    memcpy(out + length, p + i, sound);
    length += sound, i += sound;
    if (i >= n) break;
    (void)sequence(p + i, n - i, &bad, &cut);
    if (cut && more) {
      *used = i;
      break;
    }
    memcpy(out + length, "\xEF\xBF\xBD", 3);
    length += 3, i += bad;
  }
  JSValue text = JS_NewStringLen(ctx, (const char *)out, length);
  free(out);
  return text;
}

// The text of n bytes of UTF-16. As above; a lone surrogate at the end waits for more, as does half a unit.
JSValue utf16_decode(JSContext *ctx, const uint8_t *p, size_t n, int big, int fatal, int more, size_t *used) {
  size_t units = n / 2, count = 0;
  uint16_t *out = malloc(units * 2 + 4);
  if (!out) return JS_ThrowOutOfMemory(ctx);
  *used = n;
  for (size_t i = 0; i < units; i++) {
    uint16_t unit = big ? (uint16_t)(p[2 * i] << 8 | p[2 * i + 1]) : (uint16_t)(p[2 * i + 1] << 8 | p[2 * i]);
    if ((unit & 0xF800) == 0xD800) {
      uint16_t next = 0;
      if (unit < 0xDC00 && i + 1 < units)
        next = big ? (uint16_t)(p[2 * i + 2] << 8 | p[2 * i + 3]) : (uint16_t)(p[2 * i + 3] << 8 | p[2 * i + 2]);
      if (unit < 0xDC00 && i + 1 == units && more) {
        *used = 2 * i;
        goto end;
      }
      if (unit < 0xDC00 && (next & 0xFC00) == 0xDC00) {
        out[count++] = unit;
        out[count++] = next;
        i++;
        continue;
      }
      if (fatal) goto malformed;
      unit = 0xFFFD;
    }
    out[count++] = unit;
  }
  if (n % 2) {
    if (more) *used = n - 1;
    else if (fatal) goto malformed;
    else out[count++] = 0xFFFD;
  }
end:;
  JSValue text = count ? JS_NewStringUTF16(ctx, out, count) : JS_NewString(ctx, "");
  free(out);
  return text;
malformed:
  free(out);
  return JS_UNINITIALIZED;
}

// Lone surrogates in what QuickJS calls UTF-8 become U+FFFD, in place: both take three bytes.
void utf8_scrub(uint8_t *p, size_t n) {
  for (size_t i = 0; i + 2 < n; i++)
    if (p[i] == 0xED && p[i + 1] >= 0xA0) {
      memcpy(p + i, "\xEF\xBF\xBD", 3);
      i += 2;
    }
}
