/* A thread that does something now and then. */
#ifndef AXI_TICKER_H
#define AXI_TICKER_H

#include "thread.h"

typedef struct axi_ticker {
    pthread_t thread;
    bool is_running;
    pthread_mutex_t lock; /* guards `is_stopping` */
    pthread_cond_t stop;
    bool is_stopping;
    uint32_t period_ms;
    void (*tick)(void *argument);
    void *argument;
} axi_ticker;

/* Calls `tick` every `period_ms` from its own thread; false when there is none to be had. */
bool axi_ticker_start(axi_ticker *ticker, uint32_t period_ms, void (*tick)(void *argument), void *argument);

/* Returns when `tick` has returned for the last time. One that never started, all zero, is fine. */
void axi_ticker_stop(axi_ticker *ticker);

#endif
