/* axon/services/grounded_sam2.h - objects found by a text description, with their masks (Grounding DINO, SAM 2).
 *
 * Say in words what to look for ("red cup"); boxes, labels, confidences and masks come back.
 *
 * @service grounded-sam2 0.1.0
 * @class   GroundedSAM2Client
 * @type    model
 * @host    http://127.0.0.1:8001
 * @timeout 60 s
 * @color   rgb
 * @models  GroundingDINO_SwinT_OGC, SAM2.1-Hiera-Large
 * @repo    TidyBot-Services/grounded-sam2-service main
 * @added   2026-02-13 steve
 * @changed 2026-11-21
 */
#ifndef AXON_SERVICES_GROUNDED_SAM2_H
#define AXON_SERVICES_GROUNDED_SAM2_H

#include <axon/service.h>

AXON_BEGIN

/** How to look. Zero means the default. */
typedef struct axon_grounded_sam2_options {
    size_t size;              /**< sizeof(axon_grounded_sam2_options); 0 is AXON_EINVAL */
    double conf;              /**< least confidence kept, 0 to 1; default 0.3; a negative one means 0 */
    axon_choice return_masks; /**< whether to segment what was found; default AXON_YES */
    const char *mask_format;  /**< "polygon", "rle" or "bitmap"; default "polygon" */
    const char *fmt;          /**< of the picture: "jpeg" or "png"; default "jpeg" */
    int32_t quality;          /**< of a JPEG, 1 to 100; default 90 */
} axon_grounded_sam2_options;

/** Finds what the prompts describe: boxes only.
 *  @http    POST /detect
 *  @options conf
 *  @wire    member=detections fixed=return_masks:false
 *  @param   image         JPEG or PNG bytes, or pixels; read during the call only
 *  @param   prompts       what to look for, each one description such as "red cup"
 *  @param   prompt_count  how many; at least 1
 *  @param   found         list of {label, confidence, bbox: {x1, y1, x2, y2} in pixels};
 *                         the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example detections = client.detect(frame_bytes, prompts=["red cup"])
 */
AXON_API axon_status axon_grounded_sam2_detect(axon_service *service, const axon_image *image,
                                               const char *const *prompts, size_t prompt_count,
                                               const axon_grounded_sam2_options *opts, axon_value **found,
                                               axon_error *err);

/** Finds and segments what the prompts describe, and gives the whole reply.
 *  @http    POST /detect
 *  @options conf, return_masks, mask_format
 *  @param   image         as for detect
 *  @param   prompts       as for detect
 *  @param   prompt_count  as for detect
 *  @param   reply         {detections: as above, each with mask or null; device, inference_ms, image_width and
 *                         image_height in pixels, has_masks}; a mask is a list of polygons of [x, y], or
 *                         {counts, size [h, w]} (runs, beginning with zeros, row by row), or a base64 PNG (0, 255);
 *                         the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example reply = client.detect_full(frame_bytes, prompts=["red cup", "plate"], mask_format="rle")
 */
AXON_API axon_status axon_grounded_sam2_detect_full(axon_service *service, const axon_image *image,
                                                    const char *const *prompts, size_t prompt_count,
                                                    const axon_grounded_sam2_options *opts,
                                                    axon_value **reply, axon_error *err);

/** Draws boxes, labels and masks onto the image.
 *  @http    POST /visualize
 *  @options conf, return_masks, fmt, quality
 *  @wire    query=fmt,quality
 *  @param   image         as for detect
 *  @param   prompts       as for detect
 *  @param   prompt_count  as for detect
 *  @param   picture       bytes of the JPEG or PNG; the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @delivers picture
 *  @example picture = client.visualize(frame_bytes, prompts=["red cup"], save_path="found.jpg")
 */
AXON_API axon_status axon_grounded_sam2_visualize(axon_service *service, const axon_image *image,
                                                  const char *const *prompts, size_t prompt_count,
                                                  const axon_grounded_sam2_options *opts,
                                                  axon_value **picture, axon_error *err);

AXON_END

#endif
