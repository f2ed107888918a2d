/* Any msgpack message as a policy's reply: made a chunk of, and another one of the same layout. */
#include "chunk_internal.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every number is a number, and there are as many as the chunk says. */
static void check(const axon_chunk_engine *engine, const axi_chunk *chunk)
{
    if (chunk->steps == 0 || chunk->steps > chunk->rows || chunk->rows > AXON_CHUNK_MAX_STEPS) abort();
    size_t count = (size_t)chunk->rows * engine->layout->width;
    for (size_t i = 0; i < count; i++)
        if (!isfinite(chunk->numbers[i])) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    axon_value *reply;
    axon_error err;
    if (axon_value_from_msgpack(data, size, &reply, &err) != AXON_OK) return 0;
    axon_chunk_engine engine = {0};
    for (int i = 0; i < 2; i++) {
        axi_chunk *chunk = NULL;
        axon_status status = axi_chunk_read(&engine, reply, &chunk, &err);
        if (status == AXON_OK)
            check(&engine, chunk);
        else if (chunk || engine.layout)
            abort(); /* the same reply was good the first time, or nothing was to be left behind */
        free(chunk);
    }
    axi_chunk_free_layout(engine.layout);
    axon_value_free(reply);
    return 0;
}
