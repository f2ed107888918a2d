/* Memory that runs out on purpose. The Makefile links tests named test_*_memory.c so that malloc(), calloc()
 * and realloc() of the test and of libaxon.a come here; other libraries keep their own. */
#ifndef FAILING_MALLOC_H
#define FAILING_MALLOC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

/* Each thread has its own: a fake server in the same test does not run out of memory. A server of ours does, by
 * the count of all threads but the test's. */
static _Thread_local long allocations_until_failure = -1; /* negative: none fails */
static _Thread_local bool an_allocation_failed;
static atomic_long allocations_until_failure_elsewhere = -1;
static _Thread_local bool is_the_tests_thread;

static bool it_fails_elsewhere(void)
{
    if (is_the_tests_thread || atomic_load(&allocations_until_failure_elsewhere) < 0) return false;
    return atomic_fetch_sub(&allocations_until_failure_elsewhere, 1) == 0;
}

static bool it_fails_now(void)
{
    if (it_fails_elsewhere()) return true;
    bool fails = allocations_until_failure == 0;
    if (allocations_until_failure >= 0) allocations_until_failure--;
    an_allocation_failed = an_allocation_failed || fails;
    return fails;
}

void *__wrap_malloc(size_t size)
{
    return it_fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return it_fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return it_fails_now() ? NULL : __real_realloc(memory, size);
}

/* From now on `count` allocations succeed, the next fails, and those after it succeed. */
static inline void fail_after(long count)
{
    allocations_until_failure = count;
    an_allocation_failed = false;
}

/* Ends that; true when an allocation did fail. */
static inline bool fail_no_more(void)
{
    allocations_until_failure = -1;
    return an_allocation_failed;
}

/* The same, for the other threads. */
static inline void fail_elsewhere_after(long count)
{
    is_the_tests_thread = true;
    atomic_store(&allocations_until_failure_elsewhere, count);
}

static inline bool fail_elsewhere_no_more(void)
{
    return atomic_exchange(&allocations_until_failure_elsewhere, -1) < 0;
}

#endif
