/* axon/services/yolo_detection.h - object detection and instance segmentation (YOLOv8).
 *
 * Finds objects of the 80 classes of COCO in a picture: boxes, class names, confidences and, with a "-seg" model, masks.
 *
 * @service yolo-detection 0.2.0
 * @class   YOLOClient
 * @type    model
 * @host    http://127.0.0.1:8000
 * @timeout 60 s
 * @color   bgr
 * @models  yolov8n, yolov8s, yolov8m, yolov8l, yolov8x, yolov8n-seg, yolov8s-seg
 * @repo    TidyBot-Services/yolo-service main
 * @added   2026-02-13 steve
 * @changed 2026-11-21
 */
#ifndef AXON_SERVICES_YOLO_DETECTION_H
#define AXON_SERVICES_YOLO_DETECTION_H

#include <axon/service.h>

AXON_BEGIN

/** What to look for. Zero means the default. */
typedef struct axon_yolo_detection_options {
    size_t size;              /**< sizeof(axon_yolo_detection_options); 0 is AXON_EINVAL */
    const char *model;        /**< which weights to use; default "yolov8n" */
    double conf;              /**< least confidence kept, 0 to 1; default 0.25; a negative one means 0 */
    axon_choice return_masks; /**< with masks, which need a "-seg" model; default AXON_NO */
    const char *mask_format;  /**< "polygon", "rle" or "bitmap"; default "polygon" */
} axon_yolo_detection_options;

/** Finds objects in one image.
 *  @http    POST /detect
 *  @options model, conf
 *  @wire    member=detections
 *  @param   image  JPEG or PNG bytes, or pixels; read during the call only
 *  @param   opts   read during the call only; may be NULL; the mask fields are not used
 *  @param   found  list of {bbox: {x1, y1, x2, y2} in pixels, confidence, class_id, class_name};
 *                  the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example detections = client.detect(frame_bytes, conf=0.4)
 */
AXON_API axon_status axon_yolo_detection_detect(axon_service *service, const axon_image *image,
                                                const axon_yolo_detection_options *opts, axon_value **found,
                                                axon_error *err);

/** Finds objects in one image and gives the whole reply.
 *  @http    POST /detect
 *  @param   image  JPEG or PNG bytes, or pixels; read during the call only
 *  @param   opts   read during the call only; may be NULL
 *  @param   reply  {detections: as above, each with mask or null; model, device, inference_ms,
 *                  image_width, image_height in pixels, has_masks};
 *                  the caller's, free it with axon_value_free()
 *  @return  as axon_service_post()
 *  @example reply = client.detect_full(frame_bytes, model="yolov8n-seg", return_masks=True)
 */
AXON_API axon_status axon_yolo_detection_detect_full(axon_service *service, const axon_image *image,
                                                     const axon_yolo_detection_options *opts,
                                                     axon_value **reply, axon_error *err);

AXON_END

#endif
