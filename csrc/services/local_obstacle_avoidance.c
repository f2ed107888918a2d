/* See axon/services/local_obstacle_avoidance.h. */
#include "../service_internal.h"

#include <axon/services/local_obstacle_avoidance.h>

axon_status axon_local_obstacle_avoidance_update_depth(axon_service *service, const axon_image *image,
                                                       double fx, double fy, double cx, double cy,
                                                       axon_value **reply, axon_error *err)
{
    axi_call call = axi_call_start(service, "/update_depth", err);
    axi_call_image(&call, "image", image);
    axi_call_positive(&call, "fx", fx, 0);
    axi_call_positive(&call, "fy", fy, 0);
    axi_call_number(&call, "cx", cx);
    axi_call_number(&call, "cy", cy);
    return axi_call_post(&call, NULL, reply);
}

axon_status axon_local_obstacle_avoidance_safe_velocity(axon_service *service,
                                                        const axon_local_obstacle_avoidance_options *opts,
                                                        axon_value **reply, axon_error *err)
{
    axon_local_obstacle_avoidance_options o;
    axi_call call = axi_call_start(service, "/safe_velocity", err);
    axi_call_options(&call, &o, sizeof o, opts);
    axi_call_number(&call, "target_vx", o.target_vx);
    axi_call_number(&call, "target_omega", o.target_omega);
    if (o.goal_x) axi_call_number(&call, "goal_x", *o.goal_x);
    if (o.goal_y) axi_call_number(&call, "goal_y", *o.goal_y);
    return axi_call_post(&call, NULL, reply);
}

axon_status axon_local_obstacle_avoidance_costmap(axon_service *service,
                                                  const axon_local_obstacle_avoidance_options *opts,
                                                  axon_value **reply, axon_error *err)
{
    static const char *const formats[] = {"png", "json", NULL};
    axon_local_obstacle_avoidance_options o;
    axi_call call = axi_call_start(service, "/costmap", err);
    axi_call_options(&call, &o, sizeof o, opts);
    axi_call_query(&call, "format", o.format, formats);
    return axi_call_get(&call, NULL, reply);
}

axon_status axon_local_obstacle_avoidance_estop_status(axon_service *service, axon_value **reply,
                                                       axon_error *err)
{
    axi_call call = axi_call_start(service, "/estop_status", err);
    return axi_call_get(&call, NULL, reply);
}
