/* What the binding needs of a request beyond axon/server.h. */
#ifndef AXI_SERVER_INTERNAL_H
#define AXI_SERVER_INTERNAL_H

#include <axon/server.h>

/* The message that a request's value points into, so that its arrays can outlive the request where they lie: the
 * caller's, to be freed. The value may not be looked at any more once that was done. */
void *axi_request_take_message(axon_request *request, size_t *length);

#endif
