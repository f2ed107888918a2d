/* axon/services/realsense_slam.h - where the camera is, and a map, from its pictures (visual SLAM).
 *
 * Feed RGB and depth frames; ask for the camera's pose and for the map. The names of the fields are those of the
 * service's catalog entry; no server of it is public, so they are not confirmed against one.
 *
 * @service realsense-slam 0.1.0
 * @class   SLAMClient
 * @type    service
 * @host    http://127.0.0.1:8005
 * @timeout 60 s
 * @color   bgr
 * @repo    TidyBot-Services/realsense-slam master
 * @added   2026-02-16 steve
 * @changed 2026-11-21
 */
#ifndef AXON_SERVICES_REALSENSE_SLAM_H
#define AXON_SERVICES_REALSENSE_SLAM_H

#include <axon/service.h>

AXON_BEGIN

/** Where maps are kept. Zero means the default. */
typedef struct axon_realsense_slam_options {
    size_t size;      /**< sizeof(axon_realsense_slam_options); 0 is AXON_EINVAL */
    const char *path; /**< of the map's file, on the service's machine; default the service's own */
} axon_realsense_slam_options;

/** Adds one frame.
 *  @http    POST /update
 *  @wire    named=intrinsics:fx,fy,cx,cy
 *  @param   rgb_image    JPEG or PNG bytes, or pixels; read during the call only
 *  @param   depth_image  aligned to it: uint16 pixels or a 16-bit PNG, in mm
 *  @param   intrinsics   of the camera: (fx, fy, cx, cy) in pixels
 *  @param   reply        what the service says; the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example client.update(rgb_bytes, depth_bytes, intrinsics=(615.0, 615.0, 320.0, 240.0))
 */
AXON_API axon_status axon_realsense_slam_update(axon_service *service, const axon_image *rgb_image,
                                                const axon_image *depth_image,
                                                const axon_intrinsics *intrinsics, axon_value **reply,
                                                axon_error *err);

/** The camera's pose in the map.
 *  @http    GET /pose
 *  @param   reply  {translation, quaternion, euler, matrix}; the caller's, free it with axon_value_free()
 *  @return  as axon_service_get()
 *  @example pose = client.get_pose()
 */
AXON_API axon_status axon_realsense_slam_get_pose(axon_service *service, axon_value **reply,
                                                  axon_error *err);

/** The map as points in space.
 *  @http    GET /map/pointcloud
 *  @param   reply  what the service says; the caller's, free it with axon_value_free()
 *  @return  as axon_service_get()
 *  @example points = client.get_pointcloud()
 */
AXON_API axon_status axon_realsense_slam_get_pointcloud(axon_service *service, axon_value **reply,
                                                        axon_error *err);

/** The map as an occupancy grid.
 *  @http    GET /map/occupancy
 *  @param   reply  what the service says; the caller's, free it with axon_value_free()
 *  @return  as axon_service_get()
 *  @example grid = client.get_occupancy()
 */
AXON_API axon_status axon_realsense_slam_get_occupancy(axon_service *service, axon_value **reply,
                                                       axon_error *err);

/** Keeps the map in a file.
 *  @http    POST /map/save
 *  @param   reply  what the service says; the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example client.save_map()
 */
AXON_API axon_status axon_realsense_slam_save_map(axon_service *service,
                                                  const axon_realsense_slam_options *opts,
                                                  axon_value **reply, axon_error *err);

/** Takes the map from a file.
 *  @http    POST /map/load
 *  @param   reply  what the service says; the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example client.load_map()
 */
AXON_API axon_status axon_realsense_slam_load_map(axon_service *service,
                                                  const axon_realsense_slam_options *opts,
                                                  axon_value **reply, axon_error *err);

/** Forgets map and pose.
 *  @http    POST /reset
 *  @param   reply  what the service says; the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example client.reset()
 */
AXON_API axon_status axon_realsense_slam_reset(axon_service *service, axon_value **reply, axon_error *err);

AXON_END

#endif
