/* axon/stream.h - what a robot backend pushes: robot status, camera feeds, IMU data (JSON over WebSocket), and
 * commands to it.
 *
 *     axon_stream *stream;
 *     axon_message *message;
 *     if (axon_stream_open(&stream, "ws://127.0.0.1:8200", AXON_SENSOR_DATA, NULL, &err) != AXON_OK) ...
 *     while (axon_stream_next(stream, NULL, 1000, &message, &err) == AXON_OK) {
 *         if (message->kind == AXON_MESSAGE_CAMERA_FEED) show(message->image, message->image_length);
 *         axon_message_free(message);
 *     }
 *     axon_stream_close(stream);
 *
 * Buffers  What was received and not yet taken waits in one buffer per channel: messages of the same type, robot and
 *          camera or IMU. axon_overflow says what happens when one is full; what was dropped is counted, and told with
 *          the next message of that channel.
 * Gaps     A lost connection is opened again by itself. Once it stands, an AXON_MESSAGE_GAP says how long nothing
 *          could be received, in its place between the messages.
 * Faults   What is no message (text that is not JSON, a field of a wrong type, a picture that is none) comes as an
 *          AXON_MESSAGE_FAULT that names it; the stream goes on. Types and fields that axon does not know are
 *          handed through.
 * Errors   See axon/error.h. The stream stays usable after every error.
 * Threads  Opening a stream starts one thread, which receives, reconnects and answers pings, and ends in
 *          axon_stream_close(); axon_stream_subscribe() starts another. All calls may be made from any number of
 *          threads at once, but for axon_stream_close(), which must be the last. Not across fork(): in the child
 *          every call is AXON_EINVAL, and only axon_stream_close() is allowed.
 *
 * @service physical-ai 0.1.0
 * @class   SensorData
 * @type    robot
 * @host    ws://127.0.0.1:8200
 * @http    GET /ws/robot_control
 * @http    GET /ws/sensor_data
 * @about   Streams of a robot backend (WebSocket, JSON): camera feeds and IMU data; with RobotControl of the same module robot and plan statuses, and direct control commands.
 * @init    sensors = SensorData(host="127.0.0.1", port=8200)
 * @example frame = sensors.get_frame(timeout=5)
 *          image = frame.array()
 * @returns A camera frame: image (bytes of a JPEG or PNG), array() (uint8, height x width x 3, RGB), camera_id, timestamp; imu() gives samples with accelerometer and gyroscope (float64, 3).
 * @repo    axon-robotics/axon main
 * @added   2026-11-21
 * @changed 2026-11-21
 */
#ifndef AXON_STREAM_H
#define AXON_STREAM_H

#include <axon/image.h>

AXON_BEGIN

typedef struct axon_stream axon_stream;

/** The two streams of a robot backend. */
typedef enum axon_endpoint {
    AXON_ROBOT_CONTROL = 1, /**< "/ws/robot_control": statuses come, commands go */
    AXON_SENSOR_DATA = 2    /**< "/ws/sensor_data": camera feeds and IMU data come */
} axon_endpoint;

/** What happens to a message whose channel has no room. */
typedef enum axon_overflow {
    AXON_DROP_OLDEST = 0, /**< the channel's oldest message gives way */
    AXON_LATEST_ONLY = 1, /**< the same, with room for one message */
    AXON_BLOCK = 2        /**< nothing more is received, of any channel, until there is room */
} axon_overflow;

/** As axon_policy_options: zero means the default in every field. */
typedef struct axon_stream_options {
    size_t size;                 /**< sizeof(axon_stream_options); 0 is AXON_EINVAL */
    const char *authorization;   /**< the whole value of an Authorization header; default none */
    const char *ca_file;         /**< PEM of the authorities to trust for wss; default the system's */
    uint32_t connect_timeout_ms; /**< of axon_stream_open(), a refused connection being tried again until
                                      then, and of each later try; default 10 000 */
    uint32_t retry_min_ms;       /**< pause before the first try to reconnect, doubled each time, up to
                                      half of it less by chance; default 100 */
    uint32_t retry_max_ms;       /**< the longest such pause; default 5 000 */
    uint32_t send_timeout_ms;    /**< of one command; default 5 000 */
    uint32_t close_timeout_ms;   /**< how long closing waits for the backend's goodbye; default 1 000 */
    uint32_t alive_interval_ms;  /**< a backend that is silent for so long is sent an unasked pong, so that
                                      one that is gone is noticed; default 10 000 */
    axon_overflow overflow;      /**< default AXON_DROP_OLDEST */
    uint32_t depth;              /**< messages that one channel has room for; default 64 */
    uint32_t max_channels;       /**< beyond so many, the rest share one; default 256 */
    uint64_t max_message_bytes;  /**< a longer message ends the connection, as a fault; default 64 MiB */
    uint64_t max_buffer_bytes;   /**< of all messages that wait together; beyond it the oldest give way, or
                                      with AXON_BLOCK have to be taken first; default 256 MiB */
    uint32_t max_latency_ms;     /**< a message that seems older comes from another clock: its latency is
                                      unknown; default 10 000 */
    int32_t connect_once;        /**< 1: a refused connection fails at once when opening; default 0 */
    int32_t no_reconnect;        /**< 1: a lost connection stays lost; default 0 */
    int32_t tls_insecure;        /**< 1: accept any certificate; default 0 */
    const char *api_key;         /**< sent as "Authorization: Api-Key <api_key>", in place of
                                      `authorization`; default none */
} axon_stream_options;

/** Connects.
 *  @param url     "ws://host:port", "wss://...", "http://..." and "https://..." as for the backend's other services,
 *                 or "host" or "host:port" (port 8200 when none is named); without a path, that of `endpoint`; copied
 *  @param opts    read during the call only; may be NULL
 *  @param stream  the caller's; free it with axon_stream_close()
 *  @return AXON_ECONNECT, AXON_ETIMEOUT, AXON_EAUTH, AXON_ESERVER (an HTTP error; err->http_status has it) */
AXON_API axon_status axon_stream_open(axon_stream **stream, const char *url, axon_endpoint endpoint,
                                      const axon_stream_options *opts, axon_error *err);

/** The URL, whole. Lives as long as the stream. */
AXON_API const char *axon_stream_url(const axon_stream *stream);

/* ---- messages ------------------------------------------------------------------------------ */

/** What a message is. */
typedef enum axon_message_kind {
    AXON_MESSAGE_OTHER = 0, /**< of a type that axon does not know: see `type` and `fields` */
    AXON_MESSAGE_ROBOT_STATUS = 1,
    AXON_MESSAGE_ACTION_PLAN_STATUS = 2,
    AXON_MESSAGE_CAMERA_FEED = 3,
    AXON_MESSAGE_IMU_DATA = 4,
    AXON_MESSAGE_GAP = 5,  /**< the connection was lost, and stands again */
    AXON_MESSAGE_FAULT = 6 /**< what came was no message: see `fault` */
} axon_message_kind;

/** A time that is not known. */
#define AXON_NO_TIME (-9223372036854775807)

/** One message. All that it points at lives as long as it does; texts are zero-terminated, and empty where the
 *  message has none; numbers that it has not are NaN. */
typedef struct axon_message {
    axon_message_kind kind;
    const char *type; /**< as the backend wrote it; empty for a gap, and for text that is no JSON object */
    const char *robot_id;
    const char *source_id; /**< `camera_id` or `imu_id` */
    int64_t stamp_ns;      /**< `timestamp`: ns since 1970 (UTC if it names no zone), or AXON_NO_TIME */
    int64_t received_ns;   /**< when it had come, by this machine's clock; ns since 1970 */
    int64_t latency_ns; /**< from one to the other; AXON_NO_TIME when the two clocks do not allow to tell */
    uint64_t dropped;   /**< of this channel, since the message of it that was taken before */
    /** the whole message: a map in which `image_data` is bytes; NULL for a gap, and for text that is no JSON */
    const axon_value *fields;

    /* robot_status */
    const char *status;      /**< of action_plan_status, too */
    double position[3];      /**< `current_pose`: x, y, z, in the backend's unit, m as a rule */
    const char *orientation; /**< `current_pose.orientation` */

    /* action_plan_status */
    const char *command_id;
    const char *action_id;
    const char *text; /**< `message` */

    /* camera_feed */
    const void *image; /**< the picture file, decoded from base64; NULL for every other kind */
    size_t image_length;
    axon_image_format image_format;
    int32_t width; /**< pixels; 0 when the format is not one that axon reads */
    int32_t height;

    /* imu_data, in the backend's units: m/s2 and rad/s as a rule */
    double accelerometer[3]; /**< x, y, z */
    double gyroscope[3];     /**< x, y, z */

    /* a gap, a fault */
    const char *fault;     /**< what is wrong with it; of a gap: why the connection was lost */
    int64_t gap_since_ns;  /**< when it was lost; ns since 1970 */
    int64_t gap_ns;        /**< for how long there was none */
    uint32_t gap_attempts; /**< tries that it took, the last one included */
} axon_message;

/** Which messages are wanted. Zero means any, in every field. */
typedef struct axon_message_filter {
    size_t size;      /**< sizeof(axon_message_filter); 0 is AXON_EINVAL */
    const char *type; /**< messages of this type, and faults that say they were; gaps have none */
    const char *robot_id;
    const char *source_id; /**< camera or IMU */
} axon_message_filter;

/** Takes the oldest message that is wanted, waiting for one to come.
 *  @param filter      may be NULL: any message
 *  @param timeout_ms  0 looks without waiting; AXON_FOREVER
 *  @param message     the caller's; free it with axon_message_free()
 *  @return AXON_ETIMEOUT (the message says since when there is no connection, if that is so); AXON_ECONNECT, when the
 *          connection is lost for good and nothing waits any more; AXON_ECANCELED after axon_stream_cancel();
 *          AXON_EINVAL while there is a subscriber */
AXON_API axon_status axon_stream_next(axon_stream *stream, const axon_message_filter *filter,
                                      uint32_t timeout_ms, axon_message **message, axon_error *err);

/** Reads one message's text, as a stream does: for recordings and tests.
 *  @param text     read during the call only
 *  @param message  the caller's; free it with axon_message_free()
 *  @return AXON_EPROTOCOL: what a stream would hand over as a fault */
AXON_API axon_status axon_message_read(const char *text, size_t length, axon_message **message,
                                       axon_error *err);

/** The pixels of a camera_feed: uint8 (height, width, 3), or as axon_image_decode() says.
 *  @param color   the channel order wanted; AXON_COLOR_DEFAULT is AXON_RGB
 *  @param pixels  its data is the caller's; free it with axon_free((void *)pixels.data)
 *  @return AXON_EINVAL (no picture, or of a format that axon does not decode), AXON_EPROTOCOL (damaged) */
AXON_API axon_status axon_message_decode(const axon_message *message, axon_color color, axon_array *pixels,
                                         axon_error *err);

/** @param message  may be NULL */
AXON_API void axon_message_free(axon_message *message);

/** Called with each message, in order, on a thread of the stream's own, the same one for all of them. While it runs
 *  messages wait in their buffers, and are dropped from there. It may make any call with the stream but
 *  axon_stream_close().
 *  @param message  the stream's: gone when the callback returns */
typedef void (*axon_message_function)(void *user, const axon_message *message);

/** Has `function` called with every message from now on, those that wait first.
 *  @param function  NULL ends it: when the call returns the function does not run, nor will it again, unless it is
 *                   itself the caller
 *  @return AXON_EINVAL when there is a subscriber already */
AXON_API axon_status axon_stream_subscribe(axon_stream *stream, axon_message_function function, void *user,
                                           axon_error *err);

/* ---- commands ------------------------------------------------------------------------------ */

/** Sends a direct_control. It is sent now or not at all: never after the call has returned.
 *  @param payload     a map; NULL for an empty one; read during the call only
 *  @param command_id  goes along when it is not NULL, for backends that take one over into action_plan_status
 *  @return AXON_ECONNECT (there is no connection at the moment; the message says why), AXON_ETIMEOUT */
AXON_API axon_status axon_stream_send_control(axon_stream *stream, const char *robot_id,
                                              const char *command_type, const axon_value *payload,
                                              const char *command_id, axon_error *err);

/** Sends a map as it is, for backends with messages of their own. @return as axon_stream_send_control() */
AXON_API axon_status axon_stream_send(axon_stream *stream, const axon_value *message, axon_error *err);

/** Waits for an action_plan_status of one command, beside whoever takes messages: they get it, too. One that came
 *  earlier counts, of the last 256; one of more than 256 KiB does not.
 *  @param statuses  the `status`es that are waited for, ending with NULL; NULL: any
 *  @param message   the newest of them; the caller's, free it with axon_message_free()
 *  @return AXON_ETIMEOUT (the message has the last status that came), AXON_ECANCELED, AXON_ECONNECT as
 *          axon_stream_next() */
AXON_API axon_status axon_stream_wait_status(axon_stream *stream, const char *command_id,
                                             const char *const *statuses, uint32_t timeout_ms,
                                             axon_message **message, axon_error *err);

/* ---- the stream ---------------------------------------------------------------------------- */

typedef struct axon_stream_stats {
    int32_t is_connected;
    uint32_t channels;
    uint64_t received;      /**< messages, faults among them */
    uint64_t taken;         /**< by axon_stream_next() or the subscriber, gaps among them */
    uint64_t dropped;       /**< for want of room */
    uint64_t waiting;       /**< now */
    uint64_t waiting_bytes; /**< now */
    uint64_t faults;
    uint64_t gaps;
    uint64_t gap_ns;       /**< all gaps together */
    uint64_t unknown_time; /**< messages without a timestamp that could be read */
    uint64_t odd_time; /**< whose timestamp is in the future, long past, or before that of the one before */
    uint64_t sent;     /**< commands */
} axon_stream_stats;

AXON_API axon_status axon_stream_get_stats(axon_stream *stream, axon_stream_stats *stats, axon_error *err);

/** One channel. Texts that do not fit are cut. */
typedef struct axon_channel_stats {
    char type[64]; /**< "gap" and "fault" for these */
    char robot_id[64];
    char source_id[64];
    uint64_t received;
    uint64_t dropped;
    uint64_t waiting;
    int64_t latency_ns; /**< of the last message, or AXON_NO_TIME */
} axon_channel_stats;

/** @param index  0 to axon_stream_stats.channels - 1, in order of their first message
 *  @return AXON_EINVAL: there is no such channel */
AXON_API axon_status axon_stream_get_channel(axon_stream *stream, uint32_t index, axon_channel_stats *stats,
                                             axon_error *err);

/** Ends, with AXON_ECANCELED, all calls that wait, and those that follow: for the thread that is about to close. */
AXON_API void axon_stream_cancel(axon_stream *stream);

/** Says goodbye and frees everything but messages that were taken. Not from the subscriber's function.
 *  @param stream  may be NULL */
AXON_API void axon_stream_close(axon_stream *stream);

AXON_END

#endif
