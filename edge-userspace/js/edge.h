// What the files of the engine share, and every function of the host.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "quickjs.h"

// The host's side is edge-userspace/src/isolate/js/host.rs. It checks every pointer and length against this memory; a negative result is
// a code (errors.rs), never text.
#define HOST(name) __attribute__((import_module("edge"), import_name(name))) extern
HOST("log") void host_log(int level, const char *text, size_t n);
HOST("random") void host_random(uint8_t *bytes, size_t n);
HOST("url_parse") int host_url_parse(const char *text, size_t n, const char *base, size_t base_n, int32_t *parts);
HOST("url_set") int host_url_set(const char *href, size_t n, int which, const char *value, size_t value_n, int32_t *parts);
HOST("head") void host_head(uint8_t *to);
HOST("respond") int host_respond(int status, const char *head, size_t head_n, const uint8_t *body, size_t n, int kind);
HOST("fetch") int host_fetch(const char *head, size_t head_n, const uint8_t *body, size_t n, int kind);
HOST("read") int host_read(int stream, int whole);
HOST("write") int host_write(int stream, const uint8_t *bytes, size_t n);
HOST("close") void host_close(int stream, int broken);
HOST("store") int host_store(int action, const char *names, size_t names_n, const uint8_t *value, size_t n);
HOST("cancel") void host_cancel(int operation);
HOST("wait") int host_wait(double milliseconds, int32_t *result);
HOST("take") void host_take(int part, uint8_t *to);
HOST("now") double host_now(void);
// Whether work goes on behind the response, whoever leaves; whether a failure is answered by the origin.
HOST("keep") void host_keep(int kept);
HOST("pass") void host_pass(void);
// Whatever the host computes for the prelude (services.rs): `parts` are pairs of address and length, and the result is to be taken.
HOST("call") int host_call(int what, int a, int b, const uint32_t *parts, size_t count);

int alloc_freeze(void);
size_t utf8_valid(const uint8_t *p, size_t n);
JSValue utf8_decode(JSContext *ctx, const uint8_t *p, size_t n, int fatal, int more, size_t *used);
JSValue utf16_decode(JSContext *ctx, const uint8_t *p, size_t n, int big, int fatal, int more, size_t *used);
void utf8_scrub(uint8_t *p, size_t n);
// JSON that is plain; JS_UNINITIALIZED for the rest.
JSValue json_read(JSContext *ctx, const uint8_t *text, size_t n);
JSValue json_write(JSContext *ctx, JSValueConst value);
// What the code that runs belongs to, and what the code that follows does.
JSValue context_now(JSContext *ctx);
void context_enter(JSContext *ctx, JSValueConst context);
// Puts them in front of JSON.parse and JSON.stringify.
void json_install(JSContext *ctx);
// A Uint8Array of what js_malloc gave, which is the array's from here on.
JSValue bytes_owned(JSContext *ctx, uint8_t *p, size_t n);
// The functions that the prelude gets as `host`.
JSValue natives(JSContext *ctx);
// The source of the prelude: a function expression that takes `host`. Written by `cargo xtask build-js`.
extern const char prelude[];
extern const size_t prelude_size;
// Parts of the platform that are compiled when somebody names them, each called as its global is. Written as the prelude is.
struct unit {
  const char *name, *source;
  size_t size;
};
extern const struct unit units[];
extern const size_t units_count;
// The function that a unit is, which takes what it needs of the prelude's.
JSValue unit_function(JSContext *ctx, const char *name);
