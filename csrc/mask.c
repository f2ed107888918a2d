/* See mask.h. */
#include "mask.h"

#include <string.h>

/* 32 bytes that the compiler keeps in as many registers as it takes: one with AVX2, two with SSE2 or NEON. */
typedef uint64_t block __attribute__((vector_size(32)));

static inline __attribute__((always_inline)) void mask_blocks(uint8_t *to, const uint8_t *from,
                                                              size_t length, uint64_t key)
{
    const block keys = {key, key, key, key};
    size_t done = 0;
    for (; length - done >= 2 * sizeof keys; done += 2 * sizeof keys) {
        block a, b;
        memcpy(&a, from + done, sizeof a);
        memcpy(&b, from + done + sizeof a, sizeof b);
        a ^= keys;
        b ^= keys;
        memcpy(to + done, &a, sizeof a);
        memcpy(to + done + sizeof a, &b, sizeof b);
    }
    uint8_t bytes[sizeof key];
    memcpy(bytes, &key, sizeof key);
    for (; done < length; done++)
        to[done] = from[done] ^ bytes[done % sizeof bytes];
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void mask_avx2(uint8_t *to, const uint8_t *from, size_t length,
                                                      uint64_t key)
{
    mask_blocks(to, from, length, key);
}
#endif

static void mask_any(uint8_t *to, const uint8_t *from, size_t length, uint64_t key)
{
    mask_blocks(to, from, length, key);
}

/* The key as the byte at `offset` meets it, twice, in memory's order. */
static uint64_t turned(const uint8_t key[AXI_MASK_KEY], uint64_t offset)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = key[(offset + i) % AXI_MASK_KEY];
    uint64_t wide;
    memcpy(&wide, bytes, sizeof wide);
    return wide;
}

void axi_mask_copy_portable(void *to, const void *from, size_t length, const uint8_t key[AXI_MASK_KEY],
                            uint64_t offset)
{
    mask_any(to, from, length, turned(key, offset));
}

void axi_mask_copy(void *to, const void *from, size_t length, const uint8_t key[AXI_MASK_KEY],
                   uint64_t offset)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        mask_avx2(to, from, length, turned(key, offset));
        return;
    }
#endif
    axi_mask_copy_portable(to, from, length, key, offset);
}
