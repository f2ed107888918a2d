/* Memory that is kept for the next large message. */
#include "spare.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LARGE = 300 * 1000 };

static void *take(size_t size)
{
    size_t capacity = 0;
    uint8_t *memory = axi_spare_take(size, &capacity);
    assert_non_null(memory);
    assert_true(capacity >= size);
    memory[0] = memory[size - 1] = 1;
    return memory;
}

static int clear(void **state)
{
    (void)state;
    axi_spare_clear();
    return 0;
}

static void large_memory_that_is_given_is_taken_again(void **state)
{
    (void)state;
    void *first = take(LARGE);
    axi_spare_give(first);
    assert_ptr_equal(take(LARGE), first);
    axi_spare_give(first);
    assert_ptr_equal(take(LARGE / 2), first);
    free(first);
}

static void memory_too_small_or_four_times_too_large_is_left_alone(void **state)
{
    (void)state;
    void *kept = take(LARGE);
    axi_spare_give(kept);
    void *larger = take(2 * LARGE), *smaller = take(LARGE / 4 - 100);
    assert_ptr_not_equal(larger, kept);
    assert_ptr_not_equal(smaller, kept);
    assert_ptr_equal(take(LARGE), kept);
    free(kept);
    free(larger);
    free(smaller);
}

static void nobody_gets_what_somebody_has(void **state)
{
    (void)state;
    void *taken[40];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 40; i++) {
            taken[i] = take(LARGE);
            for (int j = 0; j < i; j++)
                assert_ptr_not_equal(taken[i], taken[j]);
        }
        for (int i = 0; i < 40; i++)
            axi_spare_give(taken[i]);
    }
}

static void nothing_and_little_may_be_given(void **state)
{
    (void)state;
    axi_spare_give(NULL);
    axi_spare_give(malloc(1));
}

static void *take_and_give(void *user)
{
    bool *is_intact = user;
    for (int i = 0; i < 2000; i++) {
        size_t capacity;
        uint8_t *memory = axi_spare_take(LARGE, &capacity);
        if (!memory) return NULL;
        memset(memory, i, 64);
        for (int j = 0; j < 64; j++)
            *is_intact = *is_intact && memory[j] == (uint8_t)i;
        axi_spare_give(memory);
    }
    return NULL;
}

static void threads_do_not_get_each_others_memory(void **state)
{
    (void)state;
    pthread_t threads[3];
    bool is_intact[3] = {true, true, true};
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &is_intact[i]), 0);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_true(is_intact[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(large_memory_that_is_given_is_taken_again, clear),
        cmocka_unit_test_teardown(memory_too_small_or_four_times_too_large_is_left_alone, clear),
        cmocka_unit_test_teardown(nobody_gets_what_somebody_has, clear),
        cmocka_unit_test_teardown(nothing_and_little_may_be_given, clear),
        cmocka_unit_test_teardown(threads_do_not_get_each_others_memory, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
