/* From a URL to a connection: looking up names, trying every address, trying again. */
#ifndef AXI_WS_DIAL_H
#define AXI_WS_DIAL_H

#include "ws_link.h"

/* `url` must live as long as the link. Messages lack their subject, the URL. */
axon_status axi_ws_dial(axi_link **link, const axi_ws_url *url, const axi_ws_options *options,
                        axi_time deadline, axon_error *err);

#endif
