/* API keys: what a header can carry, and whom a key lets in. */
#include "api_key.h"

#include "checks.h"

static axon_error err;

static void a_key_that_no_header_can_carry_is_refused(void **state)
{
    (void)state;
    static const char *const keys[] = {"a\r\nX-Evil: 1", "a\n", "\t", "\x7f", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        assert_fails(axi_api_key_check(keys[i], &err), AXON_EINVAL, &err, "api_key: it has characters");
        assert_fails(axi_api_key_check_own(keys[i], &err), AXON_EINVAL, &err, "api_key: it has characters");
    }
    char key[AXI_API_KEY_BYTES + 2] = "";
    memset(key, 'k', AXI_API_KEY_BYTES);
    assert_ok(axi_api_key_check(key, &err), &err);
    key[AXI_API_KEY_BYTES] = 'k';
    assert_fails(axi_api_key_check(key, &err), AXON_EINVAL, &err, "api_key: 4097 bytes, limit 4096");
    assert_ok(axi_api_key_check("", &err), &err); /* a client's, as openpi's sends it */
    assert_fails(axi_api_key_check_own("", &err), AXON_EINVAL, &err, "api_key: it is empty");
    assert_ok(axi_api_key_check_own(" ~!", &err), &err);
}

static void the_header_lets_in_who_has_the_key_and_nobody_else(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "secret",
                                        "Api-Key",
                                        "Api-Key ",
                                        "Api-Key secre",
                                        "Api-Key secret ",
                                        "Api-Key secretsecret",
                                        "Api-Key  secret",
                                        "Api-Key Secret",
                                        "Api-Key tecret",
                                        "Bearer secret",
                                        "Basic c2VjcmV0"};
    char *header = axi_api_key_header("secret");
    assert_string_equal(header, "Api-Key secret");
    assert_true(axi_api_key_admits(header, "secret"));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (axi_api_key_admits(wrong[i], "secret")) fail_msg("\"%s\" was let in", wrong[i]);
        assert_true(axi_api_key_admits(wrong[i], NULL)); /* no key is asked for */
    }
    assert_string_equal(axi_api_key_refusal(""), "An API key is needed.\n");
    assert_string_equal(axi_api_key_refusal("Api-Key x"), "The API key is wrong.\n");
    free(header);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_that_no_header_can_carry_is_refused),
        cmocka_unit_test(the_header_lets_in_who_has_the_key_and_nobody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
