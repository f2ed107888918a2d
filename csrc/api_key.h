/* API keys as openpi's clients and servers have them: "Authorization: Api-Key <key>". */
#ifndef AXI_API_KEY_H
#define AXI_API_KEY_H

#include "internal.h"

enum { AXI_API_KEY_BYTES = 4096 /* the longest */ };

/* Whether `text` may stand in a header's value, so that it cannot bring headers of its own along. */
bool axi_is_header_text(const char *text);

/* AXON_EINVAL, naming api_key, when no header could carry it. */
axon_status axi_api_key_check(const char *key, axon_error *err);

/* The same for a server's key, which must not be empty either. */
axon_status axi_api_key_check_own(const char *key, axon_error *err);

/* The header's value, malloc'ed; NULL when memory ran out. */
char *axi_api_key_header(const char *key);

/* Whether a client may enter: the header's value, empty without one, has the key. How long that takes tells nothing of
 * where the two differ. `key` NULL: everyone may. */
bool axi_api_key_admits(const char *authorization, const char *key);

/* What a client that may not is told, with HTTP 401. */
const char *axi_api_key_refusal(const char *authorization);

#endif
