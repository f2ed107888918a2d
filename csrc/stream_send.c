/* Commands on their way. See stream_internal.h. */
#include "stream_internal.h"
#include "thread.h"
#include "value_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- on the stream's thread ---------------------------------------------------------------- */

static void finish(axon_stream *stream, axi_command *command)
{
    command->is_done = true;
    stream->stats.sent += command->status == AXON_OK;
    pthread_cond_broadcast(&stream->sent);
}

/* On the thread, with the lock held, which is let go of meanwhile. */
void axi_stream_send_all(axon_stream *stream)
{
    for (axi_command *command; (command = stream->first_out);) {
        stream->first_out = command->next;
        if (!stream->first_out) stream->last_out = NULL;
        command->is_under_way = true;
        axi_ws *ws = stream->ws;
        pthread_mutex_unlock(&stream->lock);
        command->status =
            ws ? axi_ws_send(ws, &command->text, 1, true, command->deadline, &command->failure)
               : axi_fail(&command->failure, AXON_ECONNECT, "%s: there is no connection", stream->url);
        pthread_mutex_lock(&stream->lock);
        finish(stream, command);
    }
}

void axi_stream_fail_all(axon_stream *stream, axon_status status, const char *why)
{
    for (axi_command *command; (command = stream->first_out);) {
        stream->first_out = command->next;
        command->status = axi_fail(&command->failure, status, "%s: %s", stream->url, why);
        finish(stream, command);
    }
    stream->last_out = NULL;
}

/* ---- on the thread of who sends ------------------------------------------------------------ */

static void enqueue(axon_stream *stream, axi_command *command)
{
    if (stream->last_out)
        stream->last_out->next = command;
    else
        stream->first_out = command;
    stream->last_out = command;
    axi_stream_wake(stream);
}

static void unqueue(axon_stream *stream, const axi_command *command)
{
    axi_command **place = &stream->first_out, *before = NULL;
    while (*place != command) {
        before = *place;
        place = &before->next;
    }
    *place = command->next;
    if (stream->last_out == command) stream->last_out = before;
}

/* Until the thread has sent it; one that it has begun with is waited for, which its own deadline ends. */
static axon_status wait_for_sending(axon_stream *stream, axi_command *command, axon_error *err)
{
    bool is_interrupted = false;
    while (!command->is_done) {
        bool is_late = axi_left_ms(command->deadline, 1) == 0;
        if (!command->is_under_way && (is_late || is_interrupted || stream->is_canceled)) {
            unqueue(stream, command);
            return is_late ? axi_fail(err, AXON_ETIMEOUT, "%s: a command was not sent (send_timeout_ms)",
                                      stream->url)
                           : axi_fail(err, AXON_ECANCELED, "%s: %s", stream->url,
                                      is_interrupted ? "interrupted" : "cancelled");
        }
        axi_condition_wait_a_while(&stream->sent, &stream->lock, is_late ? AXI_NEVER : command->deadline);
        if (command->is_done) break;
        pthread_mutex_unlock(&stream->lock);
        if (axi_interrupted()) is_interrupted = true;
        pthread_mutex_lock(&stream->lock);
    }
    if (command->status != AXON_OK && err) *err = command->failure;
    return command->status;
}

static axon_status send_text(axon_stream *stream, char *text, size_t length, axon_error *err)
{
    axi_command command = {.text = {text, length},
                           .deadline = axi_deadline(stream->options.send_timeout_ms)};
    pthread_mutex_lock(&stream->lock);
    axon_status status = axi_stream_check_waiting(stream, err);
    if (status == AXON_OK && !stream->ws)
        status =
            axi_fail(err, AXON_ECONNECT, "%s: there is no connection: %s", stream->url, stream->trouble);
    if (status == AXON_OK) {
        enqueue(stream, &command);
        status = wait_for_sending(stream, &command, err);
    }
    pthread_mutex_unlock(&stream->lock);
    return status;
}

axon_status axon_stream_send(axon_stream *stream, const axon_value *message, axon_error *err)
{
    char *text;
    size_t length;
    axon_status status = axi_stream_check(stream, err);
    if (status == AXON_OK && axon_value_type(message) != AXON_MAP)
        status = axi_fail(err, AXON_EINVAL, "command: it is no map");
    if (status == AXON_OK) status = axi_stream_write(message, "command", &text, &length, err);
    if (status != AXON_OK) return status;
    status = send_text(stream, text, length, err);
    free(text);
    return status;
}

static axon_status check_text(const char *name, const char *text, axon_error *err)
{
    return text && *text ? AXON_OK : axi_fail(err, AXON_EINVAL, "command \"%s\": it is empty", name);
}

/* A command's members around a payload that stays the caller's. */
static axon_status send_command(axon_stream *stream, const char *const texts[3], const axon_value *payload,
                                axon_error *err)
{
    static const char *const keys[] = {"type", "robot_id", "command_type", "command_id", "payload"};
    axon_value items[5], map = {.type = AXON_MAP};
    uint32_t count = 0;
    for (int i = 0; i < 5; i++) {
        const char *text = i == 0 ? "direct_control" : i < 4 ? texts[i - 1] : "";
        if (!text) continue;
        items[count] = i < 4 ? (axon_value){.type = AXON_STRING, .as.bytes = {text, strlen(text)}}
                             : (payload ? *payload : (axon_value){.type = AXON_MAP});
        items[count].key = keys[i];
        items[count++].key_length = (uint32_t)strlen(keys[i]);
    }
    map.as.children.items = items;
    map.as.children.count = map.as.children.capacity = count;
    return axon_stream_send(stream, &map, err);
}

axon_status axon_stream_send_control(axon_stream *stream, const char *robot_id, const char *command_type,
                                     const axon_value *payload, const char *command_id, axon_error *err)
{
    axon_status status = axi_stream_check(stream, err);
    if (status == AXON_OK) status = check_text("robot_id", robot_id, err);
    if (status == AXON_OK) status = check_text("command_type", command_type, err);
    if (status == AXON_OK && payload && axon_value_type(payload) != AXON_MAP)
        status = axi_fail(err, AXON_EINVAL, "command \"payload\": it is no map");
    if (status != AXON_OK) return status;
    return send_command(stream, (const char *const[]){robot_id, command_type, command_id}, payload, err);
}
