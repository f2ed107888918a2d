/* See axon/services/realsense_slam.h. */
#include "../service_internal.h"

#include <axon/services/realsense_slam.h>

axon_status axon_realsense_slam_update(axon_service *service, const axon_image *rgb_image,
                                       const axon_image *depth_image, const axon_intrinsics *intrinsics,
                                       axon_value **reply, axon_error *err)
{
    axi_call call = axi_call_start(service, "/update", err);
    axi_call_image(&call, "rgb_image", rgb_image);
    axi_call_image(&call, "depth_image", depth_image);
    axi_call_intrinsics(&call, "intrinsics", intrinsics);
    return axi_call_post(&call, NULL, reply);
}

static axon_status get(axon_service *service, const char *path, axon_value **reply, axon_error *err)
{
    axi_call call = axi_call_start(service, path, err);
    return axi_call_get(&call, NULL, reply);
}

axon_status axon_realsense_slam_get_pose(axon_service *service, axon_value **reply, axon_error *err)
{
    return get(service, "/pose", reply, err);
}

axon_status axon_realsense_slam_get_pointcloud(axon_service *service, axon_value **reply, axon_error *err)
{
    return get(service, "/map/pointcloud", reply, err);
}

axon_status axon_realsense_slam_get_occupancy(axon_service *service, axon_value **reply, axon_error *err)
{
    return get(service, "/map/occupancy", reply, err);
}

/* The path goes along only when there is one: without it the service uses its own. */
static axon_status post_path(axon_service *service, const char *endpoint,
                             const axon_realsense_slam_options *opts, axon_value **reply, axon_error *err)
{
    axon_realsense_slam_options o;
    axi_call call = axi_call_start(service, endpoint, err);
    axi_call_options(&call, &o, sizeof o, opts);
    if (o.path && *o.path) axi_call_string(&call, "path", o.path, NULL);
    return axi_call_post(&call, NULL, reply);
}

axon_status axon_realsense_slam_save_map(axon_service *service, const axon_realsense_slam_options *opts,
                                         axon_value **reply, axon_error *err)
{
    return post_path(service, "/map/save", opts, reply, err);
}

axon_status axon_realsense_slam_load_map(axon_service *service, const axon_realsense_slam_options *opts,
                                         axon_value **reply, axon_error *err)
{
    return post_path(service, "/map/load", opts, reply, err);
}

axon_status axon_realsense_slam_reset(axon_service *service, axon_value **reply, axon_error *err)
{
    return post_path(service, "/reset", NULL, reply, err);
}
