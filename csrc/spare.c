/* See spare.h. */
#include "spare.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

enum {
    SLOTS = 16,
    LEAST_BYTES = 64 * 1024,       /* malloc() keeps what is smaller */
    MOST_BYTES = 16 * 1024 * 1024, /* of one */
    TOTAL_BYTES = 64 * 1024 * 1024,
    TOO_LARGE = 4 /* times what is wanted */
};

/* Whoever has exchanged a pointer out of its slot owns it. */
static _Atomic(void *) slots[SLOTS];
static atomic_size_t total;

static void *take_from(size_t slot)
{
    if (!atomic_load_explicit(&slots[slot], memory_order_relaxed)) return NULL;
    void *memory = atomic_exchange(&slots[slot], NULL);
    if (memory) atomic_fetch_sub(&total, malloc_usable_size(memory));
    return memory;
}

void *axi_spare_take(size_t size, size_t *capacity)
{
    for (size_t i = 0; i < SLOTS && size >= LEAST_BYTES; i++) {
        void *memory = take_from(i);
        if (!memory) continue;
        *capacity = malloc_usable_size(memory);
        if (*capacity >= size && *capacity / TOO_LARGE <= size) return memory;
        axi_spare_give(memory);
    }
    *capacity = size;
    return malloc(size);
}

static bool keep(void *memory, size_t size)
{
    if (atomic_fetch_add(&total, size) + size <= TOTAL_BYTES) {
        for (size_t i = 0; i < SLOTS; i++) {
            void *empty = NULL;
            if (atomic_compare_exchange_strong(&slots[i], &empty, memory)) return true;
        }
    }
    atomic_fetch_sub(&total, size);
    return false;
}

void axi_spare_give(void *memory)
{
    size_t size = memory ? malloc_usable_size(memory) : 0;
    if (size < LEAST_BYTES || size > MOST_BYTES || !keep(memory, size)) free(memory);
}

void axi_spare_clear(void)
{
    for (size_t i = 0; i < SLOTS; i++)
        free(take_from(i));
}
