/* See ticker.h. */
#include "ticker.h"

static bool sleep_for_a_tick(axi_ticker *ticker)
{
    axi_time until = axi_deadline(ticker->period_ms);
    pthread_mutex_lock(&ticker->lock);
    while (!ticker->is_stopping && axi_condition_wait(&ticker->stop, &ticker->lock, until))
        ;
    bool goes_on = !ticker->is_stopping;
    pthread_mutex_unlock(&ticker->lock);
    return goes_on;
}

static void *tick_on(void *argument)
{
    axi_ticker *ticker = argument;
    while (sleep_for_a_tick(ticker))
        ticker->tick(ticker->argument);
    return NULL;
}

static void release(axi_ticker *ticker)
{
    pthread_cond_destroy(&ticker->stop);
    pthread_mutex_destroy(&ticker->lock);
    ticker->is_running = false;
}

bool axi_ticker_start(axi_ticker *ticker, uint32_t period_ms, void (*tick)(void *argument), void *argument)
{
    *ticker = (axi_ticker){.is_running = true, .period_ms = period_ms, .tick = tick, .argument = argument};
    pthread_mutex_init(&ticker->lock, NULL);
    axi_condition_init(&ticker->stop);
    if (axi_thread_start(&ticker->thread, tick_on, ticker) == 0) return true;
    release(ticker);
    return false;
}

void axi_ticker_stop(axi_ticker *ticker)
{
    if (!ticker->is_running) return;
    pthread_mutex_lock(&ticker->lock);
    ticker->is_stopping = true;
    pthread_cond_signal(&ticker->stop);
    pthread_mutex_unlock(&ticker->lock);
    pthread_join(ticker->thread, NULL);
    release(ticker);
}
