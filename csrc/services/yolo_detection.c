/* See axon/services/yolo_detection.h. */
#include "../service_internal.h"

#include <axon/services/yolo_detection.h>

static axon_status find(axon_service *service, const axon_image *image,
                        const axon_yolo_detection_options *opts, bool whole, axon_value **reply,
                        axon_error *err)
{
    static const char *const mask_formats[] = {"polygon", "rle", "bitmap", NULL};
    axon_yolo_detection_options o;
    axi_call call = axi_call_start(service, "/detect", err);
    axi_call_options(&call, &o, sizeof o, opts);
    axi_call_image(&call, "image", image);
    axi_call_string(&call, "model", o.model, "yolov8n");
    axi_call_fraction(&call, "conf", o.conf, 0.25);
    if (whole) {
        axi_call_flag(&call, "return_masks", o.return_masks, false);
        axi_call_choice(&call, "mask_format", o.mask_format, mask_formats);
    }
    return axi_call_post(&call, whole ? NULL : "detections", reply);
}

axon_status axon_yolo_detection_detect(axon_service *service, const axon_image *image,
                                       const axon_yolo_detection_options *opts, axon_value **found,
                                       axon_error *err)
{
    return find(service, image, opts, false, found, err);
}

axon_status axon_yolo_detection_detect_full(axon_service *service, const axon_image *image,
                                            const axon_yolo_detection_options *opts, axon_value **reply,
                                            axon_error *err)
{
    return find(service, image, opts, true, reply, err);
}
