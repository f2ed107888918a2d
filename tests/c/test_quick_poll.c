/* Waiting for a peer that answers at once: it finds what poll() finds, and looks only where that may help. */
#include "checks.h"
#include "quick_poll.h"

#include <sys/eventfd.h>
#include <unistd.h>

static void it_finds_what_there_is_and_what_comes(void **state)
{
    (void)state;
    axi_quick quick = {.is_likely = false};
    struct pollfd watched[] = {{.fd = eventfd(0, EFD_NONBLOCK), .events = POLLIN},
                               {.fd = eventfd(1, EFD_NONBLOCK), .events = POLLIN}};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(axi_quick_poll(&quick, watched, 2, 20000), 1);
        assert_int_equal(watched[0].revents, 0);
        assert_int_equal(watched[1].revents, POLLIN);
        quick.is_likely = i == 0; /* with and without a look before */
    }
    assert_int_equal(axi_quick_poll(&quick, watched, 1, 0), 0);
    assert_false(quick.is_likely);
    close(watched[0].fd);
    close(watched[1].fd);
}

static void a_peer_that_takes_long_is_not_looked_for_again(void **state)
{
    (void)state;
    struct pollfd watched = {.fd = eventfd(0, EFD_NONBLOCK), .events = POLLIN};
    for (int was_likely = 0; was_likely < 2; was_likely++) {
        axi_quick quick = {.is_likely = was_likely};
        assert_int_equal(axi_quick_poll(&quick, &watched, 1, 5), 0);
        assert_false(quick.is_likely);
    }
    close(watched.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_finds_what_there_is_and_what_comes),
        cmocka_unit_test(a_peer_that_takes_long_is_not_looked_for_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
