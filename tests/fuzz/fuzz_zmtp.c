/* Any bytes as what a ZeroMQ peer says, in pieces of any size: the same messages, and the same end, however they arrive,
 * and no memory is charged that is not given back. The first two bytes say how large the pieces are, who listens, whether
 * the greeting is over already, and whether memory is short. */
#include "spare.h"
#include "zmtp.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LIMIT = 4096, EVENTS = 1024, SHORT = 100000 };

typedef struct story {
    uint64_t events[EVENTS];
    size_t count;
    axi_zmtp_stage stage;
    char why[200];
} story;

static uint64_t sum_of(const axi_zmtp_message *message)
{
    uint64_t sum = (uint64_t)message->found * 2 + message->is_bare;
    sum = sum * 31 + message->length;
    const uint8_t *data = message->data;
    for (size_t i = 0; data && i < message->length; i++)
        sum = sum * 31 + data[i];
    return sum;
}

static void listen_to(story *to, axi_zmtp *zmtp)
{
    axi_zmtp_message message;
    do {
        axi_zmtp_read(zmtp, AXI_ZMTP_WAITING);
        while (axi_zmtp_take(zmtp, &message) != AXI_ZMTP_NOTHING) {
            if (message.data && message.length > LIMIT) abort();
            if (to->count < EVENTS) to->events[to->count++] = sum_of(&message);
            axi_spare_give(message.data);
        }
    } while (axi_zmtp_has_unread(zmtp));
}

static void forget_answers(int fd)
{
    char room[4096];
    while (recv(fd, room, sizeof room, MSG_DONTWAIT) > 0)
        continue;
}

static void tell(story *to, const uint8_t *data, size_t size, size_t step, unsigned how)
{
    static const uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1, 'N', 'U', 'L', 'L'};
    static const uint8_t ready[] = "\4\34\5READY\13Socket-Type\0\0\0\6DEALER";
    int ends[2];
    axi_zmtp zmtp;
    axi_zmtp_budget budget = {.limit = how & 4 ? SHORT : UINT64_MAX};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) abort();
    if (!axi_zmtp_begin(&zmtp, ends[0], how & 1, LIMIT, &budget)) abort();
    if (how & 2 &&
        (send(ends[1], greeting, sizeof greeting, 0) < 0 || send(ends[1], ready, sizeof ready - 1, 0) < 0))
        abort();
    to->count = 0;
    for (size_t at = 0, piece; at < size; at += piece) {
        piece = size - at < step ? size - at : step;
        ssize_t sent = send(ends[1], data + at, piece, MSG_NOSIGNAL);
        if (sent < 0) break;
        piece = (size_t)sent;
        listen_to(to, &zmtp);
        forget_answers(ends[1]);
    }
    to->stage = zmtp.stage;
    memcpy(to->why, zmtp.why, sizeof to->why);
    axi_zmtp_end(&zmtp);
    if (atomic_load(&budget.used) != 0) abort();
    close(ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    static story whole, pieces;
    tell(&whole, data + 2, size - 2, size, data[1]);
    tell(&pieces, data + 2, size - 2, 1u + data[0], data[1]);
    if (whole.count != pieces.count || whole.stage != pieces.stage || strcmp(whole.why, pieces.why) != 0 ||
        memcmp(whole.events, pieces.events, whole.count * sizeof *whole.events) != 0)
        abort();
    return 0;
}
