/* Threads of the library's own, and waiting for them. */
#ifndef AXI_THREAD_H
#define AXI_THREAD_H

#include "internal.h"

#include <pthread.h>

/* Starts a thread on which no signal is handled: those are for the application's. 0, or an error of errno.h. */
int axi_thread_start(pthread_t *thread, void *(*function)(void *), void *argument);

/* A condition that goes by the library's clock, as the two functions below ask for. */
void axi_condition_init(pthread_cond_t *condition);

/* Waits until somebody signals, or `deadline` has passed: false then. */
bool axi_condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock, axi_time deadline);

/* Likewise, for AXI_LOOK_UP_MS at the longest: callers look up for interrupts in between. */
bool axi_condition_wait_a_while(pthread_cond_t *condition, pthread_mutex_t *lock, axi_time deadline);

#endif
