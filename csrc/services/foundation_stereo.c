/* See axon/services/foundation_stereo.h. */
#include "../service_internal.h"

#include <axon/services/foundation_stereo.h>

axon_status axon_foundation_stereo_depth(axon_service *service, const axon_image *left_image,
                                         const axon_image *right_image, double focal_length,
                                         double baseline, const axon_foundation_stereo_options *opts,
                                         axon_value **reply, axon_error *err)
{
    axon_foundation_stereo_options o;
    axi_call call = axi_call_start(service, "/depth", err);
    axi_call_options(&call, &o, sizeof o, opts);
    axi_call_image(&call, "left_image", left_image);
    axi_call_image(&call, "right_image", right_image);
    axi_call_positive(&call, "focal_length", focal_length, 0);
    axi_call_positive(&call, "baseline", baseline, 0);
    axi_call_count(&call, "valid_iters", o.valid_iters, 32, 1, 10000);
    axi_call_positive(&call, "scale", o.scale, 1.0);
    axi_call_flag(&call, "hiera", o.hiera, false);
    axi_call_flag(&call, "return_disparity", o.return_disparity, true);
    axi_call_flag(&call, "return_depth", o.return_depth, true);
    axi_call_flag(&call, "return_vis", o.return_vis, false);

    axon_value *answer = NULL;
    axon_status status = axi_call_post_tree(&call, reply ? &answer : NULL);
    if (status == AXON_OK) status = axi_reply_array(&answer, "disparity", err);
    if (status == AXON_OK) status = axi_reply_array(&answer, "depth", err);
    if (status == AXON_OK) status = axi_reply_bytes(&answer, "vis", err);
    if (status == AXON_OK) *reply = answer;
    return status;
}
