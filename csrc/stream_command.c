/* Commands of a robot backend's clients: checked, answered when they are none, and handed out. See
 * stream_server_internal.h. */
#include "iso_time.h"
#include "json.h"
#include "stream_internal.h"
#include "stream_server_internal.h"
#include "thread.h"
#include "ws_frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_NAME = 256,          /* bytes of a robot's id, and of a type of command */
    REPLIES_UNREAD = 65536,  /* bytes that wait for a client, above which it is sent no error */
    COMMANDS_OF_MAX_SIZE = 8 /* that may wait together */
};

static axon_status add_text(axon_value *map, const char *key, const char *text)
{
    return axon_value_set(map, key, axon_value_string(text, AXON_ZSTRING));
}

/* Tells a client what is wrong with a command. Who does not even read errors is not sent more of them. */
static axon_status send_error(axi_ws_peer *peer, const char *field, const char *reason,
                              const char *command_id, axon_error *err)
{
    if (axi_ws_peer_pending(peer) > REPLIES_UNREAD) return AXON_OK;
    char stamp[AXI_ISO_TIME_ROOM], *text = NULL;
    size_t length = 0;
    axi_iso_time_print(stamp, axi_wall_time());
    axon_value *reply = axon_value_map();
    axon_status status = add_text(reply, "type", "error");
    if (status == AXON_OK) status = add_text(reply, "field", field);
    if (status == AXON_OK) status = add_text(reply, "message", reason);
    if (status == AXON_OK && *command_id) status = add_text(reply, "command_id", command_id);
    if (status == AXON_OK) status = add_text(reply, "timestamp", stamp);
    status = status == AXON_OK ? axi_stream_write(reply, "error", &text, &length, err)
                               : axi_no_memory(err, sizeof *reply);
    struct iovec part = {text, length};
    if (status == AXON_OK) axi_ws_peer_send(peer, &part, 1, true);
    free(text);
    axon_value_free(reply);
    return status;
}

void axon_command_free(axon_command *command)
{
    axi_incoming *self = (axi_incoming *)command; /* its first member */
    if (!self) return;
    axon_value_free(self->tree);
    axi_ws_peer_drop(self->peer);
    free(self);
}

axon_status axon_command_refuse(const axon_command *command, const char *field, const char *text,
                                axon_error *err)
{
    if (!command || !text)
        return axi_fail(err, AXON_EINVAL, "%s: it is NULL", command ? "text" : "command");
    const axi_incoming *self = (const axi_incoming *)command;
    return send_error(self->peer, field ? field : "", text, command->command_id, err);
}

/* The text of a member, made to end with a zero where it stands; NULL when it is none. */
static const char *text_of(const axon_value *map, const char *key)
{
    const char *text;
    size_t length;
    if (axon_value_as_string(axon_value_get(map, key), &text, &length) != AXON_OK) return NULL;
    ((char *)(uintptr_t)text)[length] = 0;
    return text;
}

static axon_status read_name(const axon_value *map, const char *key, const char **name, axon_error *err)
{
    const char *text = text_of(map, key);
    if (!axon_value_get(map, key)) return axi_fail(err, AXON_EPROTOCOL, "%s is missing", key);
    if (!text) return axi_fail(err, AXON_EPROTOCOL, "%s is no text", key);
    if (!*text) return axi_fail(err, AXON_EPROTOCOL, "%s is empty", key);
    if (strlen(text) > MAX_NAME)
        return axi_fail(err, AXON_EPROTOCOL, "%s has %zu bytes, limit %d", key, strlen(text), MAX_NAME);
    *name = text;
    return AXON_OK;
}

/* What is wrong with a command, and in `*field` where. */
static axon_status check_command(axi_incoming *made, const char **field, axon_error *err)
{
    const axon_value *tree = made->tree;
    const char *type;
    *field = "";
    if (axon_value_type(tree) != AXON_MAP) return axi_fail(err, AXON_EPROTOCOL, "the message is no object");
    const char *command_id = text_of(tree, "command_id");
    if (command_id) made->told.command_id = command_id;
    axon_status status = read_name(tree, *field = "type", &type, err);
    if (status == AXON_OK && strcmp(type, "direct_control") != 0)
        status = axi_fail(err, AXON_EPROTOCOL, "type is \"%.64s\", not \"direct_control\"", type);
    if (status == AXON_OK) status = read_name(tree, *field = "robot_id", &made->told.robot_id, err);
    if (status == AXON_OK) status = read_name(tree, *field = "command_type", &made->told.command_type, err);
    if (status != AXON_OK) return status;
    *field = "payload";
    made->told.payload = axon_value_get(tree, "payload");
    if (!made->told.payload) return axi_fail(err, AXON_EPROTOCOL, "payload is missing");
    if (axon_value_type(made->told.payload) != AXON_MAP)
        return axi_fail(err, AXON_EPROTOCOL, "payload is no object");
    *field = "command_id";
    if (axon_value_get(tree, "command_id") && !command_id)
        return axi_fail(err, AXON_EPROTOCOL, "command_id is no text");
    return AXON_OK;
}

/* Puts a good command in line; false when too many wait already. */
static bool add_command(axon_stream_server *server, axi_incoming *made)
{
    const axon_stream_server_options *o = &server->options;
    pthread_mutex_lock(&server->lock);
    bool fits = server->waiting < o->max_commands &&
                server->waiting_bytes + made->bytes <= COMMANDS_OF_MAX_SIZE * o->max_message_bytes;
    if (fits) {
        axi_queue_add(&server->commands, &made->place);
        server->waiting++;
        server->waiting_bytes += made->bytes;
        server->stats.commands++;
        pthread_cond_signal(&server->changed);
    }
    pthread_mutex_unlock(&server->lock);
    return fits;
}

static void count_bad(axon_stream_server *server)
{
    pthread_mutex_lock(&server->lock);
    server->stats.bad_commands++;
    pthread_mutex_unlock(&server->lock);
}

void axi_stream_server_refuse(axon_stream_server *server, axi_ws_peer *peer, const char *reason)
{
    count_bad(server);
    send_error(peer, "", reason, "", NULL);
}

/* The message is the call's. */
void axi_stream_server_hear(axon_stream_server *server, axi_ws_peer *peer, axi_ws_message *message)
{
    axi_incoming *made = calloc(1, sizeof *made);
    if (!made) {
        free(message->data);
        axi_ws_peer_close(peer, AXI_WS_INTERNAL_ERROR, "out of memory");
        return;
    }
    *made = (axi_incoming){.told.command_id = "", .peer = peer, .bytes = message->length};
    axi_ws_peer_keep(peer);
    made->told.client = axi_ws_peer_name(peer);
    axon_error failure;
    const char *field = "";
    axon_status status =
        axi_json_read((char *)message->data, message->length, "the message", &made->tree, &failure);
    if (status == AXON_OK) {
        made->told.fields = made->tree;
        status = check_command(made, &field, &failure);
    }
    if (status == AXON_OK) {
        if (add_command(server, made)) return;
        field = "";
        axi_fail(&failure, AXON_ETOOBIG, "too many commands wait (max_commands)");
    }
    count_bad(server);
    axi_log(AXON_LOG_WARN, "%s: %s: %s", server->url, axi_ws_peer_name(peer), failure.message);
    send_error(peer, field, failure.message, made->told.command_id, NULL);
    axon_command_free(&made->told);
}

static axi_incoming *take_command(axon_stream_server *server)
{
    axi_incoming *command = AXI_PLACED(axi_queue_take(&server->commands), axi_incoming, place);
    if (!command) return NULL;
    server->waiting--;
    server->waiting_bytes -= command->bytes;
    return command;
}

axon_status axon_stream_server_next(axon_stream_server *server, uint32_t timeout_ms, axon_command **command,
                                    axon_error *err)
{
    axon_status status = axi_stream_server_check(server, err);
    if (status == AXON_OK && !command) status = axi_fail(err, AXON_EINVAL, "command: it is NULL");
    if (status != AXON_OK) return status;
    axi_time deadline = axi_deadline(timeout_ms);
    for (;;) {
        bool is_late = axi_left_ms(deadline, 1) == 0;
        pthread_mutex_lock(&server->lock);
        bool is_stopping = atomic_load(&server->is_stopping);
        axi_incoming *found = is_stopping ? NULL : take_command(server);
        if (!found && !is_stopping && !is_late)
            axi_condition_wait_a_while(&server->changed, &server->lock, deadline);
        pthread_mutex_unlock(&server->lock);
        if (found) {
            *command = &found->told;
            return AXON_OK;
        }
        if (is_stopping) return axi_fail(err, AXON_ECANCELED, "server %s: it was stopped", server->url);
        if (axi_interrupted()) return axi_fail(err, AXON_ECANCELED, "server %s: interrupted", server->url);
        if (is_late)
            return axi_fail(err, AXON_ETIMEOUT, "server %s: no command came (timeout_ms)", server->url);
    }
}

void axi_stream_server_forget(axon_stream_server *server)
{
    for (axi_incoming *command; (command = take_command(server));)
        axon_command_free(&command->told);
}
