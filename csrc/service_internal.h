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
    char query[64]; /* "?format=png"; empty without one */
    axon_value *body;
    axon_error *err;
    axon_status status;
} axi_call;

/* Copies a caller's options struct, which may be NULL (all defaults), shorter (of an older axon) or longer (of a
 * newer one, as long as it asks for nothing unknown). Every such struct begins with its size. */
axon_status axi_options_read(void *options, size_t size, const void *given, axon_error *err);

/* What a server listens on, with the defaults filled in: 127.0.0.1, and `standard` for port 0. */
axon_status axi_options_listen(const char **host, int32_t *port, int32_t standard, axon_error *err);

/* One request: a POST of `body`, or a GET when that is NULL. Hands over one member of the reply, a list, or the whole
 * when `member` is NULL; `as_tree` parses it whatever the service's reply_form is. */
axon_status axi_service_call(axon_service *service, const char *path, const axon_value *body,
                             const char *member, bool as_tree, axon_value **value, axon_error *err);

/* `path` is borrowed. Ends in axi_call_post() or axi_call_get(), always. */
axi_call axi_call_start(axon_service *service, const char *path, axon_error *err);

/* As axi_options_read(). */
void axi_call_options(axi_call *call, void *options, size_t size, const void *given);

/* Puts `value`, the call's from now on, into the body. */
void axi_call_set(axi_call *call, const char *key, axon_value *value);
/* NULL is AXON_EINVAL. */
void axi_call_image(axi_call *call, const char *key, const axon_image *image);
/* Pixels travel as a .npy file, whatever their dtype; file bytes as they are. */
void axi_call_depth(axi_call *call, const char *key, const axon_image *image);
/* NULL and "" mean `standard`. */
void axi_call_string(axi_call *call, const char *key, const char *text, const char *standard);
/* One of `choices`, which ends with NULL; its first is the default. */
void axi_call_choice(axi_call *call, const char *key, const char *text, const char *const *choices);
/* At least one; none of them NULL. */
void axi_call_strings(axi_call *call, const char *key, const char *const *texts, size_t count);
/* 0 to 1; 0 means `standard`, and a negative number 0. */
void axi_call_fraction(axi_call *call, const char *key, double number, double standard);
/* Finite, above 0; 0 means `standard`, and where that is 0, too, a number above 0 is a must. */
void axi_call_positive(axi_call *call, const char *key, double number, double standard);
/* Finite. */
void axi_call_number(axi_call *call, const char *key, double number);
/* Finite, as a list. */
void axi_call_numbers(axi_call *call, const char *key, const double *numbers, size_t count);
/* Finite, as a list of rows. */
void axi_call_rows(axi_call *call, const char *key, const double *numbers, size_t rows, size_t columns);
/* `least` to `most`; 0 means `standard`. */
void axi_call_count(axi_call *call, const char *key, int32_t number, int32_t standard, int32_t least,
                    int32_t most);
void axi_call_flag(axi_call *call, const char *key, axon_choice choice, bool standard);
/* Maps of finite numbers. NULL is AXON_EINVAL. */
void axi_call_intrinsics(axi_call *call, const char *key, const axon_intrinsics *intrinsics);
void axi_call_pose(axi_call *call, const char *key, const axon_pose2 *pose);
/* One of `choices`, as axi_call_choice(), behind the path instead of in the body. */
void axi_call_query(axi_call *call, const char *key, const char *text, const char *const *choices);
/* A count, as axi_call_count(), behind the path. */
void axi_call_query_count(axi_call *call, const char *key, int32_t number, int32_t standard, int32_t least,
                          int32_t most);

/* Sends the body, frees it, and hands over one member of the reply, a list, or the whole reply when `member` is NULL. */
axon_status axi_call_post(axi_call *call, const char *member, axon_value **reply);
/* Likewise, the whole reply always as a tree that can be changed: for replies with arrays in base64. */
axon_status axi_call_post_tree(axi_call *call, axon_value **reply);
/* Likewise, without a body. */
axon_status axi_call_get(axi_call *call, const char *member, axon_value **reply);

/* Members of a reply that are base64 text: of a .npy file, replaced by the array; of any bytes, replaced by
 * them. A member that is null is taken out; one that is not there is left so. On failure `reply` is freed. */
axon_status axi_reply_array(axon_value **reply, const char *key, axon_error *err);
axon_status axi_reply_bytes(axon_value **reply, const char *key, axon_error *err);

#endif
