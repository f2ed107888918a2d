/* The inside of axon_service: what the functions of csrc/services/ are written with.
 *
 *     axi_call call = axi_call_start(service, "/detect", err);
 *     axi_call_options(&call, &o, sizeof o, opts);
 *     axi_call_image(&call, "image", image);
 *     axi_call_fraction(&call, "conf", o.conf, 0.25);
 *     return axi_call_post(&call, "detections", found);
 *
 * The first failure stays: what follows it does nothing, and axi_call_post() or axi_call_get() returns it.
 */
#ifndef AXI_SERVICE_INTERNAL_H
#define AXI_SERVICE_INTERNAL_H

#include <axon/service.h>

#include "internal.h"

typedef struct axi_call {
    axon_service *service;
    const char *path;
    axon_value *body;
    axon_error *err;
    axon_status status;
} axi_call;

/* Copies a caller's options struct, which may be NULL (all defaults), shorter (of an older axon) or longer (of a
 * newer one, as long as it asks for nothing unknown). Every such struct begins with its size. */
axon_status axi_options_read(void *options, size_t size, const void *given, axon_error *err);

/* `path` is borrowed. Ends in axi_call_post() or axi_call_get(), always. */
axi_call axi_call_start(axon_service *service, const char *path, axon_error *err);

/* As axi_options_read(). */
void axi_call_options(axi_call *call, void *options, size_t size, const void *given);

/* Puts `value`, the call's from now on, into the body. */
void axi_call_set(axi_call *call, const char *key, axon_value *value);
/* NULL is AXON_EINVAL. */
void axi_call_image(axi_call *call, const char *key, const axon_image *image);
/* NULL and "" mean `standard`. */
void axi_call_string(axi_call *call, const char *key, const char *text, const char *standard);
/* One of `choices`, which ends with NULL; its first is the default. */
void axi_call_choice(axi_call *call, const char *key, const char *text, const char *const *choices);
/* 0 to 1; 0 means `standard`, and a negative number 0. */
void axi_call_fraction(axi_call *call, const char *key, double number, double standard);

/* Sends the body, frees it, and hands over one member of the reply, or the whole reply when `member` is NULL. */
axon_status axi_call_post(axi_call *call, const char *member, axon_value **reply);
/* Likewise, without a body. */
axon_status axi_call_get(axi_call *call, const char *member, axon_value **reply);

#endif
