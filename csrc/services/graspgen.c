/* See axon/services/graspgen.h. */
#include "../service_internal.h"

#include <axon/services/graspgen.h>

static bool is_given(const double *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (numbers[i] != 0) return true;
    return false;
}

static axon_status generate(axon_service *service, const axon_image *depth_image,
                            const axon_graspgen_options *opts, const char *member, axon_value **reply,
                            axon_error *err)
{
    static const double z_range[2] = {0.2, 1.8};
    axon_graspgen_options o;
    axi_call call = axi_call_start(service, "/generate", err);
    axi_call_options(&call, &o, sizeof o, opts);
    axi_call_depth(&call, "depth_image", depth_image);
    axi_call_count(&call, "num_grasps", o.num_grasps, 10, 1, 200);
    axi_call_numbers(&call, "z_range", is_given(o.z_range, 2) ? o.z_range : z_range, 2);
    axi_call_positive(&call, "depth_scale", o.depth_scale, 0.001);
    if (o.mask) axi_call_image(&call, "mask", o.mask);
    if (is_given(o.camera_matrix, 9)) axi_call_rows(&call, "camera_matrix", o.camera_matrix, 3, 3);
    return axi_call_post(&call, member, reply);
}

axon_status axon_graspgen_generate(axon_service *service, const axon_image *depth_image,
                                   const axon_graspgen_options *opts, axon_value **grasps, axon_error *err)
{
    return generate(service, depth_image, opts, "grasps", grasps, err);
}

axon_status axon_graspgen_generate_full(axon_service *service, const axon_image *depth_image,
                                        const axon_graspgen_options *opts, axon_value **reply,
                                        axon_error *err)
{
    return generate(service, depth_image, opts, NULL, reply, err);
}
