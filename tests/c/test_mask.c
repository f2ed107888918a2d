/* Masking: every length, phase and alignment against a loop over single bytes. */
#include "checks.h"
#include "mask.h"

#include <stdbool.h>

enum { ROOM = 400, GUARD = 0xee };

static uint32_t seed = 2463534242;

static uint32_t any(void) /* Marsaglia's xorshift: the same numbers every time */
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

typedef void (*kernel)(void *to, const void *from, size_t length, const uint8_t key[AXI_MASK_KEY],
                       uint64_t offset);

static void check_once(kernel mask, size_t length, uint64_t offset, size_t from_at, size_t to_at)
{
    uint8_t from[ROOM], to[ROOM], key[4];
    for (size_t i = 0; i < ROOM; i++)
        from[i] = (uint8_t)any();
    for (size_t i = 0; i < 4; i++)
        key[i] = (uint8_t)any();
    memset(to, GUARD, sizeof to);
    mask(to + to_at, from + from_at, length, key, offset);
    for (size_t i = 0; i < ROOM; i++) {
        bool is_inside = i >= to_at && i < to_at + length;
        uint8_t wanted = is_inside ? from[from_at + i - to_at] ^ key[(offset + i - to_at) % 4] : GUARD;
        if (to[i] != wanted) fail_msg("length %zu, offset %d, byte %zu", length, (int)offset, i - to_at);
    }
}

static void check_kernel(kernel mask)
{
    for (size_t length = 0; length < 300; length++)
        for (unsigned offset = 0; offset < 4; offset++)
            check_once(mask, length, offset, any() % 64, any() % 64);
    for (int i = 0; i < 2000; i++)
        check_once(mask, any() % 300, (uint64_t)any() << 20 | any(), any() % 64, any() % 64);
}

static void every_byte_meets_its_byte_of_the_key(void **state)
{
    (void)state;
    check_kernel(axi_mask_copy);
}

static void so_it_does_without_special_instructions(void **state)
{
    (void)state;
    check_kernel(axi_mask_copy_portable);
}

static void pieces_make_the_same_as_the_whole(void **state)
{
    (void)state;
    static uint8_t from[100000], whole[sizeof from], pieces[sizeof from];
    const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (uint8_t)any();
    axi_mask_copy(whole, from, sizeof from, key, 0);
    for (size_t at = 0; at < sizeof from;) {
        size_t length = any() % 3 ? any() % 70 : any() % 9000;
        if (length > sizeof from - at) length = sizeof from - at;
        axi_mask_copy(pieces + at, from + at, length, key, at);
        at += length;
    }
    assert_memory_equal(pieces, whole, sizeof whole);
}

static void masking_in_place_twice_gives_the_bytes_back(void **state)
{
    (void)state;
    uint8_t text[] = "Hello, this is a message that is longer than two blocks of thirty-two bytes each.";
    uint8_t copy[sizeof text];
    const uint8_t key[4] = {1, 2, 3, 4};
    memcpy(copy, text, sizeof text);
    axi_mask_copy(copy, copy, sizeof copy, key, 3);
    assert_memory_not_equal(copy, text, sizeof text);
    axi_mask_copy(copy, copy, sizeof copy, key, 3);
    assert_memory_equal(copy, text, sizeof text);
}

/* RFC 6455, section 5.7: a masked "Hello". */
static void the_example_of_the_standard_comes_out(void **state)
{
    (void)state;
    const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d}, wanted[5] = {0x7f, 0x9f, 0x4d, 0x51, 0x58};
    uint8_t got[5];
    axi_mask_copy(got, "Hello", 5, key, 0);
    assert_memory_equal(got, wanted, sizeof wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_meets_its_byte_of_the_key),
        cmocka_unit_test(so_it_does_without_special_instructions),
        cmocka_unit_test(pieces_make_the_same_as_the_whole),
        cmocka_unit_test(masking_in_place_twice_gives_the_bytes_back),
        cmocka_unit_test(the_example_of_the_standard_comes_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
