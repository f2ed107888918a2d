/* From a URL to a connection: looking up names, trying every address, trying again. */
#ifndef AXI_WS_DIAL_H
#define AXI_WS_DIAL_H

#include "ws_link.h"

/* `url` must live as long as the link. Messages lack their subject, the URL. */
axon_status axi_ws_dial(axi_link **link, const axi_ws_url *url, const axi_ws_options *options,
                        axi_time deadline, axon_error *err);

/* Waits for `*pause_ms` before another try, up to half of it less by chance and never beyond `deadline`, and doubles
 * it for the next one, up to `max_ms`. AXON_ECANCELED when interrupted or when `*is_cancelled`, which may be NULL,
 * becomes true; the message lacks its subject. */
axon_status axi_ws_pause(uint32_t *pause_ms, uint32_t max_ms, axi_time deadline,
                         const atomic_bool *is_cancelled, axon_error *err);

#endif
