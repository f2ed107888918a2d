/* A malloc that fails on purpose, once, for the calling thread: in axon and in the libraries below it. A test
 * includes this file. Not under the thread sanitizer, which starts before any function can be looked up. */
#ifndef FAKES_FAILING_MALLOC_C
#define FAKES_FAILING_MALLOC_C

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#ifndef __SANITIZE_THREAD__
#define CAN_FAIL_MALLOC 1

static __thread int64_t allocations_left = -1; /* until the one that fails; negative: none will */

static inline void fail_allocation(int64_t after)
{
    allocations_left = after;
}

/* True when the failure has happened; none will from here on. */
static inline bool allocation_failed(void)
{
    bool failed = allocations_left < 0;
    allocations_left = -1;
    return failed;
}

static bool fails_now(void)
{
    return allocations_left >= 0 && allocations_left-- == 0;
}

/* The next definition of a function, the C library's or the sanitizer's. */
#define REAL(type, name, ...)                                                                              \
    static type (*real)(__VA_ARGS__);                                                                      \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

__attribute__((visibility("default"))) void *malloc(size_t size)
{
    REAL(void *, "malloc", size_t);
    return fails_now() ? NULL : real(size);
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t size)
{
    REAL(void *, "calloc", size_t, size_t);
    return fails_now() ? NULL : real(count, size);
}

__attribute__((visibility("default"))) void *realloc(void *memory, size_t size)
{
    REAL(void *, "realloc", void *, size_t);
    return fails_now() ? NULL : real(memory, size);
}

#endif
#endif
