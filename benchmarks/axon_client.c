/* axon from C: the public API as a robot's program would use it, one tree per observation. */
#include "contender.h"

#include <axon/policy.h>

#include <stdio.h>
#include <stdlib.h>

struct contender {
    axon_policy *policy;
    const bench_observation *observation;
    axon_value *actions; /* the last reply */
};

contender *contender_open(const char *host, int port, const bench_observation *observation)
{
    char url[128];
    axon_error error;
    contender *self = calloc(1, sizeof *self);
    if (!self) contender_fail("axon-c: no memory");
    self->observation = observation;
    snprintf(url, sizeof url, "ws://%s:%d", host, port);
    if (axon_policy_open(&self->policy, url, NULL, &error) != AXON_OK)
        contender_fail("axon-c: %s", error.message);
    return self;
}

static axon_value *build_tree(const bench_observation *o)
{
    axon_array image = {.dtype = AXON_UINT8, .ndim = 3, .shape = {o->height, o->width, CHANNELS}};
    axon_array state = {.dtype = AXON_FLOAT32, .ndim = 1, .shape = {STATE_DIM}, .data = o->state};
    axon_value *tree = axon_value_map();
    for (uint32_t i = 0; i < o->images; i++) {
        image.data = o->pixels[i];
        axon_value_set(tree, o->key[i], axon_value_array(&image));
    }
    axon_value_set(tree, STATE_KEY, axon_value_array(&state));
    axon_value_set(tree, PROMPT_KEY, axon_value_string(o->prompt, AXON_ZSTRING));
    return tree;
}

void contender_infer(contender *self)
{
    axon_error error;
    axon_value_free(self->actions);
    self->actions = NULL;
    axon_value *tree = build_tree(self->observation);
    axon_status status = axon_policy_infer(self->policy, tree, &self->actions, &error);
    axon_value_free(tree);
    if (status != AXON_OK) contender_fail("axon-c: %s", error.message);
}

bench_answer contender_answer(const contender *self)
{
    bench_answer answer = {0};
    const axon_array *actions;
    uint64_t bytes;
    if (axon_value_as_uint(axon_value_get(self->actions, "received_bytes"), &answer.received_bytes) !=
            AXON_OK ||
        axon_value_as_uint(axon_value_get(self->actions, "checksum"), &answer.checksum) != AXON_OK ||
        axon_value_as_array(axon_value_get(self->actions, "actions"), &actions) != AXON_OK ||
        axon_array_size(actions, &bytes, NULL) != AXON_OK) {
        contender_fail("axon-c: the reply lacks a field");
    }
    answer.actions_sum = contender_sum_words(actions->data, (size_t)bytes);
    return answer;
}

void contender_close(contender *self)
{
    axon_value_free(self->actions);
    axon_policy_close(self->policy);
    free(self);
}
