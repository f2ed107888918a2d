/* The services of the HTTP benchmark: reads whole requests, throws them away, answers at once from memory.
 *
 *     http_sink FOLDER
 *
 * Each file of FOLDER is what GET and POST of "/<its name>" answer with, an ETag beside it, and 304 when the request
 * names that ETag. It takes orders as sinks.h says: while checking, the body of every POST is kept, and GET /last
 * gives it back.
 */
#include "sinks.h"

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PAGES = 64, MAX_NAME = 128, HEAD_BYTES = 16384, MAX_BODY = 64 * 1024 * 1024 };

typedef struct page {
    char name[MAX_NAME];
    char etag[32];
    char *answer; /* head and body, to be sent in one piece */
    size_t length;
} page;

static page pages[MAX_PAGES];
static size_t page_count;

static struct {
    pthread_mutex_t lock;
    char *body;
    size_t length;
} last = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the pages --------------------------------------------------------------------------------- */

_Noreturn static void fail(const char *what, const char *name)
{
    fprintf(stderr, "http_sink: %s: %s\n", name, what);
    exit(1);
}

static char *read_whole(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) fail("cannot be read", path);
    long size = ftell(file);
    char *data = size < 0 ? NULL : malloc((size_t)size + 1);
    rewind(file);
    if (!data || fread(data, 1, (size_t)size, file) != (size_t)size) fail("cannot be read", path);
    fclose(file);
    *length = (size_t)size;
    return data;
}

/* FNV-1a, which tells the contents of a few files apart. */
static uint64_t hash(const char *data, size_t length)
{
    uint64_t sum = 0xcbf29ce484222325U;
    for (size_t i = 0; i < length; i++)
        sum = (sum ^ (uint8_t)data[i]) * 0x100000001b3U;
    return sum;
}

static void add_page(const char *folder, const char *name)
{
    char path[4096];
    page *made = &pages[page_count++];
    if (page_count > MAX_PAGES || strlen(name) >= sizeof made->name) fail("one page too many", name);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    size_t length;
    char *body = read_whole(path, &length);
    strcpy(made->name, name);
    snprintf(made->etag, sizeof made->etag, "\"%016" PRIx64 "\"", hash(body, length));
    made->answer = malloc(length + 256);
    if (!made->answer) fail("out of memory", name);
    int head = snprintf(made->answer, 256,
                        "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nETag: %s\r\nContent-Length: %zu\r\n\r\n",
                        strstr(name, ".py") ? "text/plain" : "application/json", made->etag, length);
    memcpy(made->answer + head, body, length);
    made->length = (size_t)head + length;
    free(body);
}

static void add_pages(const char *folder)
{
    DIR *listing = opendir(folder);
    if (!listing) fail("no folder", folder);
    for (struct dirent *entry; (entry = readdir(listing));)
        if (entry->d_name[0] != '.') add_page(folder, entry->d_name);
    closedir(listing);
}

/* ---- one request ------------------------------------------------------------------------------- */

/* The value of a header, without the blanks around it; NULL when the request has none such. */
static char *header(char *head, const char *name, char *value, size_t room)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\r\n%s:", name);
    const char *line = strcasestr(head, wanted);
    if (!line) return NULL;
    line += strlen(wanted);
    line += strspn(line, " ");
    snprintf(value, room, "%.*s", (int)strcspn(line, "\r"), line);
    return value;
}

/* Reads the body and forgets it, or keeps it while checking. */
static bool pass_body(sink_peer *peer, size_t length)
{
    if (length > MAX_BODY) return false;
    if (length > 0 && atomic_load(&sinks_checking)) {
        char *body = malloc(length);
        if (!body || !sink_take(peer, body, length)) {
            free(body);
            return false;
        }
        pthread_mutex_lock(&last.lock);
        free(last.body);
        last.body = body;
        last.length = length;
        pthread_mutex_unlock(&last.lock);
        return true;
    }
    while (length > 0) {
        if (peer->begin == peer->end && !sink_fill(peer)) return false;
        size_t part = peer->end - peer->begin < length ? peer->end - peer->begin : length;
        peer->begin += part;
        length -= part;
    }
    return true;
}

static bool send_last(const sink_peer *peer)
{
    char head[128];
    pthread_mutex_lock(&last.lock);
    int length = snprintf(
        head, sizeof head,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", last.length);
    bool sent = sink_send(peer, head, (size_t)length) && sink_send(peer, last.body, last.length);
    pthread_mutex_unlock(&last.lock);
    return sent;
}

static bool answer(const sink_peer *peer, char *head, const char *name)
{
    static const char missing[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    char known[64], unchanged[128];
    if (strcmp(name, "last") == 0) return send_last(peer);
    for (size_t i = 0; i < page_count; i++) {
        if (strcmp(pages[i].name, name) != 0) continue;
        if (!header(head, "If-None-Match", known, sizeof known) || strcmp(known, pages[i].etag) != 0)
            return sink_send(peer, pages[i].answer, pages[i].length);
        int length = snprintf(unchanged, sizeof unchanged, "HTTP/1.1 304 Not Modified\r\nETag: %s\r\n\r\n",
                              pages[i].etag);
        return sink_send(peer, unchanged, (size_t)length);
    }
    return sink_send(peer, missing, sizeof missing - 1);
}

/* False when the connection has ended. */
static bool serve_request(sink_peer *peer)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char head[HEAD_BYTES], name[MAX_NAME], value[64];
    if (!sink_take_head(peer, head, sizeof head)) return false;
    if (sscanf(head, "%*7s /%127[^ ?]", name) != 1) return false;
    if (header(head, "Expect", value, sizeof value) && !sink_send(peer, go_on, sizeof go_on - 1))
        return false;
    size_t length = header(head, "Content-Length", value, sizeof value) ? strtoul(value, NULL, 10) : 0;
    if (!pass_body(peer, length) || !answer(peer, head, name)) return false;
    return !header(head, "Connection", value, sizeof value) || strcasecmp(value, "close") != 0;
}

static void serve(sink_peer *peer)
{
    while (serve_request(peer))
        continue;
}

int main(int count, char **arguments)
{
    if (count != 2) fail("which folder?", "usage");
    add_pages(arguments[1]);
    return sinks_run(serve);
}
