/* See axon/services/grounded_sam2.h. */
#include "../service_internal.h"

#include <axon/services/grounded_sam2.h>

static const char *const mask_formats[] = {"polygon", "rle", "bitmap", NULL};
static const char *const pictures[] = {"jpeg", "png", NULL};

static axi_call start(axon_service *service, const char *path, const axon_image *image,
                      const char *const *prompts, size_t prompt_count, axon_grounded_sam2_options *o,
                      const axon_grounded_sam2_options *opts, axon_error *err)
{
    axi_call call = axi_call_start(service, path, err);
    axi_call_options(&call, o, sizeof *o, opts);
    axi_call_image(&call, "image", image);
    axi_call_strings(&call, "prompts", prompts, prompt_count);
    axi_call_fraction(&call, "conf", o->conf, 0.3);
    return call;
}

axon_status axon_grounded_sam2_detect(axon_service *service, const axon_image *image,
                                      const char *const *prompts, size_t prompt_count,
                                      const axon_grounded_sam2_options *opts, axon_value **found,
                                      axon_error *err)
{
    axon_grounded_sam2_options o;
    axi_call call = start(service, "/detect", image, prompts, prompt_count, &o, opts, err);
    axi_call_flag(&call, "return_masks", AXON_NO, false);
    return axi_call_post(&call, "detections", found);
}

axon_status axon_grounded_sam2_detect_full(axon_service *service, const axon_image *image,
                                           const char *const *prompts, size_t prompt_count,
                                           const axon_grounded_sam2_options *opts, axon_value **reply,
                                           axon_error *err)
{
    axon_grounded_sam2_options o;
    axi_call call = start(service, "/detect", image, prompts, prompt_count, &o, opts, err);
    axi_call_flag(&call, "return_masks", o.return_masks, true);
    axi_call_choice(&call, "mask_format", o.mask_format, mask_formats);
    return axi_call_post(&call, NULL, reply);
}

axon_status axon_grounded_sam2_visualize(axon_service *service, const axon_image *image,
                                         const char *const *prompts, size_t prompt_count,
                                         const axon_grounded_sam2_options *opts, axon_value **picture,
                                         axon_error *err)
{
    axon_grounded_sam2_options o;
    axi_call call = start(service, "/visualize", image, prompts, prompt_count, &o, opts, err);
    axi_call_flag(&call, "return_masks", o.return_masks, true);
    axi_call_query(&call, "fmt", o.fmt, pictures);
    axi_call_query_count(&call, "quality", o.quality, 90, 1, 100);
    return axi_call_post(&call, NULL, picture);
}
