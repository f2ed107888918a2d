/* Simulators when memory runs out: every allocation of ours fails once, on either side, and nothing is lost or leaked. */
#include <axon/simulator.h>
#include <axon/simulator_server.h>

#include "checks.h"
#include "failing_malloc.h"

#include <pthread.h>

/* Less than is kept for the next one: each picture needs memory of its own. */
enum { PICTURE = 50000 };

static axon_error err;
static uint8_t pixels[PICTURE];

/* ---- a simulator that shows one picture ------------------------------------------------------------------ */

/* Made while there is memory: an action, and what answers everything. */
static axon_value *action, *fields;

static axon_value *make_picture(void)
{
    const axon_array picture = {.dtype = AXON_UINT8, .ndim = 1, .shape = {PICTURE}, .data = pixels};
    axon_value *made = axon_value_map();
    axon_value_set(made, "picture", axon_value_array(&picture));
    return made;
}

static int make_values(void **state)
{
    (void)state;
    action = make_picture();
    fields = axon_value_map();
    axon_value_set(fields, "observation", make_picture());
    axon_value_set(fields, "task_info", axon_value_map());
    axon_value_set(fields, "reward", axon_value_float(1));
    axon_value_set(fields, "terminated", axon_value_bool(0));
    axon_value_set(fields, "truncated", axon_value_bool(0));
    return 0;
}

static int free_values(void **state)
{
    (void)state;
    axon_value_free(action);
    axon_value_free(fields);
    return 0;
}

/* One session after another, in one thread. */
static void *serve(void *server)
{
    axon_simulator_session *session;
    axon_status status = AXON_OK;
    while (status != AXON_ECANCELED) {
        status = axon_simulator_server_accept(server, AXON_FOREVER, &session, NULL);
        if (status != AXON_OK) continue;
        while (status == AXON_OK || status == AXON_ENOMEM) {
            axon_simulator_request *request;
            status = axon_simulator_session_next(session, AXON_FOREVER, &request, NULL);
            if (status != AXON_OK) continue;
            bool is_over = strcmp(axon_simulator_request_method(request), "disconnect") == 0;
            axon_simulator_request_reply(request, fields, NULL);
            if (is_over) break;
        }
        axon_simulator_session_close(session);
    }
    return NULL;
}

typedef struct served {
    axon_simulator_server *server;
    pthread_t thread;
} served;

static void begin(served *self)
{
    axon_simulator_server_options o = {.size = sizeof o, .port = AXON_ANY_PORT, .stop_timeout_ms = 5000};
    assert_ok(axon_simulator_server_open(&self->server, &o, &err), &err);
    pthread_create(&self->thread, NULL, serve, self->server);
}

static void finish(served *self)
{
    axon_simulator_server_stop(self->server);
    pthread_join(self->thread, NULL);
    axon_simulator_server_close(self->server);
}

/* ---- an episode ------------------------------------------------------------------------------------------ */

static axon_status step(axon_simulator *simulator)
{
    axon_simulator_outcome outcome;
    axon_status status = axon_simulator_step(simulator, action, &outcome, &err);
    if (status == AXON_OK) axon_value_free(outcome.reply);
    return status;
}

/* The first failure. */
static axon_status play(axon_simulator *simulator)
{
    axon_value *value = NULL;
    axon_status status = axon_simulator_select(simulator, "s", &err);
    if (status == AXON_OK) status = axon_simulator_load_task(simulator, "t", &value, &err);
    if (status != AXON_OK) return status;
    axon_value_free(value);
    status = axon_simulator_reset(simulator, &value, &err);
    if (status != AXON_OK) return status;
    axon_value_free(value);
    return step(simulator);
}

static axon_status open_and_play(const served *self)
{
    axon_simulator_options o = {.size = sizeof o, .connect_once = 1, .close_timeout_ms = 200};
    axon_simulator *simulator = NULL;
    const char *address = axon_simulator_server_address(self->server);
    axon_status status = axon_simulator_open(&simulator, address, &o, &err);
    if (status == AXON_OK) status = play(simulator);
    if (status == AXON_OK) status = axon_simulator_disconnect(simulator, &err);
    axon_simulator_close(simulator);
    return status;
}

/* ---- the client ------------------------------------------------------------------------------------------ */

static void every_call_says_that_memory_is_out(void **state)
{
    (void)state;
    served self;
    begin(&self);
    bool has_failed = true;
    for (long count = 0; has_failed; count++) {
        fail_after(count);
        axon_status status = open_and_play(&self);
        has_failed = fail_no_more();
        if (status != AXON_OK && (status != AXON_ENOMEM || !has_failed || !strstr(err.message, "memory")))
            fail_msg("allocation %ld: %s: %s", count, axon_status_name(status), err.message);
    }
    finish(&self);
}

/* The same client goes on after each failure: no reply is taken for another one. */
static void a_client_that_ran_out_of_memory_goes_on(void **state)
{
    (void)state;
    served self;
    begin(&self);
    axon_simulator *simulator;
    assert_ok(axon_simulator_open(&simulator, axon_simulator_server_address(self.server), NULL, &err),
              &err);
    bool has_failed = true;
    for (long count = 0; has_failed; count++) {
        fail_after(count);
        play(simulator);
        has_failed = fail_no_more();
        assert_ok(play(simulator), &err);
    }
    axon_simulator_close(simulator);
    finish(&self);
}

/* ---- the server ------------------------------------------------------------------------------------------ */

static void opening_a_server_says_that_memory_is_out(void **state)
{
    (void)state;
    axon_simulator_server_options o = {.size = sizeof o, .port = AXON_ANY_PORT};
    bool has_failed = true;
    for (long count = 0; has_failed; count++) {
        axon_simulator_server *server = NULL;
        fail_after(count);
        axon_status status = axon_simulator_server_open(&server, &o, &err);
        has_failed = fail_no_more();
        if (status != (has_failed ? AXON_ENOMEM : AXON_OK))
            fail_msg("allocation %ld: %s", count, err.message);
        axon_simulator_server_close(server);
    }
}

/* Its threads run out of memory: a client hears of it or loses its session, soon, and then all goes on. */
static void a_client_hears_that_the_server_ran_out_of_memory(void **state)
{
    (void)state;
    served self;
    begin(&self);
    bool has_failed = true;
    for (long count = 0; has_failed; count++) {
        fail_elsewhere_after(count);
        axon_status status = open_and_play(&self);
        has_failed = fail_elsewhere_no_more();
        if (status != AXON_OK && status != AXON_ESERVER && status != AXON_ECONNECT)
            fail_msg("allocation %ld: %s: %s", count, axon_status_name(status), err.message);
        if (status == AXON_ESERVER && !strstr(err.message, "memory"))
            fail_msg("allocation %ld: %s", count, err.message);
    }
    assert_ok(open_and_play(&self), &err);
    finish(&self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_says_that_memory_is_out),
        cmocka_unit_test(a_client_that_ran_out_of_memory_goes_on),
        cmocka_unit_test(opening_a_server_says_that_memory_is_out),
        cmocka_unit_test(a_client_hears_that_the_server_ran_out_of_memory),
    };
    return cmocka_run_group_tests(tests, make_values, free_values);
}
