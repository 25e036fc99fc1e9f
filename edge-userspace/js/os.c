// What QuickJS expects of an operating system, and gets from the host or not at all: one clock, no files, no time zone.
//
// Linked before libc.a, so that none of libc's members that would ask for WASI are pulled in.
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

// Microseconds since 1970, as coarse as the host makes them.
__attribute__((import_module("edge"), import_name("now"))) extern double host_now(void);

int gettimeofday(struct timeval *restrict value, void *restrict zone) {
  (void)zone;
  long long now = (long long)host_now();
  value->tv_sec = (time_t)(now / 1000000);
  value->tv_usec = (suseconds_t)(now % 1000000);
  return 0;
}

int clock_gettime(clockid_t clock, struct timespec *value) {
  (void)clock;
  long long now = (long long)host_now();
  value->tv_sec = (time_t)(now / 1000000);
  value->tv_nsec = (long)((now % 1000000) * 1000);
  return 0;
}

// UTC, always.
struct tm *localtime_r(const time_t *restrict time, struct tm *restrict broken) {
  (void)time;
  memset(broken, 0, sizeof(*broken));
  return broken;
}

_Noreturn void abort(void) { __builtin_trap(); }
_Noreturn void __assert_fail(const char *expression, const char *file, int line, const char *function) {
  (void)expression, (void)file, (void)line, (void)function;
  __builtin_trap();
}

// There is no stdout: what would be dumped is dropped.
int fprintf(FILE *restrict file, const char *restrict format, ...) { return (void)file, (void)format, 0; }
int fputc(int c, FILE *file) { return (void)file, c; }
int putchar(int c) { return c; }
int fputs(const char *restrict text, FILE *restrict file) { return (void)text, (void)file, 0; }
int fflush(FILE *file) { return (void)file, 0; }
size_t __stdio_write(FILE *file, const unsigned char *bytes, size_t n) { return (void)file, (void)bytes, n; }
size_t __stdout_write(FILE *file, const unsigned char *bytes, size_t n) { return (void)file, (void)bytes, n; }
off_t __stdio_seek(FILE *file, off_t offset, int whence) { return (void)file, (void)offset, (void)whence, -1; }
int __stdio_close(FILE *file) { return (void)file, 0; }
int __isatty(int descriptor) { return (void)descriptor, 0; }
