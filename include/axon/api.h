/* axon/api.h - what every other header of axon stands on: visibility, version, log, interrupts.
 *
 * Threads  The calls of this header act on the whole process. Make them before the first handle is
 *          opened, or accept that calls already under way keep the old setting.
 */
#ifndef AXON_API_H
#define AXON_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define AXON_BEGIN extern "C" {
#define AXON_END }
#else
#define AXON_BEGIN
#define AXON_END
#endif

#if defined(__GNUC__)
#define AXON_API __attribute__((visibility("default")))
#else
#define AXON_API
#endif

/* The one place where the version is written; the build reads it from here. */
#define AXON_VERSION_MAJOR 0
#define AXON_VERSION_MINOR 1
#define AXON_VERSION_PATCH 0

/** No deadline. For the _ms fields that say how long to wait for a peer. */
#define AXON_FOREVER 4294967295

AXON_BEGIN

/** The version of the library that is loaded, "major.minor.patch". Static, never freed. */
AXON_API const char *axon_version(void);

/** How much a log line matters. A level lets through itself and all below it. */
typedef enum axon_log_level {
    AXON_LOG_OFF = 0,  /**< nothing; the default, unless AXON_LOG is set */
    AXON_LOG_WARN = 1, /**< something was survived: a retry, a slow peer */
    AXON_LOG_INFO = 2, /**< connections that open and close */
    AXON_LOG_DEBUG = 3 /**< every request, with sizes and times */
} axon_log_level;

/** Receives one log line, without a newline. Called on the thread that logs, possibly with a handle
 *  locked: it must not call axon, and `text` is gone when it returns. */
typedef void (*axon_log_fn)(axon_log_level level, const char *text, void *user);

/** Sends log lines up to `level` to `fn`; NULL restores the default, which is standard error at the
 *  level that the environment variable AXON_LOG names (warn, info, debug), and silence without it. */
AXON_API void axon_set_log(axon_log_fn fn, void *user, axon_log_level level);

/** Asked while a call waits: non-zero ends that call with AXON_ECANCELED.
 *  Called on the waiting thread with no lock held, after a signal interrupted the wait and at least
 *  every 250 ms; it must not use the handle that waits. Bindings use it to let Ctrl-C through. */
typedef int32_t (*axon_interrupt_fn)(void *user);

/** Sets the function that long waits ask; NULL (the default) asks nobody. */
AXON_API void axon_set_interrupt(axon_interrupt_fn fn, void *user);

/** Frees memory that a call handed to the caller and whose comment names this function.
 *  @param memory  may be NULL */
AXON_API void axon_free(void *memory);

AXON_END

#endif
