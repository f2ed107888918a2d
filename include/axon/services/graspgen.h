/* axon/services/graspgen.h - six-degree-of-freedom grasp poses from a depth image (Contact-GraspNet).
 *
 * Depth in, ranked grasp poses for a parallel gripper out, in the camera's frame.
 *
 * @service graspgen 0.1.0
 * @class   GraspGenClient
 * @type    model
 * @host    http://127.0.0.1:8002
 * @timeout 60 s
 * @depth   npy
 * @models  contact-graspnet-pytorch
 * @repo    TidyBot-Services/graspgen-service main
 * @added   2026-02-14 steve
 * @changed 2026-11-21
 * @stack   get_transforms_as_numpy transform 4 4 - the transforms of grasps, as generate gives them, as one float64
 *          array (N, 4, 4)
 */
#ifndef AXON_SERVICES_GRASPGEN_H
#define AXON_SERVICES_GRASPGEN_H

#include <axon/service.h>

AXON_BEGIN

/** Which grasps. Zero means the default. */
typedef struct axon_graspgen_options {
    size_t size;             /**< sizeof(axon_graspgen_options); 0 is AXON_EINVAL */
    const axon_image *mask;  /**< 255 where the object is, 0 elsewhere; default none: the whole scene */
    double camera_matrix[9]; /**< 3 x 3, row by row, in pixels; default a RealSense D435 at 640 x 480 */
    int32_t num_grasps;      /**< the most that come back, 1 to 200; default 10 */
    double z_range[2];       /**< nearest and farthest depth used, in m; default 0.2, 1.8 */
    double depth_scale;      /**< metres in one unit of an integer depth image; default 0.001 */
} axon_graspgen_options;

/** Proposes grasps, best first.
 *  @http    POST /generate
 *  @wire    member=grasps npy=depth_image rows=camera_matrix:3
 *  @param   depth_image  a 16-bit PNG or uint16 pixels in units of depth_scale, or float pixels in metres;
 *                        pixels travel as .npy; read during the call only
 *  @param   grasps       list of {transform: 4 x 4 in the camera's frame, score, contact_point: [x, y, z] in m,
 *                        gripper_opening in m}; the caller's, free it with axon_value_free()
 *  @return  as axon_service_post(); AXON_ESERVER 400 when no valid point is left, 503 while the model loads
 *  @example grasps = client.generate(depth_bytes, num_grasps=5)
 */
AXON_API axon_status axon_graspgen_generate(axon_service *service, const axon_image *depth_image,
                                            const axon_graspgen_options *opts, axon_value **grasps,
                                            axon_error *err);

/** Proposes grasps and gives the whole reply.
 *  @http    POST /generate
 *  @wire    npy=depth_image rows=camera_matrix:3
 *  @param   depth_image  as for generate
 *  @param   reply        {grasps: as above; num_grasps, device, inference_ms, point_cloud_size};
 *                        the caller's, free it with axon_value_free()
 *  @return  as generate
 *  @example reply = client.generate_full(depth_bytes, z_range=(0.3, 1.0))
 */
AXON_API axon_status axon_graspgen_generate_full(axon_service *service, const axon_image *depth_image,
                                                 const axon_graspgen_options *opts, axon_value **reply,
                                                 axon_error *err);

AXON_END

#endif
