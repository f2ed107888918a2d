/* What comes in: the greeting, the handshake, frames, and the messages that they make up. See zmtp.h. */
#include "zmtp_internal.h"

#include "spare.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum {
    ROUNDS = 16, /* of receiving, then others have their turn */
    SIGNATURE = 10,
    REVISION = 10, /* where it stands in the greeting */
    OLD_GREETING = 12,
    GREETING = 64,
    MECHANISM = 12, /* where it stands, in 20 bytes */
    MECHANISM_BYTES = 20,
    PING_CONTEXT = 16,
    /* of a body, charged to the budget when it begins: more than is received at a time */
    FIRST_BYTES = 65536,
    /* socket types, as ZMTP 2 numbers them */
    OLD_DEALER = 5,
    OLD_ROUTER = 6
};

/* ---- the greeting -------------------------------------------------------------------------- */

/* A peer of ZMTP 2 takes what follows the revision for something else: it is sent when the peer's is known. */
void axi_zmtp_greet(axi_zmtp *zmtp)
{
    static const uint8_t beginning[] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3};
    axi_zmtp_put(zmtp, beginning, sizeof beginning);
}

static void say_ready(axi_zmtp *zmtp)
{
    static const char beginning[] = "\5READY\13Socket-Type\0\0\0\6";
    size_t known = sizeof beginning - 1, length = known + 6;
    uint8_t frame[2 + sizeof beginning + 6] = {AXI_ZMTP_COMMAND, (uint8_t)length};
    memcpy(frame + 2, beginning, known);
    memcpy(frame + 2 + known, zmtp->is_server ? "ROUTER" : "DEALER", 6);
    axi_zmtp_put(zmtp, frame, 2 + length);
}

static void greet_further(axi_zmtp *zmtp)
{
    if (zmtp->is_old) {
        const uint8_t rest[] = {(uint8_t)(zmtp->is_server ? OLD_ROUTER : OLD_DEALER), 0, 0};
        axi_zmtp_put(zmtp, rest, sizeof rest);
        return;
    }
    uint8_t rest[GREETING - REVISION - 1] = {1, 'N', 'U', 'L', 'L'};
    axi_zmtp_put(zmtp, rest, sizeof rest);
    say_ready(zmtp);
}

/* How much of the greeting must be here before more can be said of it. */
static size_t greeting_needed(const axi_zmtp *zmtp)
{
    if (zmtp->greeting_length <= REVISION) return REVISION + 1;
    return zmtp->is_old ? OLD_GREETING : GREETING;
}

static bool fits(const axi_zmtp *zmtp, const char *type, size_t length)
{
    static const char *const servers[] = {"ROUTER", "REP", "DEALER", NULL};
    static const char *const clients[] = {"DEALER", "REQ", "ROUTER", NULL};
    for (const char *const *at = zmtp->is_server ? clients : servers; *at; at++)
        if (strlen(*at) == length && memcmp(*at, type, length) == 0) return true;
    return false;
}

static void refuse_type(axi_zmtp *zmtp, const char *type, size_t length)
{
    axi_zmtp_break(zmtp, true, "it is a ZeroMQ socket of type %.*s, which a %s does not speak with",
                   (int)(length < 32 ? length : 32), type, zmtp->is_server ? "ROUTER" : "DEALER");
}

static void check_signature(axi_zmtp *zmtp)
{
    const uint8_t *greeting = zmtp->greeting;
    if (greeting[0] != 0xff || (zmtp->greeting_length >= SIGNATURE && !(greeting[SIGNATURE - 1] & 1)))
        axi_zmtp_break(zmtp, true, "it does not speak ZeroMQ's protocol");
}

static void check_greeting(axi_zmtp *zmtp)
{
    const char *mechanism = (const char *)zmtp->greeting + MECHANISM;
    static const char *const types[] = {"PAIR", "PUB", "SUB", "REQ", "REP", "DEALER", "ROUTER"};
    zmtp->stage = AXI_ZMTP_HANDSHAKE;
    if (zmtp->is_old) {
        unsigned number = zmtp->greeting[OLD_GREETING - 1];
        const char *type = number < sizeof types / sizeof *types ? types[number] : "that nobody knows";
        if (!fits(zmtp, type, strlen(type))) refuse_type(zmtp, type, strlen(type));
    } else if (strncmp(mechanism, "NULL", MECHANISM_BYTES) != 0) {
        axi_zmtp_break(zmtp, true, "it asks for ZeroMQ's security \"%.*s\", which axon does not speak",
                       MECHANISM_BYTES, mechanism);
    }
}

static void read_revision(axi_zmtp *zmtp)
{
    zmtp->is_old = zmtp->greeting[REVISION] < 3;
    if (zmtp->greeting[REVISION] == 0)
        axi_zmtp_break(zmtp, true, "it speaks ZeroMQ's protocol 1, which is too old");
    else
        greet_further(zmtp);
}

/* The bytes that were used. */
static size_t take_greeting(axi_zmtp *zmtp, const uint8_t *bytes, size_t length)
{
    size_t missing = greeting_needed(zmtp) - zmtp->greeting_length;
    size_t taken = length < missing ? length : missing;
    memcpy(zmtp->greeting + zmtp->greeting_length, bytes, taken);
    zmtp->greeting_length = (uint8_t)(zmtp->greeting_length + taken);
    check_signature(zmtp);
    if (taken < missing || zmtp->stage == AXI_ZMTP_OVER) return taken;
    if (zmtp->greeting_length == REVISION + 1)
        read_revision(zmtp);
    else
        check_greeting(zmtp);
    return taken;
}

/* ---- the handshake ------------------------------------------------------------------------- */

static void take_name(axi_zmtp *zmtp, const void *bytes, size_t length)
{
    if (length > AXI_ZMTP_NAME) {
        axi_zmtp_break(zmtp, true, "it gives itself a name of %zu bytes, limit %d", length, AXI_ZMTP_NAME);
        return;
    }
    memcpy(zmtp->name.bytes, bytes, length);
    zmtp->name.length = (uint8_t)length;
}

static void take_property(axi_zmtp *zmtp, const char *name, size_t name_length, const uint8_t *value,
                          size_t length)
{
    static const char type[] = "Socket-Type", identity[] = "Identity";
    if (name_length == strlen(type) && strncasecmp(name, type, name_length) == 0) {
        if (!fits(zmtp, (const char *)value, length)) refuse_type(zmtp, (const char *)value, length);
    } else if (name_length == strlen(identity) && strncasecmp(name, identity, name_length) == 0) {
        take_name(zmtp, value, length);
    }
}

/* A name of up to 255 bytes, a value of up to 2^31: (1 byte, name, 4 bytes, value), again and again. */
static void take_properties(axi_zmtp *zmtp, const uint8_t *at, size_t left)
{
    while (left && zmtp->stage != AXI_ZMTP_OVER) {
        size_t name = at[0], length = 0;
        bool is_whole = left >= 1 + name + 4;
        for (size_t i = 0; is_whole && i < 4; i++)
            length = length << 8 | at[1 + name + i];
        if (!is_whole || length > left - 1 - name - 4) {
            axi_zmtp_break(zmtp, true, "its READY is cut short");
            return;
        }
        take_property(zmtp, (const char *)at + 1, name, at + 1 + name + 4, length);
        at += 1 + name + 4 + length;
        left -= 1 + name + 4 + length;
    }
}

/* ---- commands ------------------------------------------------------------------------------ */

static bool is_command(const axi_zmtp *zmtp, const char *name)
{
    size_t length = strlen(name);
    return zmtp->size > length && zmtp->body[0] == length && memcmp(zmtp->body + 1, name, length) == 0;
}

/* "ERROR", and a reason behind its length. */
static void take_error(axi_zmtp *zmtp, bool is_stranger)
{
    size_t most = zmtp->size > 7 ? (size_t)zmtp->size - 7 : 0;
    size_t length = most && zmtp->body[6] < most ? zmtp->body[6] : most;
    axi_zmtp_break(zmtp, is_stranger, "it refused: %.*s", (int)length,
                   most ? (const char *)zmtp->body + 7 : "");
}

/* "PING", how long to live in 2 bytes, and what is to be sent back. Those that come faster than they can be answered are
 * not all answered. */
static void take_ping(axi_zmtp *zmtp)
{
    size_t context = zmtp->size > 7 ? (size_t)zmtp->size - 7 : 0;
    if (context > PING_CONTEXT) context = PING_CONTEXT;
    atomic_store(&zmtp->is_pinged, true);
    uint8_t pong[2 + 5 + PING_CONTEXT] = {AXI_ZMTP_COMMAND, (uint8_t)(5 + context), 4, 'P', 'O', 'N', 'G'};
    if (context) memcpy(pong + 7, zmtp->body + 7, context);
    axi_zmtp_put(zmtp, pong, 7 + context);
}

static void take_command(axi_zmtp *zmtp)
{
    bool is_early = zmtp->stage == AXI_ZMTP_HANDSHAKE;
    if (is_command(zmtp, "ERROR")) {
        take_error(zmtp, is_early);
    } else if (is_early && is_command(zmtp, "READY")) {
        take_properties(zmtp, zmtp->body + 6, (size_t)zmtp->size - 6);
        if (zmtp->stage != AXI_ZMTP_OVER) zmtp->stage = AXI_ZMTP_READY;
    } else if (is_early) {
        axi_zmtp_break(zmtp, true, "it sent another command in READY's place");
    } else if (is_command(zmtp, "PING")) {
        take_ping(zmtp);
    } /* the others are not for these types of sockets */
}

/* ---- messages ------------------------------------------------------------------------------ */

/* Charges the budget for more of the body: memory that nobody has filled yet costs nothing. False when it is used up. */
static bool charge(axi_zmtp *zmtp)
{
    axi_zmtp_budget *budget = zmtp->budget;
    uint64_t wanted = zmtp->charged < FIRST_BYTES ? FIRST_BYTES : zmtp->charged * 4;
    if (!budget || wanted > zmtp->size) wanted = zmtp->size;
    uint64_t more = wanted - zmtp->charged;
    if (budget) {
        uint_fast64_t used = atomic_load(&budget->used);
        do {
            if (more > budget->limit || used > budget->limit - more) return false;
        } while (!atomic_compare_exchange_weak(&budget->used, &used, used + more));
    }
    zmtp->charged = wanted;
    return true;
}

/* Throws the frame away, as far as it has come and as it comes. */
static void skip(axi_zmtp *zmtp, axi_zmtp_found found)
{
    axi_zmtp_drop_body(zmtp);
    zmtp->is_skipped = true;
    zmtp->message.found = found;
}

static bool is_delimiter(const axi_zmtp *zmtp)
{
    return zmtp->frames == 0 && zmtp->size == 0 && zmtp->header[0] & AXI_ZMTP_MORE;
}

/* What becomes of the frame that begins. */
static void admit(axi_zmtp *zmtp)
{
    axi_zmtp_message *message = &zmtp->message;
    bool is_body = zmtp->frames == 0 || (zmtp->frames == 1 && !message->is_bare);
    if (!is_body || zmtp->header[0] & AXI_ZMTP_MORE) {
        skip(zmtp, AXI_ZMTP_ODD);
        return;
    }
    message->length = zmtp->size < SIZE_MAX ? (size_t)zmtp->size : SIZE_MAX;
    if (zmtp->size > zmtp->max_bytes)
        skip(zmtp, AXI_ZMTP_TOO_LONG);
    else if (!charge(zmtp))
        skip(zmtp, AXI_ZMTP_NO_ROOM);
}

/* At least a byte, so that an empty body is one. */
static bool make_room(axi_zmtp *zmtp, bool is_data)
{
    size_t capacity;
    if (!is_data) {
        zmtp->body = zmtp->received + AXI_ZMTP_RECEIVED;
        return true;
    }
    zmtp->body = axi_spare_take(zmtp->size ? (size_t)zmtp->size : 1, &capacity);
    return zmtp->body;
}

static void take_data(axi_zmtp *zmtp)
{
    bool has_more = zmtp->header[0] & AXI_ZMTP_MORE;
    if (is_delimiter(zmtp)) {
        zmtp->message.is_bare = false;
        zmtp->frames = 1;
        return;
    }
    zmtp->frames += zmtp->frames < 2;
    if (has_more) return;
    zmtp->message.data = zmtp->body;
    zmtp->body = NULL; /* its charge goes with it */
    zmtp->charged = 0;
    zmtp->waiting[(zmtp->first + zmtp->count++) % AXI_ZMTP_WAITING] = zmtp->message;
    zmtp->message = AXI_ZMTP_NEW_MESSAGE;
    zmtp->frames = 0;
}

/* ---- frames -------------------------------------------------------------------------------- */

static void end_frame(axi_zmtp *zmtp)
{
    bool is_named = zmtp->stage == AXI_ZMTP_HANDSHAKE && zmtp->is_old;
    zmtp->in_body = false;
    zmtp->header_length = 0;
    if (is_named) {
        take_name(zmtp, zmtp->body, (size_t)zmtp->size);
        if (zmtp->stage != AXI_ZMTP_OVER) zmtp->stage = AXI_ZMTP_READY;
    } else if (zmtp->header[0] & AXI_ZMTP_COMMAND) {
        take_command(zmtp);
    } else {
        take_data(zmtp);
    }
    axi_zmtp_drop_body(zmtp);
    zmtp->is_skipped = false;
}

/* What a frame may be, by the stage; false when it broke a rule. */
static bool check_header(axi_zmtp *zmtp)
{
    unsigned flags = zmtp->header[0];
    bool is_early = zmtp->stage == AXI_ZMTP_HANDSHAKE;
    unsigned known = AXI_ZMTP_MORE | AXI_ZMTP_LONG | (zmtp->is_old ? 0u : (unsigned)AXI_ZMTP_COMMAND);
    bool is_control = flags & AXI_ZMTP_COMMAND || (is_early && zmtp->is_old);
    if (flags & ~known || (is_control && flags & AXI_ZMTP_MORE))
        axi_zmtp_break(zmtp, is_early, "it sent a frame with the flags 0x%02x, which mean nothing", flags);
    else if (is_early && !is_control)
        axi_zmtp_break(zmtp, true, "it sent a message before it was ready");
    else if (is_control && zmtp->size > AXI_ZMTP_COMMAND_BYTES)
        axi_zmtp_break(zmtp, is_early, "it sent a command of %" PRIu64 " bytes, limit %d", zmtp->size,
                       AXI_ZMTP_COMMAND_BYTES);
    return zmtp->stage != AXI_ZMTP_OVER;
}

static void begin_body(axi_zmtp *zmtp)
{
    zmtp->size = zmtp->have = 0;
    for (size_t i = 1; i < zmtp->header_length; i++)
        zmtp->size = zmtp->size << 8 | zmtp->header[i];
    if (!check_header(zmtp)) return;
    zmtp->in_body = true;
    zmtp->is_skipped = is_delimiter(zmtp);
    bool is_data = !(zmtp->header[0] & AXI_ZMTP_COMMAND) && zmtp->stage == AXI_ZMTP_READY;
    if (is_data && !zmtp->is_skipped) admit(zmtp);
    if (!zmtp->is_skipped && !make_room(zmtp, is_data)) skip(zmtp, AXI_ZMTP_NO_ROOM);
    if (zmtp->size == 0) end_frame(zmtp);
}

static size_t take_header(axi_zmtp *zmtp, const uint8_t *bytes, size_t length)
{
    size_t taken = 0;
    while (taken < length) {
        zmtp->header[zmtp->header_length++] = bytes[taken++];
        if (zmtp->header_length == (zmtp->header[0] & AXI_ZMTP_LONG ? 9 : 2)) {
            begin_body(zmtp);
            break;
        }
    }
    return taken;
}

static size_t take_body(axi_zmtp *zmtp, const uint8_t *bytes, size_t length)
{
    uint64_t missing = zmtp->size - zmtp->have;
    size_t taken = length < missing ? length : (size_t)missing;
    if (!zmtp->is_skipped) memcpy(zmtp->body + zmtp->have, bytes, taken);
    zmtp->have += taken;
    if (zmtp->have == zmtp->size) end_frame(zmtp);
    return taken;
}

/* ---- bytes --------------------------------------------------------------------------------- */

static void read_received(axi_zmtp *zmtp, unsigned enough)
{
    while (zmtp->received_at < zmtp->received_end && zmtp->stage != AXI_ZMTP_OVER && zmtp->count < enough) {
        const uint8_t *bytes = zmtp->received + zmtp->received_at;
        size_t length = zmtp->received_end - zmtp->received_at;
        if (zmtp->stage == AXI_ZMTP_GREETING)
            zmtp->received_at += take_greeting(zmtp, bytes, length);
        else if (zmtp->in_body)
            zmtp->received_at += take_body(zmtp, bytes, length);
        else
            zmtp->received_at += take_header(zmtp, bytes, length);
    }
}

static void end_by_reading(axi_zmtp *zmtp, ssize_t got)
{
    bool is_early = zmtp->stage < AXI_ZMTP_READY;
    if (got < 0)
        axi_zmtp_break(zmtp, false, "%s", strerror(errno));
    else if (is_early)
        axi_zmtp_break(zmtp, zmtp->greeting_length > 0, "it hung up before it was ready");
    else
        axi_zmtp_break(zmtp, false, "it hung up");
}

/* Receives once. False when nothing is there, or when it ended the connection. */
static bool receive(axi_zmtp *zmtp)
{
    bool is_data = zmtp->in_body && !zmtp->is_skipped && zmtp->charged;
    if (is_data && zmtp->have == zmtp->charged && !charge(zmtp)) skip(zmtp, AXI_ZMTP_NO_ROOM);
    bool is_placed = is_data && !zmtp->is_skipped;
    uint8_t *to = is_placed ? zmtp->body + zmtp->have : zmtp->received;
    size_t room = is_placed ? (size_t)(zmtp->charged - zmtp->have) : AXI_ZMTP_RECEIVED;
    ssize_t got;
    do
        got = recv(zmtp->fd, to, room, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (got <= 0) {
        end_by_reading(zmtp, got);
        return false;
    }
    if (is_placed) {
        zmtp->have += (size_t)got;
        if (zmtp->have == zmtp->size) end_frame(zmtp);
    } else {
        zmtp->received_at = 0;
        zmtp->received_end = (size_t)got;
    }
    return zmtp->stage != AXI_ZMTP_OVER;
}

void axi_zmtp_read(axi_zmtp *zmtp, unsigned enough)
{
    if (enough > AXI_ZMTP_WAITING) enough = AXI_ZMTP_WAITING;
    for (int round = 0;; round++) {
        read_received(zmtp, enough);
        if (zmtp->stage == AXI_ZMTP_OVER || zmtp->count >= enough || round == ROUNDS || !receive(zmtp))
            return;
    }
}

bool axi_zmtp_has_unread(const axi_zmtp *zmtp)
{
    return zmtp->stage != AXI_ZMTP_OVER && zmtp->received_at < zmtp->received_end;
}
