/* axon/stream_server.h - be a robot backend: push statuses, camera feeds and IMU data to many clients, take their
 * commands (JSON over WebSocket, the other end of axon/stream.h).
 *
 *     axon_stream_server *server;
 *     if (axon_stream_server_open(&server, NULL, &err) != AXON_OK) ...
 *     axon_value *message = axon_value_map();
 *     axon_value_set(message, "type", axon_value_string("robot_status", AXON_ZSTRING));
 *     ...
 *     axon_stream_server_publish(server, AXON_ROBOT_CONTROL, message, &err);    // from any thread, at any time
 *     while (axon_stream_server_next(server, AXON_FOREVER, &command, &err) == AXON_OK) {
 *         obey(command);
 *         axon_command_free(command);
 *     }
 *     axon_stream_server_close(server);
 *
 * Sending   A message is written once, and sent to each client from where it lies. Nobody waits for a client: what one
 *           is too slow for waits in a queue of its own, which is shared memory, and beyond client_depth or
 *           client_bytes the oldest messages are skipped. A client that takes nothing at all is disconnected.
 * Commands  Each is checked: a direct_control with robot_id, command_type and payload. What is none is answered with
 *           {"type": "error", "field", "message", "command_id" (when there was one), "timestamp"}, and goes no further.
 * Who       Everyone who reaches it may listen and command, unless there is an api_key. It is worth what the network is
 *           worth: the server speaks no TLS, docs/server.md has a proxy that does.
 * Errors    See axon/error.h.
 * Threads   Opening a server starts one thread, which ends in axon_stream_server_close(). All calls may be made from any
 *           number of threads at once; axon_stream_server_stop() also in a signal handler. Not across fork(): in the
 *           child only axon_stream_server_close() is allowed.
 */
#ifndef AXON_STREAM_SERVER_H
#define AXON_STREAM_SERVER_H

#include <axon/server.h>
#include <axon/stream.h>

AXON_BEGIN

typedef struct axon_stream_server axon_stream_server;

/** As axon_policy_options: zero means the default in every field. */
typedef struct axon_stream_server_options {
    size_t size;                /**< sizeof(axon_stream_server_options); 0 is AXON_EINVAL */
    const char *host;           /**< address or name to listen on; default "127.0.0.1", this machine alone;
                                    "0.0.0.0" for every network */
    int32_t port;               /**< default 8200; AXON_ANY_PORT: one that is free */
    uint32_t max_connections;   /**< more are refused with HTTP 503; default 64 */
    uint64_t max_message_bytes; /**< a longer command ends its connection (1009); default 256 KiB */
    uint32_t max_commands;      /**< that wait, of at most 8 times max_message_bytes together; more are
                                   answered with an error; default 256 */
    uint32_t client_depth;      /**< messages that may wait for one client; default 32 */
    uint64_t client_bytes;      /**< likewise, of all of them together; default 16 MiB */
    uint32_t stuck_timeout_ms;  /**< a client that takes nothing for so long, while something waits for it,
                                    is disconnected; default 10 000 */
    uint32_t ping_interval_ms;  /**< pause between pings to a silent client; default 20 000 */
    uint32_t dead_after_ms;     /**< a client whose machine acknowledges nothing for so long is gone;
                                   default 60 000 */
    uint32_t stop_timeout_ms;   /**< how long closing gives clients to say goodbye; default 1 000 */
    const char *api_key;        /**< clients of both endpoints must send "Authorization: Api-Key <api_key>",
                                    else HTTP 401; compared in constant time; default none is needed */
} axon_stream_server_options;

/** Listens, for both endpoints.
 *  @param opts  may be NULL
 *  @return AXON_EIO when the address cannot be listened on (the message names it and the system's reason) */
AXON_API axon_status axon_stream_server_open(axon_stream_server **server,
                                             const axon_stream_server_options *opts, axon_error *err);

/** "ws://127.0.0.1:8200". Lives as long as the server. */
AXON_API const char *axon_stream_server_url(const axon_stream_server *server);
AXON_API int32_t axon_stream_server_port(const axon_stream_server *server);

/** Sends a message to every client of an endpoint; does not wait.
 *  @param message  a map with a `type`; a `timestamp` of now is added when it has none; images and bytes become base64;
 *                  read during the call only
 *  @return AXON_EINVAL: a message that does not travel, naming the place */
AXON_API axon_status axon_stream_server_publish(axon_stream_server *server, axon_endpoint endpoint,
                                                const axon_value *message, axon_error *err);

/** A command that was checked. All that it points at lives as long as it does; texts are zero-terminated. */
typedef struct axon_command {
    const char *robot_id;
    const char *command_type;
    const char *command_id;    /**< empty when there is none */
    const char *client;        /**< "127.0.0.1:53412" */
    const axon_value *payload; /**< a map */
    const axon_value *fields;  /**< the whole message */
} axon_command;

/** Waits for a command.
 *  @param timeout_ms  0 looks without waiting; AXON_FOREVER
 *  @param command     the caller's; free it with axon_command_free(), also after the server was closed
 *  @return AXON_ETIMEOUT; AXON_ECANCELED after axon_stream_server_stop(), or when the interrupt function said so */
AXON_API axon_status axon_stream_server_next(axon_stream_server *server, uint32_t timeout_ms,
                                             axon_command **command, axon_error *err);

/** Answers a command with an error, for reasons that axon cannot know. A client that is gone is no failure.
 *  @param field  of the command: "payload.speed"; may be NULL
 *  @param text   UTF-8, zero-terminated */
AXON_API axon_status axon_command_refuse(const axon_command *command, const char *field, const char *text,
                                         axon_error *err);

/** @param command  may be NULL */
AXON_API void axon_command_free(axon_command *command);

typedef struct axon_stream_server_stats {
    uint64_t connections;  /**< now */
    uint64_t accepted;     /**< connections since the beginning */
    uint64_t refused;      /**< of too many, without the key, or that were no WebSocket clients of an
                                endpoint */
    uint64_t published;    /**< messages */
    uint64_t sent;         /**< messages, to each client that was handed it */
    uint64_t skipped;      /**< that a client was too slow for */
    uint64_t stuck;        /**< clients that were disconnected because they took nothing */
    uint64_t commands;     /**< that were good */
    uint64_t bad_commands; /**< that were answered with an error */
} axon_stream_server_stats;

AXON_API axon_status axon_stream_server_get_stats(axon_stream_server *server,
                                                  axon_stream_server_stats *stats, axon_error *err);

/** Stops listening, says goodbye (1001) to every client, and makes axon_stream_server_next() return AXON_ECANCELED; does
 *  not wait. Any thread, signal handlers too. */
AXON_API void axon_stream_server_stop(axon_stream_server *server);

/** Stops, waits as long as stop_timeout_ms says, and frees everything but commands that were taken. The last call.
 *  @param server  may be NULL */
AXON_API void axon_stream_server_close(axon_stream_server *server);

AXON_END

#endif
