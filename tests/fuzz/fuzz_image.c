/* Whatever the bytes are: opening and decoding them ends with a status, within bounds. */
#include <axon/image.h>

#include <stdlib.h>

static void look_at(axon_image *image)
{
    axon_image_info info = {.size = sizeof info};
    axon_array pixels;
    if (axon_image_inspect(image, &info, NULL) != AXON_OK) abort();
    /* a large one is slow under sanitizers, and no other case */
    if ((int64_t)info.width * info.height <= 1 << 20 &&
        axon_image_decode(image, AXON_BGR, &pixels, NULL) == AXON_OK) {
        if (pixels.shape[0] != info.height || pixels.shape[1] != info.width) abort();
        axon_free((void *)(uintptr_t)pixels.data);
    }
    axon_image_close(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    axon_image *image;
    if (axon_image_open_bytes(data, size, &image, NULL) == AXON_OK) look_at(image);
    if (axon_image_open_base64((const char *)data, (int64_t)size, &image, NULL) == AXON_OK) look_at(image);
    return 0;
}
