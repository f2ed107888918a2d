/* axon/simulator.h - run tasks in a simulator behind ZeroMQ (Simulator Inference Center: DEALER to ROUTER, msgpack).
 *
 * Session  An axon_simulator is one session with one server, which keeps a simulator for it. One reply is owed per
 *          call: a call whose deadline passed, or that was cancelled, fails; its late reply is discarded when it
 *          comes, never returned to a later call, and until then nothing else is sent. When it has not come within
 *          grace_ms, or the connection was lost, the session is over: the next call begins another one, as part of
 *          its deadline, and tells the server again which simulator and task were chosen. The episode is gone:
 *          axon_simulator_step() is then AXON_ESERVER, "not_reset", until axon_simulator_reset().
 * Servers  Of today, with several simulators to choose from, and of the document's age, with one: see
 *          axon_simulator_list_simulators().
 * Errors   See axon/error.h. What the server itself answers is AXON_ESERVER: axon_simulator_error_type() has its
 *          kind. Except after axon_simulator_close() the session stays usable after every error.
 * Threads  One thread at a time, except axon_simulator_cancel(). Opening one starts a thread, which answers the server's
 *          pings between calls and ends in axon_simulator_close(). Two simulators share nothing. Do not carry one across
 *          fork(): in the child every call is AXON_EINVAL, and only axon_simulator_close() is allowed.
 *
 * @service simulator 0.1.0
 * @class   SimulatorClient
 * @type    simulator
 * @host    tcp://127.0.0.1:5555
 * @about   Runs tasks in a simulator (ZeroMQ, msgpack: Simulator Inference Center): load a task, reset it, step it with actions, and see observations with camera pictures.
 * @init    simulator = SimulatorClient("tcp://127.0.0.1:5555")
 * @example simulator.select_simulator(simulator.list_simulators()[0])
 *          task = simulator.load_task(simulator.list_tasks()[0])
 *          observation = simulator.reset()
 *          action = {key: space["low"] for key, space in task["action_space"].items()}
 *          observation, reward, terminated, truncated, info = simulator.step(action)
 * @returns Observations are dicts of numpy arrays, pictures uint8 (height, width, 3), and of numbers; reward is a float, terminated and truncated are bools.
 * @repo    axon-robotics/axon main
 * @added   2026-11-21
 * @changed 2026-11-21
 */
#ifndef AXON_SIMULATOR_H
#define AXON_SIMULATOR_H

#include <axon/policy.h>

AXON_BEGIN

typedef struct axon_simulator axon_simulator;

/** As axon_policy_options: zero means the default in every field. */
typedef struct axon_simulator_options {
    size_t size;                 /**< sizeof(axon_simulator_options); 0 is AXON_EINVAL */
    uint32_t connect_timeout_ms; /**< until the server has answered ZeroMQ's greeting, a refused connection
                                      being tried again until then; default 10 000 */
    uint32_t retry_min_ms;       /**< pause after the first refused try, doubled each time; default 100 */
    uint32_t retry_max_ms;       /**< the longest such pause; default 2 000 */
    uint32_t call_timeout_ms;    /**< one whole call, a reconnect in it included; default 60 000 */
    uint32_t close_timeout_ms;   /**< how long closing waits for the server's goodbye; default 1 000 */
    uint32_t grace_ms;        /**< how long after its deadline a late reply is waited for, by the calls that
                                      follow, before the session is given up; default 60 000 */
    uint64_t max_reply_bytes; /**< a longer reply is AXON_ETOOBIG, and thrown away; default 256 MiB */
    uint64_t max_request_bytes; /**< a longer action is AXON_ETOOBIG, unsent; default 256 MiB */
    int32_t connect_once;       /**< 1: a refused connection fails at once; default 0 */
} axon_simulator_options;

/** Connects.
 *  @param address    "tcp://host:port", "host:port" or "host" (port 5555; IPv6 in brackets), "ipc:///path"; copied
 *  @param opts       read during the call only; may be NULL
 *  @param simulator  the caller's; free it with axon_simulator_close()
 *  @return AXON_ECONNECT (nobody listens), AXON_ETIMEOUT (somebody does, and says nothing), AXON_EPROTOCOL (what
 *          listens does not speak ZeroMQ) */
AXON_API axon_status axon_simulator_open(axon_simulator **simulator, const char *address,
                                         const axon_simulator_options *opts, axon_error *err);

/** "tcp://127.0.0.1:5555". Lives as long as the simulator. */
AXON_API const char *axon_simulator_address(const axon_simulator *simulator);

/** Changes call_timeout_ms for the calls that follow; 0 restores the default. */
AXON_API axon_status axon_simulator_set_timeout(axon_simulator *simulator, uint32_t timeout_ms,
                                                axon_error *err);

/* Each of the calls below asks the server once, and returns AXON_ESERVER, AXON_ECONNECT, AXON_ETIMEOUT,
 * AXON_EPROTOCOL or AXON_ETOOBIG when it fails. What they hand over is the caller's; free it with
 * axon_value_free(). Fields that axon does not know are left in. */

/** The names of the server's simulators. A server of the document's age has one: the backend_name that it says.
 *  @param names  a list of strings: a reply that has anything else in it is AXON_EPROTOCOL */
AXON_API axon_status axon_simulator_list_simulators(axon_simulator *simulator, axon_value **names,
                                                    axon_error *err);

/** Chooses the session's simulator, once. Of a server of the document's age only the one that it has can be chosen;
 *  another name is AXON_ESERVER, "unknown_simulator". */
AXON_API axon_status axon_simulator_select(axon_simulator *simulator, const char *name, axon_error *err);

/** @param suite  only tasks of this suite; NULL: all
 *  @param tasks  a list of strings: a reply that has anything else in it is AXON_EPROTOCOL */
AXON_API axon_status axon_simulator_list_tasks(axon_simulator *simulator, const char *suite,
                                               axon_value **tasks, axon_error *err);

/** @param task_info  a map: task_name, description, action_space, max_episode_steps */
AXON_API axon_status axon_simulator_load_task(axon_simulator *simulator, const char *task_name,
                                              axon_value **task_info, axon_error *err);

/** Begins an episode. @param observation  a map */
AXON_API axon_status axon_simulator_reset(axon_simulator *simulator, axon_value **observation,
                                          axon_error *err);

/** What one step led to. */
typedef struct axon_simulator_outcome {
    axon_value *reply;             /**< the caller's; free it with axon_value_free() */
    const axon_value *observation; /**< a map, in the reply */
    const axon_value *info;        /**< a map, in the reply; NULL when the server sent none */
    double reward;
    int32_t terminated; /**< 1: the task succeeded or failed */
    int32_t truncated;  /**< 1: the episode ran out of steps */
} axon_simulator_outcome;

/** One step.
 *  @param action   a map of arrays or lists of numbers; read during the call only, never changed
 *  @param outcome  written on AXON_OK */
AXON_API axon_status axon_simulator_step(axon_simulator *simulator, const axon_value *action,
                                         axon_simulator_outcome *outcome, axon_error *err);

/** @param info  a map: backend_name, backend_version, current_task, action_space, observation_space */
AXON_API axon_status axon_simulator_get_info(axon_simulator *simulator, axon_value **info, axon_error *err);

/** Ends the session at the server. A later call begins another one, with nothing chosen. */
AXON_API axon_status axon_simulator_disconnect(axon_simulator *simulator, axon_error *err);

/** Asks for a method of the server's own.
 *  @param fields  a map of what goes along; may be NULL; read during the call only
 *  @param reply   a map, without its "status" */
AXON_API axon_status axon_simulator_call(axon_simulator *simulator, const char *method,
                                         const axon_value *fields, axon_value **reply, axon_error *err);

/** The error_type of the server's last error, "not_reset"; NULL when the last call did not end in one. Valid until
 *  the next call. */
AXON_API const char *axon_simulator_error_type(const axon_simulator *simulator);

/** The whole message of that error. */
AXON_API const char *axon_simulator_server_error(const axon_simulator *simulator);

/** Of the last call that returned AXON_OK; server_ms is negative. @return AXON_EINVAL when there was none yet */
AXON_API axon_status axon_simulator_timing(const axon_simulator *simulator, axon_timing *timing,
                                           axon_error *err);

typedef struct axon_simulator_stats {
    uint64_t calls;
    uint64_t replies;   /**< to them: the calls that returned AXON_OK */
    uint64_t errors;    /**< calls that were AXON_ESERVER */
    uint64_t timeouts;  /**< calls that were AXON_ETIMEOUT */
    uint64_t cancels;   /**< calls that were AXON_ECANCELED */
    uint64_t discarded; /**< late replies that were thrown away */
    uint64_t sessions;  /**< begun, the first one included */
    uint64_t window;    /**< steps that the percentiles are of, at most AXON_STATS_WINDOW, the last ones */
    axon_percentiles step; /**< the whole of axon_simulator_step() */
} axon_simulator_stats;

/** @param stats  the caller's; written whole. The same thread rule as for calls */
AXON_API axon_status axon_simulator_get_stats(const axon_simulator *simulator, axon_simulator_stats *stats,
                                              axon_error *err);

/** Ends the call that another thread is waiting in with AXON_ECANCELED; does nothing when there is none. */
AXON_API void axon_simulator_cancel(axon_simulator *simulator);

/** Ends the session at the server, as far as it answers, and frees everything. @param simulator  may be NULL */
AXON_API void axon_simulator_close(axon_simulator *simulator);

AXON_END

#endif
