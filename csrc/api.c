/* See axon/api.h. Also home to time, log, buffers and addresses, which every room uses. */
#include "internal.h"
#include "utf8.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define TEXT_OF(x) #x
#define VERSION_TEXT(a, b, c) TEXT_OF(a) "." TEXT_OF(b) "." TEXT_OF(c)

const char *axon_version(void)
{
    return VERSION_TEXT(AXON_VERSION_MAJOR, AXON_VERSION_MINOR, AXON_VERSION_PATCH);
}

void axon_free(void *memory)
{
    free(memory);
}

/* ---- log ----------------------------------------------------------------------------------- */

static pthread_mutex_t settings_lock = PTHREAD_MUTEX_INITIALIZER;
static axon_log_fn log_fn;
static void *log_user;
static atomic_int log_level = -1; /* -1: AXON_LOG has not been looked at */

static int level_from_environment(void)
{
    static const char *const words[] = {"off", "warn", "info", "debug"};
    const char *word = getenv("AXON_LOG");
    for (int i = 0; word && i < 4; i++)
        if (strcasecmp(word, words[i]) == 0) return i;
    return AXON_LOG_OFF;
}

bool axi_log_wants(axon_log_level level)
{
    int set = atomic_load_explicit(&log_level, memory_order_relaxed);
    if (set < 0) atomic_store(&log_level, set = level_from_environment());
    return (int)level <= set;
}

void axi_log(axon_log_level level, const char *format, ...)
{
    if (!axi_log_wants(level)) return;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0) return;
    if (length >= (int)sizeof text) text[axi_utf8_cut(text, sizeof text - 1)] = 0;
    axi_make_printable(text);
    pthread_mutex_lock(&settings_lock);
    axon_log_fn fn = log_fn;
    void *user = log_user;
    pthread_mutex_unlock(&settings_lock);
    if (fn)
        fn(level, text, user);
    else
        fprintf(stderr, "axon: %s\n", text);
}

void axon_set_log(axon_log_fn fn, void *user, axon_log_level level)
{
    pthread_mutex_lock(&settings_lock);
    log_fn = fn;
    log_user = user;
    atomic_store(&log_level, fn ? (int)level : level_from_environment());
    pthread_mutex_unlock(&settings_lock);
}

/* ---- interrupts ---------------------------------------------------------------------------- */

static axon_interrupt_fn interrupt_fn;
static void *interrupt_user;

void axon_set_interrupt(axon_interrupt_fn fn, void *user)
{
    pthread_mutex_lock(&settings_lock);
    interrupt_fn = fn;
    interrupt_user = user;
    pthread_mutex_unlock(&settings_lock);
}

static _Thread_local bool asks_nobody;

void axi_interrupt_nobody(void)
{
    asks_nobody = true;
}

bool axi_interrupted(void)
{
    if (asks_nobody) return false;
    pthread_mutex_lock(&settings_lock);
    axon_interrupt_fn fn = interrupt_fn;
    void *user = interrupt_user;
    pthread_mutex_unlock(&settings_lock);
    return fn && fn(user) != 0;
}

/* ---- time ---------------------------------------------------------------------------------- */

axi_time axi_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (axi_time)now.tv_sec * 1000000000 + now.tv_nsec;
}

axi_time axi_deadline(uint32_t timeout_ms)
{
    return timeout_ms == AXON_FOREVER ? AXI_NEVER : axi_now() + (axi_time)timeout_ms * 1000000;
}

int axi_left_ms(axi_time deadline, int cap_ms)
{
    if (deadline == AXI_NEVER) return cap_ms;
    axi_time left = deadline - axi_now();
    if (left <= 0) return 0;
    left = (left + 999999) / 1000000;
    return left > cap_ms ? cap_ms : (int)left;
}

/* ---- memory -------------------------------------------------------------------------------- */

bool axi_buffer_reserve(axi_buffer *buffer, size_t more)
{
    if (more <= buffer->capacity - buffer->length) return true;
    if (more > SIZE_MAX / 2 - buffer->length) return false;
    size_t capacity = buffer->capacity + buffer->capacity / 2;
    if (capacity < buffer->length + more) capacity = buffer->length + more;
    if (capacity < 256) capacity = 256;
    uint8_t *data = realloc(buffer->data, capacity);
    if (!data) return false;
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

bool axi_buffer_add(axi_buffer *buffer, const void *data, size_t length)
{
    if (!axi_buffer_reserve(buffer, length)) return false;
    if (length) memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
    return true;
}

void axi_buffer_free(axi_buffer *buffer)
{
    free(buffer->data);
    *buffer = (axi_buffer){0};
}

/* ---- addresses ----------------------------------------------------------------------------- */

static bool near_v4(uint32_t a) /* host order; RFC 1122, 1918, 3927, 6598 */
{
    return a >> 24 == 127 || a >> 24 == 10 || a >> 24 == 0 || a >> 20 == 0xac1 || a >> 16 == 0xc0a8 ||
           a >> 16 == 0xa9fe || a >> 22 == (0x64400000u >> 22);
}

static bool near_v6(const unsigned char a[16]) /* RFC 4193, 4291 */
{
    static const unsigned char zeros[16];
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(a, zeros, 15) == 0 && a[15] <= 1) return true;
    if (memcmp(a, mapped, 12) == 0)
        return near_v4((uint32_t)a[12] << 24 | (uint32_t)a[13] << 16 | (uint32_t)a[14] << 8 | a[15]);
    return (a[0] & 0xfe) == 0xfc || (a[0] == 0xfe && (a[1] & 0xc0) == 0x80);
}

static bool ends_with(const char *text, const char *ending)
{
    size_t length = strlen(text), tail = strlen(ending);
    return length >= tail && strcasecmp(text + length - tail, ending) == 0;
}

bool axi_host_is_near(const char *host, size_t length)
{
    char name[256];
    if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
        host++;
        length -= 2;
    }
    if (length == 0 || length >= sizeof name) return false;
    memcpy(name, host, length);
    name[length] = 0;
    char *zone = strchr(name, '%'); /* fe80::1%eth0 */
    if (zone) *zone = 0;
    if (!zone && length > 1 && name[length - 1] == '.') name[length - 1] = 0; /* a full name's ending dot */

    struct in_addr v4;
    struct in6_addr v6;
    if (inet_aton(name, &v4)) return near_v4(ntohl(v4.s_addr)); /* 127.1 too, as resolvers do */
    if (inet_pton(AF_INET6, name, &v6) == 1) return near_v6(v6.s6_addr);
    return !strchr(name, '.') || ends_with(name, ".local") || ends_with(name, ".localhost");
}
