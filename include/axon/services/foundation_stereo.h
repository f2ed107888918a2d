/* axon/services/foundation_stereo.h - dense depth from a pair of pictures (FoundationStereo).
 *
 * Rectified left and right pictures in, disparity and metric depth out; reflecting and transparent surfaces, where
 * infrared stereo fails, included.
 *
 * @service foundation-stereo 1.0.0
 * @class   FoundationStereoClient
 * @type    model
 * @host    http://127.0.0.1:8003
 * @timeout 120 s
 * @color   rgb
 * @models  foundation-stereo-vitl-23-51-11
 * @repo    TidyBot-Services/foundation-stereo-service master
 * @added   2026-02-14 steve
 * @changed 2026-11-21
 */
#ifndef AXON_SERVICES_FOUNDATION_STEREO_H
#define AXON_SERVICES_FOUNDATION_STEREO_H

#include <axon/service.h>

AXON_BEGIN

/** How to match and what to send back. Zero means the default. */
typedef struct axon_foundation_stereo_options {
    size_t size;         /**< sizeof(axon_foundation_stereo_options); 0 is AXON_EINVAL */
    int32_t valid_iters; /**< refinement steps: more are slower and better; default 32 */
    double scale;        /**< pictures are scaled by this first, above 0, at most 1; default 1.0 */
    axon_choice hiera;   /**< coarse to fine, for pictures wider than 1000 pixels; default AXON_NO */
    axon_choice return_disparity; /**< default AXON_YES */
    axon_choice return_depth;     /**< default AXON_YES */
    axon_choice return_vis;       /**< a coloured PNG of the disparity; default AXON_NO */
} axon_foundation_stereo_options;

/** Computes disparity and depth, aligned to the left picture.
 *  @http    POST /depth
 *  @wire    arrays=disparity,depth bytes=vis
 *  @param   left_image    rectified; JPEG or PNG bytes, or pixels; read during the call only
 *  @param   right_image   rectified, of the same shape
 *  @param   focal_length  in pixels
 *  @param   baseline      between the cameras, in m
 *  @param   reply         {height, width, inference_ms, device, and what was asked for: disparity: float32 array
 *                         (height, width) in pixels, depth: float32 array (height, width) in m, vis: PNG bytes};
 *                         the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example result = client.depth(left_bytes, right_bytes, focal_length=382.5, baseline=0.055)
 *  @alias   depth_from_realsense(left_image, right_image, fx=382.545, baseline=0.055, **kwargs)
 *           = depth(left_image, right_image, focal_length=fx, baseline=baseline, **kwargs)
 *           - depth with the focal length and baseline of an Intel RealSense D435 at 640 x 480
 */
AXON_API axon_status axon_foundation_stereo_depth(axon_service *service, const axon_image *left_image,
                                                  const axon_image *right_image, double focal_length,
                                                  double baseline,
                                                  const axon_foundation_stereo_options *opts,
                                                  axon_value **reply, axon_error *err);

AXON_END

#endif
