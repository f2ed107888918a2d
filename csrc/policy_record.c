/* See policy_record.h. */
#include "policy_record.h"

#include "pack.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct axi_recording {
    int fd;       /* -1 when it ended early */
    off_t length; /* of its whole entries */
    axi_time started;
    char *path;
};

/* ---- bytes --------------------------------------------------------------------------------- */

static bool write_whole(int fd, const void *bytes, size_t length)
{
    for (const uint8_t *at = bytes; length > 0;) {
        ssize_t written = write(fd, at, length);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        at += written;
        length -= (size_t)written;
    }
    return true;
}

/* The reason is in errno. */
static void give_up(axi_recording *recording)
{
    axi_log(AXON_LOG_WARN, "%s: the recording ends here: %s (record_file)", recording->path,
            strerror(errno));
    if (ftruncate(recording->fd, recording->length) != 0)
        axi_log(AXON_LOG_WARN, "%s: its last entry is not whole: %s", recording->path, strerror(errno));
    close(recording->fd);
    recording->fd = -1;
}

/* ---- entries ------------------------------------------------------------------------------- */

/* msgpack: [kind, seconds, and the header of a string or of bytes, whose content follows. */
static size_t put_header(uint8_t header[64], const char *kind, double seconds, bool is_text,
                         uint64_t length)
{
    size_t at = 0, name = strlen(kind);
    header[at++] = 0x93;
    header[at++] = (uint8_t)(0xa0 | name);
    memcpy(header + at, kind, name);
    at += name;
    header[at++] = 0xcb;
    uint64_t bits;
    memcpy(&bits, &seconds, sizeof bits);
    for (int shift = 56; shift >= 0; shift -= 8)
        header[at++] = (uint8_t)(bits >> shift);
    header[at++] = is_text ? 0xdb : 0xc6;
    for (int shift = 24; shift >= 0; shift -= 8)
        header[at++] = (uint8_t)(length >> shift);
    return at;
}

void axi_recording_add(axi_recording *recording, const char *kind, bool is_text, const struct iovec *parts,
                       size_t count)
{
    if (!recording || recording->fd < 0) return;
    uint64_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += parts[i].iov_len;
    if (length > UINT32_MAX) {
        axi_log(AXON_LOG_WARN, "%s: a message of %" PRIu64 " bytes is left out, limit %" PRIu32,
                recording->path, length, UINT32_MAX);
        return;
    }
    uint8_t header[64];
    double seconds = (double)(axi_now() - recording->started) / 1e9;
    size_t size = put_header(header, kind, seconds, is_text, length);
    bool is_written = write_whole(recording->fd, header, size);
    for (size_t i = 0; i < count && is_written; i++)
        is_written = write_whole(recording->fd, parts[i].iov_base, parts[i].iov_len);
    if (is_written)
        recording->length += (off_t)(size + length);
    else
        give_up(recording);
}

/* ---- opening and closing ------------------------------------------------------------------- */

static axon_status write_head(axi_recording *recording, const char *url, axon_error *err)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    axon_value *head = axon_value_map();
    axon_value_set(head, "format", axon_value_string("axon-recording", AXON_ZSTRING));
    axon_value_set(head, "version", axon_value_int(1));
    axon_value_set(head, "url", axon_value_string(url, AXON_ZSTRING));
    axon_status status =
        axon_value_set(head, "started", axon_value_float((double)now.tv_sec + (double)now.tv_nsec / 1e9));
    void *bytes;
    size_t length;
    if (status == AXON_OK)
        status = axon_value_to_msgpack(head, AXON_MARKER_OPENPI, &bytes, &length, err);
    else
        status = axi_no_memory(err, sizeof head);
    axon_value_free(head);
    if (status != AXON_OK) return status;
    if (write_whole(recording->fd, bytes, length))
        recording->length = (off_t)length;
    else
        status = axi_fail(err, AXON_EIO, "%s: %s (record_file)", recording->path, strerror(errno));
    axon_free(bytes);
    return status;
}

axon_status axi_recording_open(axi_recording **recording, const char *path, const char *url,
                               axon_error *err)
{
    axi_recording *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    made->started = axi_now();
    made->path = strdup(path);
    made->fd = made->path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    axon_status status = AXON_OK;
    if (!made->path)
        status = axi_no_memory(err, strlen(path));
    else if (made->fd < 0)
        status = axi_fail(err, AXON_EIO, "%s: %s (record_file)", path, strerror(errno));
    if (status == AXON_OK) status = write_head(made, url, err);
    if (status == AXON_OK)
        *recording = made;
    else
        axi_recording_close(made);
    return status;
}

void axi_recording_close(axi_recording *recording)
{
    if (!recording) return;
    if (recording->fd >= 0) close(recording->fd);
    free(recording->path);
    free(recording);
}
