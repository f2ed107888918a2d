/* See axon/services/lightweight_grasp_net.h. */
#include "../service_internal.h"

#include <axon/services/lightweight_grasp_net.h>

axon_status axon_lightweight_grasp_net_detect(axon_service *service, const axon_image *rgb_image,
                                              const axon_image *depth_image,
                                              const axon_lightweight_grasp_net_options *opts,
                                              axon_value **reply, axon_error *err)
{
    axon_lightweight_grasp_net_options o;
    axi_call call = axi_call_start(service, "/detect", err);
    axi_call_options(&call, &o, sizeof o, opts);
    axi_call_image(&call, "rgb_image", rgb_image);
    axi_call_image(&call, "depth_image", depth_image);
    axi_call_count(&call, "num_grasps", o.num_grasps, 5, 1, INT32_MAX);
    return axi_call_post(&call, NULL, reply);
}
