/* Simulators: the client and the server against each other, and each where the other one is missing or late. */
#include <axon/simulator.h>
#include <axon/simulator_server.h>

#include "checks.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static axon_error err;

/* ---- a simulator that counts ------------------------------------------------------------------------- */

enum { WIDTH = 320, HEIGHT = 240, PICTURE = WIDTH * HEIGHT * 3 };

/* A server, its accepting thread, and a thread for each session. */
typedef struct {
    axon_simulator_server *server;
    pthread_t accepting;
    pthread_t sessions[16];
    unsigned count;
    bool is_of_the_document; /* knows neither list_simulators nor select_simulator */
    atomic_bool lists_odd;   /* what is behind the first name of its lists is none */
    atomic_uint ended;       /* sessions, whatever the reason */
} served;

typedef struct {
    served *self;
    axon_simulator_session *session;
} hosted;

static bool is(const char *one, const char *other)
{
    return strcmp(one, other) == 0;
}

static void answer_step(axon_simulator_request *request, double *at)
{
    static uint8_t pixels[PICTURE];
    double by = 0;
    int64_t sleep_ms = 0;
    const axon_value *action = axon_value_get(axon_simulator_request_fields(request), "action");
    axon_value_as_int(axon_value_get(action, "sleep"), &sleep_ms);
    nanosleep(&(struct timespec){.tv_sec = sleep_ms / 1000, .tv_nsec = sleep_ms % 1000 * 1000000}, NULL);
    if (axon_value_as_float(axon_value_get(action, "by"), &by) != AXON_OK) {
        axon_simulator_request_fail(request, "invalid_params", "action \"by\": is missing", NULL);
        return;
    }
    *at += by;
    axon_array picture = {.dtype = AXON_UINT8, .ndim = 3, .shape = {HEIGHT, WIDTH, 3}, .data = pixels};
    axon_value *reply = axon_value_map(), *seen = axon_value_map(), *deep = axon_value_list();
    axon_value_append(deep, axon_value_array(&picture));
    axon_value_set(seen, "at", axon_value_float(*at));
    axon_value_set(seen, "deep", deep);
    axon_value_set(reply, "observation", seen);
    axon_value_set(reply, "reward", axon_value_float(by));
    axon_value_set(reply, "terminated", axon_value_bool(*at >= 10));
    axon_value_set(reply, "truncated", axon_value_bool(0));
    axon_simulator_request_reply(request, reply, NULL);
    axon_value_free(reply);
}

/* Answers with one member. */
static void answer_with(axon_simulator_request *request, const char *key, axon_value *member)
{
    axon_value *reply = axon_value_map();
    axon_value_set(reply, key, member);
    axon_simulator_request_reply(request, reply, NULL);
    axon_value_free(reply);
}

static axon_value *list_of(const served *self, const char *text)
{
    axon_value *list = axon_value_list();
    axon_value_append(list, axon_value_string(text, AXON_ZSTRING));
    if (atomic_load(&self->lists_odd)) axon_value_append(list, axon_value_map());
    return list;
}

/* What a session remembers. */
typedef struct {
    bool is_selected, is_loaded, is_reset, is_over;
    double at;
} state_of;

static void answer(const served *self, axon_simulator_request *request, state_of *now)
{
    const char *method = axon_simulator_request_method(request);
    bool has_choice = !self->is_of_the_document;
    if (has_choice && is(method, "list_simulators")) {
        answer_with(request, "simulators", list_of(self, "counter"));
    } else if (has_choice && is(method, "select_simulator")) {
        now->is_selected = true;
        axon_simulator_request_reply(request, NULL, NULL);
    } else if (is(method, "disconnect")) {
        now->is_over = true;
        axon_simulator_request_reply(request, NULL, NULL);
    } else if (has_choice && !now->is_selected) {
        axon_simulator_request_fail(request, "no_simulator_selected", "call select_simulator first", NULL);
    } else if (is(method, "list_tasks")) {
        answer_with(request, "tasks", list_of(self, "count"));
    } else if (is(method, "load_task")) {
        now->is_loaded = true;
        answer_with(request, "task_info", axon_value_map());
    } else if (is(method, "get_info")) {
        answer_with(request, "backend_name", axon_value_string("counter", AXON_ZSTRING));
    } else if (is(method, "reset") && now->is_loaded) {
        now->is_reset = true;
        now->at = 0;
        answer_with(request, "observation", axon_value_map());
    } else if (is(method, "step") && now->is_reset) {
        answer_step(request, &now->at);
    } else if (is(method, "step")) {
        axon_simulator_request_fail(request, "not_reset", "call reset first", NULL);
    } else {
        axon_simulator_request_fail(request, "unknown_method", method, NULL);
    }
}

static void *host(void *argument)
{
    hosted *mine = argument;
    state_of now = {.at = 0};
    axon_simulator_request *request;
    while (!now.is_over &&
           axon_simulator_session_next(mine->session, AXON_FOREVER, &request, NULL) == AXON_OK)
        answer(mine->self, request, &now);
    axon_simulator_session_close(mine->session);
    atomic_fetch_add(&mine->self->ended, 1);
    free(mine);
    return NULL;
}

static void *accept_all(void *argument)
{
    served *self = argument;
    axon_simulator_session *session;
    while (axon_simulator_server_accept(self->server, AXON_FOREVER, &session, NULL) == AXON_OK) {
        hosted *mine = malloc(sizeof *mine);
        *mine = (hosted){self, session};
        pthread_create(&self->sessions[self->count++], NULL, host, mine);
    }
    return NULL;
}

static served *begin(const axon_simulator_server_options *given, bool is_of_the_document)
{
    served *self = calloc(1, sizeof *self);
    axon_simulator_server_options o = {.size = sizeof o};
    if (given) o = *given;
    o.port = AXON_ANY_PORT;
    self->is_of_the_document = is_of_the_document;
    assert_ok(axon_simulator_server_open(&self->server, &o, &err), &err);
    pthread_create(&self->accepting, NULL, accept_all, self);
    return self;
}

static void finish(served *self)
{
    axon_simulator_server_stop(self->server);
    pthread_join(self->accepting, NULL);
    for (unsigned i = 0; i < self->count; i++)
        pthread_join(self->sessions[i], NULL);
    axon_simulator_server_close(self->server);
    free(self);
}

static axon_simulator *connect_to(const served *self, const axon_simulator_options *opts)
{
    axon_simulator *simulator;
    const char *address = axon_simulator_server_address(self->server);
    assert_ok(axon_simulator_open(&simulator, address, opts, &err), &err);
    return simulator;
}

/* A session in an episode. */
static axon_simulator *play(const served *self, const axon_simulator_options *opts)
{
    axon_value *value;
    axon_simulator *simulator = connect_to(self, opts);
    assert_ok(axon_simulator_select(simulator, "counter", &err), &err);
    assert_ok(axon_simulator_load_task(simulator, "count", &value, &err), &err);
    axon_value_free(value);
    assert_ok(axon_simulator_reset(simulator, &value, &err), &err);
    axon_value_free(value);
    return simulator;
}

static axon_status step(axon_simulator *simulator, double by, int64_t sleep_ms, double *at)
{
    axon_simulator_outcome outcome;
    axon_value *action = axon_value_map();
    axon_value_set(action, "by", axon_value_float(by));
    if (sleep_ms) axon_value_set(action, "sleep", axon_value_int(sleep_ms));
    axon_status status = axon_simulator_step(simulator, action, &outcome, &err);
    if (status == AXON_OK) {
        axon_value_as_float(axon_value_get(outcome.observation, "at"), at);
        axon_value_free(outcome.reply);
    }
    axon_value_free(action);
    return status;
}

/* ---- episodes ---------------------------------------------------------------------------------------- */

static void an_episode_runs_and_its_arrays_are_arrays(void **state)
{
    (void)state;
    served *self = begin(NULL, false);
    axon_simulator *simulator = play(self, NULL);
    axon_simulator_outcome outcome;
    const axon_array *picture;
    axon_value *action = axon_value_map();
    axon_value_set(action, "by", axon_value_float(5));
    for (int i = 1; i <= 2; i++) {
        assert_ok(axon_simulator_step(simulator, action, &outcome, &err), &err);
        assert_true(outcome.reward > 4.9 && outcome.reward < 5.1);
        assert_int_equal(outcome.terminated, i == 2);
        assert_int_equal(outcome.truncated, 0);
        assert_null(outcome.info);
        const axon_value *deep = axon_value_get(outcome.observation, "deep");
        assert_int_equal(axon_value_as_array(axon_value_at(deep, 0), &picture), AXON_OK);
        assert_int_equal(picture->shape[1], WIDTH);
        axon_value_free(outcome.reply);
    }
    axon_timing timing;
    axon_simulator_stats stats;
    assert_ok(axon_simulator_timing(simulator, &timing, &err), &err);
    assert_true(timing.received_bytes > PICTURE);
    assert_ok(axon_simulator_get_stats(simulator, &stats, &err), &err);
    assert_int_equal(stats.calls, 5);
    assert_int_equal(stats.replies, 5);
    assert_int_equal(stats.window, 2);
    assert_true(stats.step.max > 0);
    axon_value_free(action);
    axon_simulator_close(simulator);
    finish(self);
}

static void a_server_of_the_document_has_the_one_simulator_that_it_names(void **state)
{
    (void)state;
    served *self = begin(NULL, true);
    axon_simulator *simulator = connect_to(self, NULL);
    axon_value *names;
    const char *name;
    size_t length;
    assert_ok(axon_simulator_list_simulators(simulator, &names, &err), &err);
    assert_int_equal(axon_value_count(names), 1);
    assert_int_equal(axon_value_as_string(axon_value_at(names, 0), &name, &length), AXON_OK);
    assert_memory_equal(name, "counter", length);
    axon_value_free(names);
    assert_ok(axon_simulator_select(simulator, "counter", &err), &err);
    assert_fails(axon_simulator_select(simulator, "other", &err), AXON_ESERVER, &err, "no \"other\"");
    assert_string_equal(axon_simulator_error_type(simulator), "unknown_simulator");
    axon_simulator_close(simulator);
    finish(self);
}

static void the_servers_errors_have_a_type_and_a_text(void **state)
{
    (void)state;
    served *self = begin(NULL, false);
    axon_simulator *simulator = connect_to(self, NULL);
    axon_value *value;
    assert_fails(axon_simulator_list_tasks(simulator, NULL, &value, &err), AXON_ESERVER, &err,
                 "list_tasks: no_simulator_selected: call select_simulator first");
    assert_non_null(strstr(err.message, axon_simulator_server_address(self->server)));
    assert_string_equal(axon_simulator_error_type(simulator), "no_simulator_selected");
    assert_string_equal(axon_simulator_server_error(simulator), "call select_simulator first");
    assert_ok(axon_simulator_select(simulator, "counter", &err), &err);
    assert_null(axon_simulator_error_type(simulator));
    assert_null(axon_simulator_server_error(simulator));
    assert_fails(axon_simulator_call(simulator, "fly", NULL, &value, &err), AXON_ESERVER, &err, "fly");
    assert_string_equal(axon_simulator_error_type(simulator), "unknown_method");
    axon_simulator_close(simulator);
    finish(self);
}

static void lists_that_hold_more_than_names_are_refused(void **state)
{
    (void)state;
    served *self = begin(NULL, false);
    axon_simulator *simulator = connect_to(self, NULL);
    axon_value *names = NULL;
    assert_ok(axon_simulator_select(simulator, "counter", &err), &err);
    atomic_store(&self->lists_odd, true);
    assert_fails(axon_simulator_list_simulators(simulator, &names, &err), AXON_EPROTOCOL, &err,
                 "the reply to list_simulators has a map at \"simulators[1]\", not text");
    assert_fails(axon_simulator_list_tasks(simulator, NULL, &names, &err), AXON_EPROTOCOL, &err,
                 "the reply to list_tasks has a map at \"tasks[1]\", not text");
    assert_non_null(strstr(err.message, axon_simulator_server_address(self->server)));
    assert_null(names);
    assert_fails(axon_simulator_list_tasks(simulator, NULL, NULL, &err), AXON_EINVAL, &err,
                 "tasks is NULL");
    atomic_store(&self->lists_odd, false);
    assert_ok(axon_simulator_list_tasks(simulator, NULL, &names, &err), &err);
    axon_value_free(names);
    axon_simulator_close(simulator);
    finish(self);
}

/* ---- late, cancelled, lost --------------------------------------------------------------------------- */

static void a_late_reply_is_thrown_away(void **state)
{
    (void)state;
    double at = 0;
    served *self = begin(NULL, false);
    axon_simulator *simulator = play(self, NULL);
    for (int i = 0; i < 3; i++) {
        assert_ok(axon_simulator_set_timeout(simulator, 30, &err), &err);
        assert_fails(step(simulator, 1, 100, &at), AXON_ETIMEOUT, &err,
                     "no reply to step after 30 ms (call_timeout_ms)");
        assert_fails(step(simulator, 1, 0, &at), AXON_ETIMEOUT, &err, "still owes the reply");
        assert_ok(axon_simulator_set_timeout(simulator, 0, &err), &err);
        assert_ok(step(simulator, 1, 0, &at), &err);
        assert_true(at > 2 * i + 1.9 && at < 2 * i + 2.1);
    }
    axon_simulator_stats stats;
    assert_ok(axon_simulator_get_stats(simulator, &stats, &err), &err);
    assert_int_equal(stats.discarded, 3);
    assert_int_equal(stats.timeouts, 6);
    assert_int_equal(stats.sessions, 1);
    axon_simulator_close(simulator);
    finish(self);
}

static void a_session_is_given_up_after_its_grace_and_chooses_again(void **state)
{
    (void)state;
    double at = 0;
    axon_value *value;
    served *self = begin(NULL, false);
    axon_simulator_options o = {.size = sizeof o, .grace_ms = 30};
    axon_simulator *simulator = play(self, &o);
    assert_ok(axon_simulator_set_timeout(simulator, 30, &err), &err);
    assert_fails(step(simulator, 1, 300, &at), AXON_ETIMEOUT, &err, "no reply to step");
    assert_ok(axon_simulator_set_timeout(simulator, 0, &err), &err);
    assert_fails(step(simulator, 1, 0, &at), AXON_ESERVER, &err, "not_reset");
    assert_ok(axon_simulator_reset(simulator, &value, &err), &err);
    axon_value_free(value);
    assert_ok(step(simulator, 1, 0, &at), &err);
    axon_simulator_stats stats;
    assert_ok(axon_simulator_get_stats(simulator, &stats, &err), &err);
    assert_int_equal(stats.sessions, 2);
    axon_simulator_close(simulator);
    finish(self);
}

static void *cancel_soon(void *simulator)
{
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    axon_simulator_cancel(simulator);
    return NULL;
}

static void a_call_is_cancelled_and_the_next_one_is_not(void **state)
{
    (void)state;
    double at = 0;
    pthread_t thread;
    served *self = begin(NULL, false);
    axon_simulator *simulator = play(self, NULL);
    axon_simulator_cancel(simulator); /* of no call: of none that follows */
    assert_ok(step(simulator, 1, 0, &at), &err);
    pthread_create(&thread, NULL, cancel_soon, simulator);
    assert_fails(step(simulator, 1, 300, &at), AXON_ECANCELED, &err, "cancelled");
    pthread_join(thread, NULL);
    assert_ok(step(simulator, 1, 0, &at), &err);
    assert_true(at > 2.9 && at < 3.1);
    axon_simulator_close(simulator);
    finish(self);
}

/* The server's threads wait in axon, too. */
static int32_t stop_this_thread(void *thread)
{
    return pthread_equal(*(pthread_t *)thread, pthread_self());
}

static void the_interrupt_function_ends_a_wait(void **state)
{
    (void)state;
    double at = 0;
    pthread_t mine = pthread_self();
    served *self = begin(NULL, false);
    axon_simulator *simulator = play(self, NULL);
    axon_set_interrupt(stop_this_thread, &mine);
    axon_status status = step(simulator, 1, 600, &at);
    axon_set_interrupt(NULL, NULL);
    assert_int_equal(status, AXON_ECANCELED);
    assert_non_null(strstr(err.message, "interrupted"));
    assert_ok(step(simulator, 1, 0, &at), &err);
    axon_simulator_close(simulator);
    finish(self);
}

/* ---- nobody, or somebody else ------------------------------------------------------------------------ */

/* A listener on a port of its own. */
static int listen_somewhere(char *address, size_t size)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 8), 0);
    getsockname(fd, (struct sockaddr *)&at, &length);
    snprintf(address, size, "tcp://127.0.0.1:%d", ntohs(at.sin_port));
    return fd;
}

static void nobody_is_an_error_that_names_the_address(void **state)
{
    (void)state;
    char address[64];
    axon_simulator *simulator = NULL;
    axon_simulator_options o = {.size = sizeof o, .connect_once = 1};
    close(listen_somewhere(address, sizeof address));
    assert_fails(axon_simulator_open(&simulator, address, &o, &err), AXON_ECONNECT, &err,
                 "Connection refused");
    assert_non_null(strstr(err.message, address));
    o = (axon_simulator_options){.size = sizeof o, .connect_timeout_ms = 200, .retry_min_ms = 20};
    assert_fails(axon_simulator_open(&simulator, address, &o, &err), AXON_ECONNECT, &err,
                 "times within 200 ms (connect_timeout_ms)");
    assert_fails(axon_simulator_open(&simulator, "ipc:///nowhere/at/all", &o, &err), AXON_ECONNECT, &err,
                 "No such file or directory");
    assert_null(simulator);
}

static void somebody_silent_is_a_timeout(void **state)
{
    (void)state;
    char address[64];
    axon_simulator *simulator = NULL;
    axon_simulator_options o = {.size = sizeof o, .connect_timeout_ms = 150};
    int fd = listen_somewhere(address, sizeof address);
    assert_fails(axon_simulator_open(&simulator, address, &o, &err), AXON_ETIMEOUT, &err,
                 "did not answer ZeroMQ's greeting after 150 ms (connect_timeout_ms)");
    close(fd);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    axon_simulator *simulator = NULL;
    axon_simulator_server *server = NULL;
    axon_simulator_options o = {.size = sizeof o, .connect_once = 2};
    axon_simulator_server_options so = {.size = sizeof so, .port = 70000};
    assert_fails(axon_simulator_open(NULL, "a", NULL, &err), AXON_EINVAL, &err, "NULL");
    assert_fails(axon_simulator_open(&simulator, NULL, NULL, &err), AXON_EINVAL, &err, "empty");
    assert_fails(axon_simulator_open(&simulator, "udp://a:1", NULL, &err), AXON_EINVAL, &err, "tcp://");
    assert_fails(axon_simulator_open(&simulator, "a:b", NULL, &err), AXON_EINVAL, &err, "port");
    assert_fails(axon_simulator_open(&simulator, "a", &o, &err), AXON_EINVAL, &err, "connect_once");
    o.size = 0;
    assert_fails(axon_simulator_open(&simulator, "a", &o, &err), AXON_EINVAL, &err, "size");
    assert_fails(axon_simulator_server_open(&server, &so, &err), AXON_EINVAL, &err, "port: 70000");
    so = (axon_simulator_server_options){.size = sizeof so, .max_sessions = 5000};
    assert_fails(axon_simulator_server_open(&server, &so, &err), AXON_EINVAL, &err, "limit 4096");
    so = (axon_simulator_server_options){.size = sizeof so, .host = "203.0.113.1", .port = AXON_ANY_PORT};
    assert_fails(axon_simulator_server_open(&server, &so, &err), AXON_EIO, &err, "203.0.113.1");
    assert_null(simulator);
    assert_null(server);
    axon_simulator_close(NULL);
    axon_simulator_cancel(NULL);
    axon_simulator_server_close(NULL);
    axon_simulator_server_stop(NULL);
    axon_simulator_session_close(NULL);
    assert_fails(axon_simulator_step(NULL, NULL, NULL, &err), AXON_EINVAL, &err, "NULL");
}

static void what_does_not_travel_is_not_sent(void **state)
{
    (void)state;
    double at = 0;
    served *self = begin(NULL, false);
    axon_simulator_options o = {.size = sizeof o, .max_request_bytes = 1000};
    axon_simulator *simulator = play(self, &o);
    axon_simulator_outcome outcome;
    static const uint8_t much[2000];
    axon_array wrong = {.dtype = AXON_FLOAT64, .ndim = -1};
    axon_value *action = axon_value_map(), *text = axon_value_string("left", AXON_ZSTRING);
    axon_value_set(action, "by", axon_value_array(&wrong));
    assert_fails(axon_simulator_step(simulator, action, &outcome, &err), AXON_EINVAL, &err, "by");
    axon_value_set(action, "by", axon_value_bytes(much, sizeof much));
    assert_fails(axon_simulator_step(simulator, action, &outcome, &err), AXON_ETOOBIG, &err,
                 "limit 1000 (max_request_bytes)");
    assert_fails(axon_simulator_step(simulator, text, &outcome, &err), AXON_EINVAL, &err, "no map");
    assert_ok(step(simulator, 1, 0, &at), &err);
    axon_value_free(action);
    axon_value_free(text);
    axon_simulator_close(simulator);
    finish(self);
}

static void a_forks_child_may_only_close(void **state)
{
    (void)state;
    double at = 0;
    served *self = begin(NULL, false);
    axon_simulator *simulator = play(self, NULL);
    pid_t child = fork();
    if (child == 0) {
        axon_error mine;
        axon_value *value;
        axon_status status = axon_simulator_reset(simulator, &value, &mine);
        axon_simulator_close(simulator);
        _exit(status == AXON_EINVAL && strstr(mine.message, "parent") ? 0 : 1);
    }
    int ended;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_int_equal(ended, 0);
    assert_ok(step(simulator, 1, 0, &at), &err);
    axon_simulator_close(simulator);
    finish(self);
}

/* The child has the connection's socket, too, and lives on. */
static void a_forks_child_keeps_no_session_open(void **state)
{
    (void)state;
    double at = 0;
    int alive[2];
    served *self = begin(NULL, false);
    axon_simulator_options o = {.size = sizeof o, .grace_ms = 1};
    axon_simulator *simulator = play(self, NULL), *impatient = play(self, &o);
    assert_int_equal(pipe(alive), 0);
    pid_t child = fork();
    if (child == 0) {
        close(alive[1]);
        _exit(read(alive[0], &at, 1) == 0 ? 0 : 1); /* until the parent has closed its end */
    }
    close(alive[0]);
    assert_ok(axon_simulator_set_timeout(impatient, 20, &err), &err);
    assert_int_equal(step(impatient, 1, 200, &at), AXON_ETIMEOUT);
    assert_ok(axon_simulator_set_timeout(impatient, 0, &err), &err);
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    assert_fails(step(impatient, 1, 0, &at), AXON_ESERVER, &err, "not_reset"); /* in another session */
    for (int i = 0; i < 1000 && atomic_load(&self->ended) < 1; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_int_equal(atomic_load(&self->ended), 1);
    assert_ok(step(simulator, 1, 0, &at), &err);
    close(alive[1]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    axon_simulator_close(impatient);
    axon_simulator_close(simulator);
    finish(self);
}

/* ---- the server -------------------------------------------------------------------------------------- */

static atomic_bool has_stepped;

static void *step_slowly(void *simulator)
{
    axon_simulator_outcome outcome;
    axon_value *action = axon_value_map();
    axon_value_set(action, "by", axon_value_float(1));
    axon_value_set(action, "sleep", axon_value_int(1500));
    if (axon_simulator_step(simulator, action, &outcome, NULL) == AXON_OK) axon_value_free(outcome.reply);
    axon_value_free(action);
    atomic_store(&has_stepped, true);
    return NULL;
}

static void a_slow_session_stalls_no_other(void **state)
{
    (void)state;
    double at = 0;
    pthread_t thread;
    served *self = begin(NULL, false);
    axon_simulator *slow = play(self, NULL), *quick = play(self, NULL);
    pthread_create(&thread, NULL, step_slowly, slow);
    for (int i = 1; i <= 10; i++)
        assert_ok(step(quick, 0.1, 0, &at), &err);
    assert_false(atomic_load(&has_stepped));
    pthread_join(thread, NULL);
    assert_true(atomic_load(&has_stepped));
    axon_simulator_close(slow);
    axon_simulator_close(quick);
    finish(self);
}

static void sessions_end_with_a_goodbye_and_when_they_are_idle(void **state)
{
    (void)state;
    axon_simulator_server_options o = {.size = sizeof o, .idle_timeout_ms = 100};
    served *self = begin(&o, true);
    axon_simulator *leaves = connect_to(self, NULL), *idles = connect_to(self, NULL);
    axon_value *tasks;
    assert_ok(axon_simulator_list_tasks(leaves, NULL, &tasks, &err), &err);
    axon_value_free(tasks);
    axon_simulator_close(leaves);
    assert_ok(axon_simulator_list_tasks(idles, "any", &tasks, &err), &err);
    axon_value_free(tasks);
    for (int i = 0; i < 500 && atomic_load(&self->ended) < 2; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    axon_simulator_server_stats stats;
    assert_ok(axon_simulator_server_get_stats(self->server, &stats, &err), &err);
    assert_int_equal(stats.sessions, 0);
    assert_int_equal(stats.accepted, 2);
    assert_int_equal(stats.reaped, 1);
    assert_ok(axon_simulator_list_tasks(idles, NULL, &tasks, &err), &err); /* another session */
    axon_value_free(tasks);
    axon_simulator_close(idles);
    finish(self);
}

static void waiting_for_sessions_and_requests_ends(void **state)
{
    (void)state;
    axon_simulator_server *server;
    axon_simulator_server_options o = {.size = sizeof o, .port = AXON_ANY_PORT, .stop_timeout_ms = 50};
    assert_ok(axon_simulator_server_open(&server, &o, &err), &err);
    assert_true(axon_simulator_server_port(server) > 0);
    axon_simulator_session *session;
    axon_simulator_request *request;
    assert_fails(axon_simulator_server_accept(server, 20, &session, &err), AXON_ETIMEOUT, &err,
                 "no session began");
    axon_simulator *simulator;
    axon_value *tasks;
    axon_simulator_options co = {.size = sizeof co, .call_timeout_ms = 20, .close_timeout_ms = 20};
    assert_ok(axon_simulator_open(&simulator, axon_simulator_server_address(server), &co, &err), &err);
    assert_fails(axon_simulator_list_tasks(simulator, NULL, &tasks, &err), AXON_ETIMEOUT, &err, "no reply");
    assert_ok(axon_simulator_server_accept(server, 5000, &session, &err), &err);
    assert_string_equal(axon_simulator_session_name(session), "session 1");
    assert_ok(axon_simulator_session_next(session, 5000, &request, &err), &err);
    assert_string_equal(axon_simulator_request_method(request), "list_tasks");
    axon_simulator_request *another;
    assert_fails(axon_simulator_session_next(session, 0, &another, &err), AXON_EINVAL, &err, "under way");
    axon_value *text = axon_value_string("no map", AXON_ZSTRING);
    assert_fails(axon_simulator_request_reply(request, text, &err), AXON_EINVAL, &err, "no map");
    axon_value_free(text);
    assert_fails(axon_simulator_session_next(session, 20, &request, &err), AXON_ETIMEOUT, &err,
                 "no request came");
    axon_simulator_server_stop(server);
    assert_fails(axon_simulator_session_next(session, 5000, &request, &err), AXON_ECANCELED, &err,
                 "stopped");
    assert_fails(axon_simulator_server_accept(server, 5000, &session, &err), AXON_ECANCELED, &err,
                 "stopped");
    axon_simulator_server_close(server); /* the session outlives it */
    axon_simulator_session_close(session);
    axon_simulator_close(simulator);
}

/* ---- coming and going -------------------------------------------------------------------------------- */

/* A client that was written for this: a name of its own, requests that nobody waits for, and no goodbye. */
static int greet_as(int32_t port, char name)
{
    uint8_t greeting[64] = {0xff, [8] = 1, 0x7f, 3, 1, 'N', 'U', 'L', 'L'};
    uint8_t ready[] = "\4\52\5READY\13Socket-Type\0\0\0\6DEALER\10Identity\0\0\0\1x";
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ready[sizeof ready - 2] = (uint8_t)name;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) return fd; /* the server has stopped */
    send(fd, greeting, sizeof greeting, MSG_NOSIGNAL);
    send(fd, ready, sizeof ready - 1, MSG_NOSIGNAL);
    return fd;
}

typedef struct {
    const char *address; /* as it was, for the server may be gone */
    int32_t port;
    unsigned number;
    atomic_bool *is_over;
} restless;

static void *come_and_go(void *argument)
{
    static const char list[] = "\1\0\0\30\201\246method\257list_simulators";
    const restless *me = argument;
    for (unsigned i = me->number; !atomic_load(me->is_over); i++) {
        char reply[4096];
        int fd = greet_as(me->port, (char)('a' + i % 3)); /* a name that another one may have */
        for (unsigned round = 0; round < i % 5; round++) {
            send(fd, list, sizeof list - 1, MSG_NOSIGNAL);
            if (round % 2) (void)!recv(fd, reply, sizeof reply, i % 3 ? 0 : MSG_DONTWAIT);
        }
        if (i % 7 == 0) send(fd, "\2\0\0\0\0\0\1\0\0half", 13, MSG_NOSIGNAL);
        const struct linger at_once = {.l_onoff = 1};
        if (i % 2) setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(fd);
    }
    return NULL;
}

static void *step_on(void *argument)
{
    const restless *me = argument;
    while (!atomic_load(me->is_over)) {
        axon_simulator *simulator;
        axon_simulator_options o = {
            .size = sizeof o, .connect_once = 1, .call_timeout_ms = 5000, .close_timeout_ms = 100};
        axon_value *tasks;
        if (axon_simulator_open(&simulator, me->address, &o, NULL) != AXON_OK) continue;
        for (int i = 0; i < 10 && axon_simulator_select(simulator, "counter", NULL) == AXON_OK; i++)
            if (axon_simulator_list_tasks(simulator, NULL, &tasks, NULL) == AXON_OK) axon_value_free(tasks);
        axon_simulator_close(simulator);
    }
    return NULL;
}

static void *serve_one_after_another(void *argument)
{
    const served *self = argument;
    axon_simulator_session *session;
    while (axon_simulator_server_accept(self->server, AXON_FOREVER, &session, NULL) == AXON_OK) {
        state_of now = {.at = 0};
        axon_simulator_request *request;
        while (!now.is_over && axon_simulator_session_next(session, 50, &request, NULL) == AXON_OK)
            answer(self, request, &now);
        axon_simulator_session_close(session);
    }
    return NULL;
}

/* Names are taken over, connections reset amid messages, sessions reaped, and then the server stops. */
static void clients_may_come_and_go_as_they_like(void **state)
{
    (void)state;
    enum { HOSTS = 4, RESTLESS = 3 };
    pthread_t hosts[HOSTS], clients[RESTLESS];
    axon_simulator_server_options o = {
        .size = sizeof o, .port = AXON_ANY_PORT, .max_sessions = 6, .idle_timeout_ms = 30};
    atomic_bool is_over = false;
    served self = {.server = NULL};
    assert_ok(axon_simulator_server_open(&self.server, &o, &err), &err);
    for (size_t i = 0; i < HOSTS; i++)
        pthread_create(&hosts[i], NULL, serve_one_after_another, &self);
    restless all[RESTLESS];
    char *address = strdup(axon_simulator_server_address(self.server));
    for (unsigned i = 0; i < RESTLESS; i++) {
        all[i] = (restless){address, axon_simulator_server_port(self.server), i, &is_over};
        pthread_create(&clients[i], NULL, i == 0 ? step_on : come_and_go, &all[i]);
    }
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, NULL);
    axon_simulator_server_stats stats;
    assert_ok(axon_simulator_server_get_stats(self.server, &stats, &err), &err);
    axon_simulator_server_stop(self.server);
    for (size_t i = 0; i < HOSTS; i++)
        pthread_join(hosts[i], NULL);
    axon_simulator_server_close(self.server);
    atomic_store(&is_over, true);
    for (size_t i = 0; i < RESTLESS; i++)
        pthread_join(clients[i], NULL);
    free(address);
    assert_true(stats.accepted > 10);
    assert_true(stats.requests > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_episode_runs_and_its_arrays_are_arrays),
        cmocka_unit_test(a_server_of_the_document_has_the_one_simulator_that_it_names),
        cmocka_unit_test(the_servers_errors_have_a_type_and_a_text),
        cmocka_unit_test(lists_that_hold_more_than_names_are_refused),
        cmocka_unit_test(a_late_reply_is_thrown_away),
        cmocka_unit_test(a_session_is_given_up_after_its_grace_and_chooses_again),
        cmocka_unit_test(a_call_is_cancelled_and_the_next_one_is_not),
        cmocka_unit_test(the_interrupt_function_ends_a_wait),
        cmocka_unit_test(nobody_is_an_error_that_names_the_address),
        cmocka_unit_test(somebody_silent_is_a_timeout),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(what_does_not_travel_is_not_sent),
        cmocka_unit_test(a_forks_child_may_only_close),
        cmocka_unit_test(a_forks_child_keeps_no_session_open),
        cmocka_unit_test(a_slow_session_stalls_no_other),
        cmocka_unit_test(sessions_end_with_a_goodbye_and_when_they_are_idle),
        cmocka_unit_test(waiting_for_sessions_and_requests_ends),
        cmocka_unit_test(clients_may_come_and_go_as_they_like),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
