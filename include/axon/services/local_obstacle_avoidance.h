/* axon/services/local_obstacle_avoidance.h - velocities that do not run into things (dynamic window approach).
 *
 * Feed depth frames; a costmap of the robot's surroundings (3 to 5 m) is kept from them. Ask what is safe of the velocity
 * that you want. An emergency stop is on while something is too near.
 *
 * @service local-obstacle-avoidance 0.1.0
 * @class   ObstacleAvoidanceClient
 * @type    service
 * @host    http://127.0.0.1:8007
 * @timeout 30 s
 * @repo    TidyBot-Services/local-obstacle-avoidance-service master
 * @added   2026-02-16 steve
 * @changed 2026-11-21
 */
#ifndef AXON_SERVICES_LOCAL_OBSTACLE_AVOIDANCE_H
#define AXON_SERVICES_LOCAL_OBSTACLE_AVOIDANCE_H

#include <axon/service.h>

AXON_BEGIN

/** Where to go, and how the costmap is wanted. Zero means the default. */
typedef struct axon_local_obstacle_avoidance_options {
    size_t size;          /**< sizeof(axon_local_obstacle_avoidance_options); 0 is AXON_EINVAL */
    double target_vx;     /**< wanted forward velocity in m/s; default 0.0 */
    double target_omega;  /**< wanted turning velocity in rad/s; default 0.0 */
    const double *goal_x; /**< forward, in m, in the robot's frame; default none */
    const double *goal_y; /**< to the left, in m, in the robot's frame; default none */
    const char *format;   /**< of the costmap: "png" or "json"; default "png" */
} axon_local_obstacle_avoidance_options;

/** Updates the costmap with one depth frame.
 *  @http    POST /update_depth
 *  @param   image  uint16 pixels or a 16-bit PNG, in mm; read during the call only
 *  @param   fx     focal length in pixels, as fy
 *  @param   fy     focal length in pixels
 *  @param   cx     principal point in pixels, as cy
 *  @param   cy     principal point in pixels
 *  @param   reply  {status, estop_active, costmap_coverage, timestamp};
 *                  the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example client.update_depth(depth_bytes, fx=615.0, fy=615.0, cx=320.0, cy=240.0)
 */
AXON_API axon_status axon_local_obstacle_avoidance_update_depth(axon_service *service,
                                                                const axon_image *image, double fx,
                                                                double fy, double cx, double cy,
                                                                axon_value **reply, axon_error *err);

/** The velocity nearest to the wanted one that is safe.
 *  @http    POST /safe_velocity
 *  @options target_vx, target_omega, goal_x, goal_y
 *  @param   reply  {safe_vx in m/s, safe_omega in rad/s, estop_active, dwa_score, or reason while the emergency
 *                  stop is on}; the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example command = client.safe_velocity(target_vx=0.3)
 */
AXON_API axon_status axon_local_obstacle_avoidance_safe_velocity(
    axon_service *service, const axon_local_obstacle_avoidance_options *opts, axon_value **reply,
    axon_error *err);

/** The costmap as it is now.
 *  @http    GET /costmap
 *  @options format
 *  @wire    query=format
 *  @param   reply  "png": bytes of a picture; "json": {costmap, size, resolution};
 *                  the caller's, free it with axon_value_free()
 *  @return  as axon_service_get()
 *  @example picture = client.costmap()
 */
AXON_API axon_status axon_local_obstacle_avoidance_costmap(
    axon_service *service, const axon_local_obstacle_avoidance_options *opts, axon_value **reply,
    axon_error *err);

/** Whether the emergency stop is on.
 *  @http    GET /estop_status
 *  @param   reply  {estop_active, min_obstacle_distance_threshold in m, last_update};
 *                  the caller's, free it with axon_value_free()
 *  @return  as axon_service_get()
 *  @example stopped = client.estop_status()["estop_active"]
 */
AXON_API axon_status axon_local_obstacle_avoidance_estop_status(axon_service *service, axon_value **reply,
                                                                axon_error *err);

AXON_END

#endif
