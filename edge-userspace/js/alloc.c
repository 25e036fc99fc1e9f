// The engine's allocator, made for a heap that is copied once and then used by short requests.
//
// A worker's heap is snapshotted after its top-level code has run, and every request starts from a copy-on-write image of
// it. So three things matter: that a request writes to few pages of the image (what it allocates is dense and starts on a
// page of its own, `alloc_freeze`), that reuse is last-in first-out (the page is already there), and that nothing has to be
// returned (the instance is thrown away).
//
// A chunk is an 8-byte header that names its class, and the payload, which starts on 8 bytes. Classes are 8 bytes apart up to 512,
// then four to a power of two.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { HEADER = 8, FINE = 64, FINE_TOP = 512, PER_DOUBLING = 4, CLASSES = FINE + PER_DOUBLING * 21, PAGE = 65536, SYSTEM_PAGE = 4096 };
// A single allocation is never larger: 2^29 bytes, well above any limit of a zone.
#define LARGEST ((size_t)1 << 29)
// Zeroed room that is part of the image: small requests never grow the memory, which would be a system call.
#define SPARE ((size_t)1 << 20)

static void *unused[CLASSES];
static uint8_t *top, *end;
extern uint8_t __heap_base;

static uint32_t class_of(size_t n) {
  if (n <= FINE_TOP) return n ? (uint32_t)((n - 1) / 8) : 0;
  uint32_t bits = 31 - (uint32_t)__builtin_clz((uint32_t)(n - 1));  // 2^bits <= n-1, and bits >= 9
  uint32_t quarter = (uint32_t)((n - 1) >> (bits - 2)) & 3;
  return FINE + (bits - 9) * PER_DOUBLING + quarter;
}

static size_t size_of(uint32_t class) {
  if (class < FINE) return (class + 1) * 8;
  uint32_t bits = (class - FINE) / PER_DOUBLING + 9, quarter = (class - FINE) % PER_DOUBLING;
  return ((size_t)1 << bits) + ((size_t)(quarter + 1) << (bits - 2));
}

static uint8_t *bump(size_t n) {
  if (!top) {
    top = (uint8_t *)(((uintptr_t)&__heap_base + 7) & ~(uintptr_t)7);
    end = (uint8_t *)(__builtin_wasm_memory_size(0) * PAGE);
  }
  if ((size_t)(end - top) < n) {
    size_t need = (n - (size_t)(end - top) + PAGE - 1) / PAGE, generous = need < 16 ? 16 : need;
    if (__builtin_wasm_memory_grow(0, generous) == (size_t)-1 && __builtin_wasm_memory_grow(0, need) == (size_t)-1) return 0;
    end = (uint8_t *)(__builtin_wasm_memory_size(0) * PAGE);
  }
  uint8_t *p = top;
  top += n;
  return p;
}

static uint32_t *header(const void *p) { return (uint32_t *)((uintptr_t)p - HEADER); }

void *malloc(size_t n) {
  if (n > LARGEST) return 0;
  uint32_t class = class_of(n);
  void *p = unused[class];
  if (p) {
    unused[class] = *(void **)p;
    return p;
  }
  uint8_t *chunk = bump(size_of(class) + HEADER);
  if (!chunk) return 0;
  *(uint32_t *)chunk = class;
  return chunk + HEADER;
}

void free(void *p) {
  if (!p) return;
  uint32_t class = *header(p);
  *(void **)p = unused[class];
  unused[class] = p;
}

size_t malloc_usable_size(const void *p) { return p ? size_of(*header(p)) : 0; }

void *calloc(size_t count, size_t size) {
  size_t n;
  if (__builtin_mul_overflow(count, size, &n)) return 0;
  void *p = malloc(n);
  if (p) memset(p, 0, n);
  return p;
}

void *realloc(void *p, size_t n) {
  if (!p) return malloc(n);
  if (!n) {
    free(p);
    return 0;
  }
  size_t old = size_of(*header(p));
  if (n <= old && (old <= FINE_TOP * 2 || n > old / 4)) return p;
  // The chunk at the top grows in place: what is appended to again and again is not copied again and again.
  if (n > old && (uint8_t *)p + old == top && n <= LARGEST) {
    uint32_t class = class_of(n);
    if (bump(size_of(class) - old)) {
      *header(p) = class;
      return p;
    }
    return 0;
  }
  void *q = malloc(n);
  if (!q) return 0;
  memcpy(q, p, old < n ? old : n);
  free(p);
  return q;
}

// Ends the part of the heap that becomes the image: free chunks are wiped and forgotten (pages of zeroes are not stored), and
// what comes next starts on a page of its own, with SPARE bytes of room. Nonzero if there is no memory for that.
int alloc_freeze(void) {
  for (uint32_t class = 0; class < CLASSES; class++) {
    void *p = unused[class];
    while (p) {
      void *next = *(void **)p;
      memset(p, 0, size_of(class));
      p = next;
    }
    unused[class] = 0;
  }
  size_t gap = (SYSTEM_PAGE - ((uintptr_t)top & (SYSTEM_PAGE - 1))) & (SYSTEM_PAGE - 1);
  if (!bump(gap + SPARE)) return -1;
  top -= SPARE;
  return 0;
}
