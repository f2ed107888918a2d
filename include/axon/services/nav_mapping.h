/* axon/services/nav_mapping.h - a two-dimensional occupancy grid from depth images, and paths through it.
 *
 * Feed depth frames with the robot's pose; ask for the map, for a path (A*, obstacles inflated by the robot's radius),
 * or for the frontiers worth exploring.
 *
 * @service nav-mapping 0.1.0
 * @class   NavMappingClient
 * @type    service
 * @host    http://127.0.0.1:8004
 * @timeout 30 s
 * @repo    TidyBot-Services/nav-mapping-service master
 * @added   2026-02-15 steve
 * @changed 2026-11-21
 */
#ifndef AXON_SERVICES_NAV_MAPPING_H
#define AXON_SERVICES_NAV_MAPPING_H

#include <axon/service.h>

AXON_BEGIN

/** How to map and plan. Zero means the default. */
typedef struct axon_nav_mapping_options {
    size_t size;               /**< sizeof(axon_nav_mapping_options); 0 is AXON_EINVAL */
    double max_range;          /**< depth beyond this is not used, in m; default 5.0 */
    axon_choice use_inflation; /**< keep the robot's radius from obstacles; default AXON_YES */
    const char *format;        /**< of the map: "png", "json" or "info"; default "png" */
} axon_nav_mapping_options;

/** Adds one depth frame to the map.
 *  @http    POST /update
 *  @wire    named=pose:x,y,theta named=intrinsics:fx,fy,cx,cy
 *  @options max_range
 *  @param   depth_image  uint16 pixels or a 16-bit PNG, in mm; read during the call only
 *  @param   pose         of the robot: (x, y) in m, theta in rad
 *  @param   intrinsics   of the camera: (fx, fy, cx, cy) in pixels
 *  @param   reply        {status, update_ms, map_shape: [height, width]};
 *                        the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example status = client.update(depth_bytes, pose=(0.0, 0.0, 0.0), intrinsics=(615.0, 615.0, 320.0, 240.0))
 */
AXON_API axon_status axon_nav_mapping_update(axon_service *service, const axon_image *depth_image,
                                             const axon_pose2 *pose, const axon_intrinsics *intrinsics,
                                             const axon_nav_mapping_options *opts, axon_value **reply,
                                             axon_error *err);

/** The map as it is now.
 *  @http    GET /map
 *  @options format
 *  @wire    query=format
 *  @param   reply  "png": bytes of a picture (0 free, 127 unknown, 255 occupied); "json": {grid, resolution in m,
 *                  origin}; "info": {shape, resolution, origin, robot_radius, free_cells, occupied_cells,
 *                  unknown_cells}; the caller's, free it with axon_value_free()
 *  @return  as axon_service_get()
 *  @example picture = client.get_map()
 */
AXON_API axon_status axon_nav_mapping_get_map(axon_service *service, const axon_nav_mapping_options *opts,
                                              axon_value **reply, axon_error *err);

/** A path from one place to another.
 *  @http    POST /plan
 *  @options use_inflation
 *  @param   start  [x, y] in m
 *  @param   goal   [x, y] in m
 *  @param   reply  {path_grid: list of cells, path_world: list of [x, y] in m, length_m, planning_ms};
 *                  the caller's, free it with axon_value_free()
 *  @return  as axon_service_post(); AXON_ESERVER 404 when there is no path
 *  @example path = client.plan(start=(0.0, 0.0), goal=(2.0, 3.0))
 */
AXON_API axon_status axon_nav_mapping_plan(axon_service *service, const double start[2],
                                           const double goal[2], const axon_nav_mapping_options *opts,
                                           axon_value **reply, axon_error *err);

/** The borders between known and unknown space.
 *  @http    GET /frontiers
 *  @param   reply  {frontiers, count, detection_ms}; the caller's, free it with axon_value_free()
 *  @return  as axon_service_get()
 *  @example frontiers = client.get_frontiers()
 */
AXON_API axon_status axon_nav_mapping_get_frontiers(axon_service *service, axon_value **reply,
                                                    axon_error *err);

/** Forgets the map.
 *  @http    POST /reset
 *  @param   reply  {status, message}; the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example client.reset()
 */
AXON_API axon_status axon_nav_mapping_reset(axon_service *service, axon_value **reply, axon_error *err);

AXON_END

#endif
