/* The YOLO service: what is sent to /detect, and what is handed over of its reply. */
#include "checks.h"

#include <axon/services/yolo_detection.h>

#include "fakes/http_fake.c"

static const char gif[] = "GIF89a\1\0\1\0\0\0\0;";
static const char found_json[] =
    "{\"detections\": [{\"bbox\": {\"x1\": 1.5, \"y1\": 2, \"x2\": 30, \"y2\": 40}, \"confidence\": 0.875, "
    "\"class_id\": 0, \"class_name\": \"person\", \"mask\": null}], \"model\": \"yolov8n\", \"has_masks\": "
    "false}";

static axon_error err;
static http_fake *fake;
static axon_service *service;
static axon_image *image;
static axon_value *reply;
static const char *answer_json;

static bool answer(fake_peer *peer)
{
    return fake_json(peer, 200, answer_json);
}

static int start(void **state)
{
    (void)state;
    answer_json = found_json;
    fake = fake_begin_plain(answer);
    assert_ok(axon_service_open(&service, fake->url, NULL, &err), &err);
    assert_ok(axon_image_open_bytes(gif, sizeof gif - 1, &image, &err), &err);
    return 0;
}

static int tidy(void **state)
{
    (void)state;
    axon_value_free(reply);
    reply = NULL;
    axon_image_close(image);
    axon_service_close(service);
    fake_stop(fake);
    return 0;
}

static void assert_sent(const char *body)
{
    assert_ptr_equal(strstr(fake_head(fake), "POST /detect HTTP/1.1\r\n"), fake_head(fake));
    assert_string_equal(fake->body, body);
}

static void detect_sends_the_defaults_and_gives_the_list(void **state)
{
    (void)state;
    double confidence;
    assert_ok(axon_yolo_detection_detect(service, image, NULL, &reply, &err), &err);
    assert_sent("{\"image\":\"R0lGODlhAQABAAAAADs=\",\"model\":\"yolov8n\",\"conf\":0.25}");
    assert_int_equal(axon_value_type(reply), AXON_LIST);
    assert_int_equal(axon_value_count(reply), 1);
    const axon_value *first = axon_value_at(reply, 0);
    assert_int_equal(axon_value_as_float(axon_value_get(first, "confidence"), &confidence), AXON_OK);
    assert_true(confidence == 0.875);
    assert_int_equal(axon_value_count(axon_value_get(first, "bbox")), 4);
}

static void detect_full_sends_the_mask_fields_too_and_gives_everything(void **state)
{
    (void)state;
    assert_ok(axon_yolo_detection_detect_full(service, image, NULL, &reply, &err), &err);
    assert_sent("{\"image\":\"R0lGODlhAQABAAAAADs=\",\"model\":\"yolov8n\",\"conf\":0.25,"
                "\"return_masks\":false,\"mask_format\":\"polygon\"}");
    assert_int_equal(axon_value_count(reply), 3);
    assert_non_null(axon_value_get(reply, "has_masks"));
}

static void what_is_set_is_sent(void **state)
{
    (void)state;
    axon_yolo_detection_options o = {
        .size = sizeof o, .model = "yolov8s-seg", .conf = 0.4, .return_masks = 1, .mask_format = "rle"};
    assert_ok(axon_yolo_detection_detect_full(service, image, &o, &reply, &err), &err);
    assert_sent("{\"image\":\"R0lGODlhAQABAAAAADs=\",\"model\":\"yolov8s-seg\",\"conf\":0.4,"
                "\"return_masks\":true,\"mask_format\":\"rle\"}");
}

static void a_negative_conf_is_zero(void **state)
{
    (void)state;
    axon_yolo_detection_options o = {.size = sizeof o, .conf = -1};
    assert_ok(axon_yolo_detection_detect(service, image, &o, &reply, &err), &err);
    assert_sent("{\"image\":\"R0lGODlhAQABAAAAADs=\",\"model\":\"yolov8n\",\"conf\":0.0}");
}

static void detections_that_are_no_list_are_the_services_fault(void **state)
{
    (void)state;
    const axon_service_options as_text = {.size = sizeof as_text, .reply_form = AXON_REPLY_TEXT};
    axon_service *texts;
    assert_ok(axon_service_open(&texts, fake->url, &as_text, &err), &err);
    static const char *const lies[] = {"{\"detections\": 5}", "{\"detections\": null}",
                                       "{\"detections\": {\"a\": [1]}}", "{\"detections\":\"[]\"}"};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        answer_json = lies[i];
        assert_fails(axon_yolo_detection_detect(service, image, NULL, &reply, &err), AXON_EPROTOCOL, &err,
                     "/detect: \"detections\" is no list");
        assert_fails(axon_yolo_detection_detect(texts, image, NULL, &reply, &err), AXON_EPROTOCOL, &err,
                     "/detect: \"detections\" is no list");
    }
    axon_service_close(texts);
}

static void wrong_arguments_are_refused_unsent(void **state)
{
    (void)state;
    axon_yolo_detection_options o = {.size = sizeof o, .conf = 1.5};
    assert_fails(axon_yolo_detection_detect(service, image, &o, &reply, &err), AXON_EINVAL, &err,
                 "/detect: conf is 1.5, not between 0 and 1");
    o.conf = NAN;
    assert_fails(axon_yolo_detection_detect(service, image, &o, &reply, &err), AXON_EINVAL, &err,
                 "conf is nan");
    o = (axon_yolo_detection_options){.size = sizeof o, .mask_format = "png"};
    assert_fails(axon_yolo_detection_detect_full(service, image, &o, &reply, &err), AXON_EINVAL, &err,
                 "mask_format \"png\" is none of: polygon, rle, bitmap");
    o = (axon_yolo_detection_options){0};
    assert_fails(axon_yolo_detection_detect(service, image, &o, &reply, &err), AXON_EINVAL, &err,
                 "size is 0");
    assert_fails(axon_yolo_detection_detect(service, NULL, NULL, &reply, &err), AXON_EINVAL, &err,
                 "image is NULL");
    assert_fails(axon_yolo_detection_detect(NULL, image, NULL, &reply, &err), AXON_EINVAL, &err,
                 "service is NULL");
    assert_fails(axon_yolo_detection_detect(service, image, NULL, NULL, &err), AXON_EINVAL, &err,
                 "reply is NULL");
    o = (axon_yolo_detection_options){.size = sizeof o, .model = "\xff"};
    assert_fails(axon_yolo_detection_detect(service, image, &o, &reply, &err), AXON_EINVAL, &err,
                 "\"model\"");
    assert_int_equal(fake_accepted(fake), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start, tidy)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(detect_sends_the_defaults_and_gives_the_list),
        TEST(detect_full_sends_the_mask_fields_too_and_gives_everything),
        TEST(what_is_set_is_sent),
        TEST(a_negative_conf_is_zero),
        TEST(detections_that_are_no_list_are_the_services_fault),
        TEST(wrong_arguments_are_refused_unsent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
