/* axon/services/lightweight_grasp_net.h - grasps for a parallel gripper, in the picture's plane (GR-ConvNet v2).
 *
 * RGB and depth in, ranked grasps out, in under 50 ms. The names of the fields are those of the service's catalog
 * entry; no server of it is public, so they are not confirmed against one.
 *
 * @service lightweight-grasp-net 0.1.0
 * @class   LightweightGraspClient
 * @type    model
 * @host    http://127.0.0.1:8006
 * @timeout 60 s
 * @color   bgr
 * @models  gr-convnet-v2
 * @repo    TidyBot-Services/lightweight-grasp-service main
 * @added   2026-02-16 steve
 * @changed 2026-11-21
 */
#ifndef AXON_SERVICES_LIGHTWEIGHT_GRASP_NET_H
#define AXON_SERVICES_LIGHTWEIGHT_GRASP_NET_H

#include <axon/service.h>

AXON_BEGIN

/** How many grasps. Zero means the default. */
typedef struct axon_lightweight_grasp_net_options {
    size_t size;        /**< sizeof(axon_lightweight_grasp_net_options); 0 is AXON_EINVAL */
    int32_t num_grasps; /**< the most that come back, at least 1; default 5 */
} axon_lightweight_grasp_net_options;

/** Proposes grasps, best first.
 *  @http    POST /detect
 *  @param   rgb_image    JPEG or PNG bytes, or pixels; read during the call only
 *  @param   depth_image  aligned to it: uint16 pixels or a 16-bit PNG, in mm
 *  @param   reply        {grasps: list of {position: [x, y] in pixels, angle in rad, width, quality, transform:
 *                        4 x 4}}; the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example result = client.detect(rgb_bytes, depth_bytes, num_grasps=5)
 */
AXON_API axon_status axon_lightweight_grasp_net_detect(axon_service *service, const axon_image *rgb_image,
                                                       const axon_image *depth_image,
                                                       const axon_lightweight_grasp_net_options *opts,
                                                       axon_value **reply, axon_error *err);

AXON_END

#endif
