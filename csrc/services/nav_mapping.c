/* See axon/services/nav_mapping.h. */
#include "../service_internal.h"

#include <axon/services/nav_mapping.h>

axon_status axon_nav_mapping_update(axon_service *service, const axon_image *depth_image,
                                    const axon_pose2 *pose, const axon_intrinsics *intrinsics,
                                    const axon_nav_mapping_options *opts, axon_value **reply,
                                    axon_error *err)
{
    axon_nav_mapping_options o;
    axi_call call = axi_call_start(service, "/update", err);
    axi_call_options(&call, &o, sizeof o, opts);
    axi_call_image(&call, "depth_image", depth_image);
    axi_call_pose(&call, "pose", pose);
    axi_call_intrinsics(&call, "intrinsics", intrinsics);
    axi_call_positive(&call, "max_range", o.max_range, 5.0);
    return axi_call_post(&call, NULL, reply);
}

axon_status axon_nav_mapping_get_map(axon_service *service, const axon_nav_mapping_options *opts,
                                     axon_value **reply, axon_error *err)
{
    static const char *const formats[] = {"png", "json", "info", NULL};
    axon_nav_mapping_options o;
    axi_call call = axi_call_start(service, "/map", err);
    axi_call_options(&call, &o, sizeof o, opts);
    axi_call_query(&call, "format", o.format, formats);
    return axi_call_get(&call, NULL, reply);
}

axon_status axon_nav_mapping_plan(axon_service *service, const double start[2], const double goal[2],
                                  const axon_nav_mapping_options *opts, axon_value **reply, axon_error *err)
{
    axon_nav_mapping_options o;
    axi_call call = axi_call_start(service, "/plan", err);
    axi_call_options(&call, &o, sizeof o, opts);
    axi_call_numbers(&call, "start", start, 2);
    axi_call_numbers(&call, "goal", goal, 2);
    axi_call_flag(&call, "use_inflation", o.use_inflation, true);
    return axi_call_post(&call, NULL, reply);
}

axon_status axon_nav_mapping_get_frontiers(axon_service *service, axon_value **reply, axon_error *err)
{
    axi_call call = axi_call_start(service, "/frontiers", err);
    return axi_call_get(&call, NULL, reply);
}

axon_status axon_nav_mapping_reset(axon_service *service, axon_value **reply, axon_error *err)
{
    axi_call call = axi_call_start(service, "/reset", err);
    return axi_call_post(&call, NULL, reply);
}
