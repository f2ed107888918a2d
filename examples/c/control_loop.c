/* An arm that is controlled at 200 Hz by a policy that takes 80 ms and plans at 10 Hz.
 *
 *     control_loop [--mode blocking|prefetch|aligned|ensemble|rtc] [--seconds 5] [URL]
 *
 * Without a URL it hosts a policy server on this machine: observations {"time": seconds} in, chunks of 16 joint
 * targets, 0.1 s apart, out. One thread looks at the arm 30 times a second and submits what it sees; the main
 * thread takes an action every 5 ms, moves the arm and compares it with the path that it was to follow.
 *
 *     cc control_loop.c $(pkg-config --cflags --libs axon) -lm -pthread -o control_loop */
#include <axon/chunk.h>
#include <axon/policy.h>
#include <axon/server.h>

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONTROL_HZ 200
#define CAMERA_HZ 30
#define ACTION_HZ 10
#define INFERENCE_MS 80
#define PI 3.14159265358979323846

enum { JOINTS = 2, STEPS = 16, SECOND = 1000000000 };

static axon_error err;

static void stop_if(axon_status status)
{
    if (status == AXON_OK) return;
    fprintf(stderr, "control_loop: %s: %s\n", axon_status_name(status), err.message);
    exit(1);
}

/* ---- time ---------------------------------------------------------------------------------- */

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

static void sleep_until(int64_t time)
{
    struct timespec end = {.tv_sec = time / SECOND, .tv_nsec = time % SECOND};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
        continue;
}

/* ---- the path, and the policy that knows it ------------------------------------------------ */

/* A shoulder that turns and turns, an elbow that swings. */
static void path_at(double seconds, double joints[JOINTS])
{
    joints[0] = remainder(0.8 * seconds, 2 * PI);
    joints[1] = 0.5 * sin(1.5 * seconds);
}

static axon_status plan(void *user, axon_request_kind kind, const axon_value *observation,
                        axon_value **actions, axon_error *error)
{
    double(*targets)[JOINTS] = user, seconds;
    if (kind == AXON_REQUEST_RESET) return AXON_OK;
    if (axon_value_as_float(axon_value_get(observation, "time"), &seconds) != AXON_OK) {
        snprintf(error->message, sizeof error->message, "the observation has no time");
        return AXON_EINVAL;
    }
    sleep_until(now_ns() + (int64_t)INFERENCE_MS * (SECOND / 1000));
    for (int i = 0; i < STEPS; i++)
        path_at(seconds + (double)i / ACTION_HZ, targets[i]);
    axon_array chunk = {.dtype = AXON_FLOAT64, .ndim = 2, .shape = {STEPS, JOINTS}, .data = targets};
    *actions = axon_value_map();
    return axon_value_set(*actions, "actions", axon_value_array(&chunk));
}

static void *serve(void *server)
{
    static double targets[STEPS][JOINTS];
    axon_server_serve(server, plan, targets, NULL);
    return NULL;
}

/* ---- the camera ---------------------------------------------------------------------------- */

typedef struct {
    axon_chunk_engine *engine;
    int64_t begin;
    atomic_bool is_over;
} camera;

/* Most observations are not asked for, and cost nothing. */
static void *look(void *user)
{
    camera *self = user;
    for (int64_t frame = 0; !atomic_load(&self->is_over); frame++) {
        axon_error error;
        int64_t taken = now_ns();
        axon_value *observation = axon_value_map();
        axon_value_set(observation, "time", axon_value_float((double)(taken - self->begin) / SECOND));
        if (axon_chunk_submit(self->engine, observation, taken, NULL, &error) != AXON_OK)
            fprintf(stderr, "control_loop: %s\n", error.message);
        axon_value_free(observation);
        sleep_until(self->begin + (frame + 1) * SECOND / CAMERA_HZ);
    }
    return NULL;
}

/* ---- the arm ------------------------------------------------------------------------------- */

typedef struct {
    double position[JOINTS], velocity[JOINTS];
} arm;

/* Each joint follows its target as a critically damped spring does. */
static void move(arm *self, const double target[JOINTS], double seconds)
{
    const double stiffness = 40;
    for (int i = 0; i < JOINTS; i++) {
        double away = remainder(target[i] - self->position[i], 2 * PI);
        double pull = stiffness * stiffness * away - 2 * stiffness * self->velocity[i];
        self->velocity[i] += pull * seconds;
        self->position[i] = remainder(self->position[i] + self->velocity[i] * seconds, 2 * PI);
    }
}

static double distance(const arm *self, const double wanted[JOINTS])
{
    double sum = 0;
    for (int i = 0; i < JOINTS; i++) {
        double away = remainder(self->position[i] - wanted[i], 2 * PI);
        sum += away * away;
    }
    return sqrt(sum);
}

/* ---- the loop ------------------------------------------------------------------------------ */

static void control(axon_chunk_engine *engine, int64_t begin, double seconds)
{
    arm robot = {0};
    double target[JOINTS], wanted[JOINTS], sum = 0, worst = 0, error = 0;
    int64_t ticks = (int64_t)(seconds * CONTROL_HZ);
    for (int64_t tick = 0; tick < ticks; tick++) {
        axon_chunk_info info;
        stop_if(axon_chunk_next(engine, AXON_CHUNK_NOW, target, JOINTS, &info, &err));
        move(&robot, target, 1.0 / CONTROL_HZ);
        path_at((double)(now_ns() - begin) / SECOND, wanted);
        error = distance(&robot, wanted);
        sum += error * error;
        worst = error > worst && tick > CONTROL_HZ / 2 ? error : worst;
        if (tick % CONTROL_HZ == 0)
            printf("%3lld s: chunk %llu, step %.2f, %.1f mrad from the path\n",
                   (long long)tick / CONTROL_HZ, (unsigned long long)info.chunk, info.step, 1000 * error);
        sleep_until(begin + (tick + 1) * SECOND / CONTROL_HZ);
    }
    printf("tracking error: %.1f mrad rms, %.1f mrad at worst after the first half second\n",
           1000 * sqrt(sum / (double)ticks), 1000 * worst);
}

static void print_stats(axon_chunk_engine *engine)
{
    axon_chunk_stats stats;
    stop_if(axon_chunk_get_stats(engine, &stats, &err));
    printf("%llu actions, %llu starved; %llu chunks, %llu late, %llu stale; %llu steps skipped\n",
           (unsigned long long)stats.steps, (unsigned long long)stats.starved,
           (unsigned long long)stats.chunks, (unsigned long long)stats.late,
           (unsigned long long)stats.stale, (unsigned long long)stats.skipped);
    printf("inference: p50 %.0f ms, p90 %.0f ms, in which the arm made %d steps\n", stats.latency_p50_ms,
           stats.latency_ms, stats.delay_steps);
}

static axon_chunk_mode mode_of(const char *name)
{
    static const char *const names[] = {"blocking", "prefetch", "aligned", "ensemble", "rtc"};
    for (int i = 0; i < 5; i++)
        if (strcmp(name, names[i]) == 0) return (axon_chunk_mode)i;
    fprintf(stderr, "control_loop: --mode %s: not blocking, prefetch, aligned, ensemble or rtc\n", name);
    exit(2);
}

static void run(axon_policy *policy, axon_chunk_mode mode, double seconds)
{
    const int32_t dimensions[JOINTS] = {AXON_DIM_ANGLE, AXON_DIM_LINEAR};
    axon_chunk_options o = {.size = sizeof o, .mode = mode, .action_hz = ACTION_HZ};
    o.dimensions = dimensions;
    o.dimension_count = JOINTS;
    if (mode == AXON_CHUNK_BLOCKING) o.control_hz = CONTROL_HZ;
    camera eyes = {.begin = now_ns()};
    pthread_t thread;
    stop_if(axon_chunk_open(&eyes.engine, policy, &o, &err));
    if (pthread_create(&thread, NULL, look, &eyes) != 0) exit(1);
    control(eyes.engine, eyes.begin, seconds);
    atomic_store(&eyes.is_over, true);
    pthread_join(thread, NULL);
    print_stats(eyes.engine);
    axon_chunk_close(eyes.engine);
}

static double seconds_of(const char *text)
{
    char *end;
    double seconds = strtod(text, &end);
    if (*end == 0 && seconds > 0 && seconds <= 1e6) return seconds;
    fprintf(stderr, "control_loop: --seconds %s: not a number above 0\n", text);
    exit(2);
}

int main(int argc, char **argv)
{
    const char *url = NULL;
    axon_chunk_mode mode = AXON_CHUNK_ALIGNED;
    double seconds = 5;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--mode") == 0 && i + 1 < argc) {
            mode = mode_of(argv[++i]);
        } else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
            seconds = seconds_of(argv[++i]);
        } else if (argv[i][0] == '-') {
            fprintf(stderr, "usage: control_loop [--mode MODE] [--seconds 5] [URL]\n");
            return 2;
        } else {
            url = argv[i];
        }
    }
    axon_server *server = NULL;
    pthread_t host;
    if (!url) {
        axon_server_options o = {.size = sizeof o, .port = AXON_ANY_PORT};
        stop_if(axon_server_open(&server, NULL, &o, &err));
        if (pthread_create(&host, NULL, serve, server) != 0) exit(1);
        url = axon_server_url(server);
    }
    axon_policy *policy;
    stop_if(axon_policy_open(&policy, url, NULL, &err));
    run(policy, mode, seconds);
    axon_policy_close(policy);
    if (server) {
        axon_server_stop(server);
        pthread_join(host, NULL);
    }
    axon_server_close(server);
    return 0;
}
