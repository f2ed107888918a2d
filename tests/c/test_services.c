/* The services of the catalog: what each function sends, and what it hands over of the reply. */
#include "value_internal.h"

#include "checks.h"

#include <axon/services/foundation_stereo.h>
#include <axon/services/graspgen.h>
#include <axon/services/grounded_sam2.h>
#include <axon/services/lightweight_grasp_net.h>
#include <axon/services/local_obstacle_avoidance.h>
#include <axon/services/nav_mapping.h>
#include <axon/services/realsense_slam.h>

#include "fakes/http_fake.c"

#define GIF "\"R0lGODlhAQABAAAAADs=\""

static const char gif[] = "GIF89a\1\0\1\0\0\0\0;";
static const char *const prompts[] = {"red cup", "plate"};
static const axon_intrinsics camera = {.fx = 615, .fy = 616, .cx = 320.5, .cy = 240};

static axon_error err;
static http_fake *fake;
static axon_service *service;
static axon_image *image;
static axon_value *reply;
static const char *answer_text;
static const char *answer_type;

static bool answer(fake_peer *peer)
{
    return fake_reply(peer, 200, answer_type, answer_text);
}

static int start(void **state)
{
    (void)state;
    answer_text = "{\"status\": \"ok\"}";
    answer_type = "application/json";
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

static void forget_reply(void)
{
    axon_value_free(reply);
    reply = NULL;
}

/* The request was `line`, "POST /detect", with this body; and the reply is forgotten. */
static void assert_sent(const char *line, const char *body)
{
    char begin[128];
    snprintf(begin, sizeof begin, "%s HTTP/1.1\r\n", line);
    if (strncmp(fake_head(fake), begin, strlen(begin)) != 0)
        fail_msg("%.*s was sent, not %s", (int)strcspn(fake_head(fake), "\r"), fake_head(fake), line);
    assert_string_equal(fake->body ? fake->body : "", body);
    forget_reply();
}

/* ---- grounded-sam2 ------------------------------------------------------------------------- */

static void sam2_detects_without_masks_and_gives_the_list(void **state)
{
    (void)state;
    answer_text = "{\"detections\": [{\"label\": \"red cup\"}], \"device\": \"cpu\"}";
    assert_ok(axon_grounded_sam2_detect(service, image, prompts, 2, NULL, &reply, &err), &err);
    assert_int_equal(axon_value_type(reply), AXON_LIST);
    assert_int_equal(axon_value_count(reply), 1);
    assert_sent("POST /detect", "{\"image\":" GIF ",\"prompts\":[\"red cup\",\"plate\"],\"conf\":0.3,"
                                "\"return_masks\":false}");
}

static void sam2_segments_with_what_is_set(void **state)
{
    (void)state;
    axon_grounded_sam2_options o = {.size = sizeof o, .conf = 0.5, .mask_format = "rle"};
    assert_ok(axon_grounded_sam2_detect_full(service, image, prompts, 1, &o, &reply, &err), &err);
    assert_sent("POST /detect", "{\"image\":" GIF ",\"prompts\":[\"red cup\"],\"conf\":0.5,"
                                "\"return_masks\":true,\"mask_format\":\"rle\"}");
}

static void sam2_draws_a_picture(void **state)
{
    (void)state;
    axon_grounded_sam2_options o = {.size = sizeof o, .fmt = "png", .return_masks = AXON_NO, .quality = 7};
    const void *bytes;
    size_t length;
    answer_type = "image/png";
    answer_text = "a picture";
    assert_ok(axon_grounded_sam2_visualize(service, image, prompts, 1, &o, &reply, &err), &err);
    assert_int_equal(axon_value_as_bytes(reply, &bytes, &length), AXON_OK);
    assert_memory_equal(bytes, "a picture", 9);
    assert_sent("POST /visualize?fmt=png&quality=7",
                "{\"image\":" GIF ",\"prompts\":[\"red cup\"],\"conf\":0.3,\"return_masks\":false}");
}

static void sam2_refuses_what_cannot_be(void **state)
{
    (void)state;
    static const char *const empty[] = {"red cup", ""};
    axon_grounded_sam2_options o = {.size = sizeof o, .quality = 101};
    assert_fails(axon_grounded_sam2_detect(service, image, NULL, 0, NULL, &reply, &err), AXON_EINVAL, &err,
                 "/detect: prompts is empty");
    assert_fails(axon_grounded_sam2_detect(service, image, empty, 2, NULL, &reply, &err), AXON_EINVAL, &err,
                 "prompts has an empty text at 1");
    assert_fails(axon_grounded_sam2_visualize(service, image, prompts, 1, &o, &reply, &err), AXON_EINVAL,
                 &err, "quality is 101, not between 1 and 100");
    o = (axon_grounded_sam2_options){.size = sizeof o, .fmt = "gif"};
    assert_fails(axon_grounded_sam2_visualize(service, image, prompts, 1, &o, &reply, &err), AXON_EINVAL,
                 &err, "fmt \"gif\" is none of: jpeg, png");
    o = (axon_grounded_sam2_options){.size = sizeof o, .return_masks = (axon_choice)3};
    assert_fails(axon_grounded_sam2_detect_full(service, image, prompts, 1, &o, &reply, &err), AXON_EINVAL,
                 &err, "return_masks is 3");
    assert_int_equal(fake_accepted(fake), 0);
}

/* ---- graspgen ------------------------------------------------------------------------------ */

static void graspgen_sends_the_defaults_and_gives_the_list(void **state)
{
    (void)state;
    answer_text = "{\"grasps\": [{\"score\": 0.5}, {\"score\": 0.25}], \"num_grasps\": 2}";
    assert_ok(axon_graspgen_generate(service, image, NULL, &reply, &err), &err);
    assert_int_equal(axon_value_count(reply), 2);
    assert_sent("POST /generate", "{\"depth_image\":" GIF ",\"num_grasps\":10,\"z_range\":[0.2,1.8],"
                                  "\"depth_scale\":0.001}");
}

static void graspgen_sends_mask_and_camera_when_they_are_given(void **state)
{
    (void)state;
    axon_graspgen_options o = {.size = sizeof o,
                               .mask = image,
                               .camera_matrix = {600, 0, 320, 0, 600, 240, 0, 0, 1},
                               .num_grasps = 3,
                               .z_range = {0, 2},
                               .depth_scale = 1};
    assert_ok(axon_graspgen_generate_full(service, image, &o, &reply, &err), &err);
    assert_sent("POST /generate",
                "{\"depth_image\":" GIF ",\"num_grasps\":3,\"z_range\":[0.0,2.0],\"depth_scale\":1.0,"
                "\"mask\":" GIF ",\"camera_matrix\":[[600.0,0.0,320.0],[0.0,600.0,240.0],[0.0,0.0,1.0]]}");
}

static void graspgen_sends_pixels_as_npy(void **state)
{
    (void)state;
    static const uint16_t depth[2][2] = {{1, 2}, {3, 4}};
    axon_array pixels = {.dtype = AXON_UINT16, .ndim = 2, .shape = {2, 2}, .data = depth};
    axon_image *array;
    assert_ok(axon_image_open_pixels(&pixels, AXON_COLOR_DEFAULT, &array, &err), &err);
    assert_ok(axon_graspgen_generate_full(service, array, NULL, &reply, &err), &err);
    axon_image_close(array);
    fake_head(fake);
    assert_non_null(strstr(fake->body, "{\"depth_image\":\"k05VTVBZAQ"));
}

static void graspgen_refuses_what_cannot_be(void **state)
{
    (void)state;
    axon_graspgen_options o = {.size = sizeof o, .num_grasps = 201};
    assert_fails(axon_graspgen_generate(service, image, &o, &reply, &err), AXON_EINVAL, &err,
                 "num_grasps is 201, not between 1 and 200");
    o = (axon_graspgen_options){.size = sizeof o, .z_range = {0.1, INFINITY}};
    assert_fails(axon_graspgen_generate(service, image, &o, &reply, &err), AXON_EINVAL, &err,
                 "z_range has inf at 1");
    o = (axon_graspgen_options){.size = sizeof o, .depth_scale = -1};
    assert_fails(axon_graspgen_generate(service, image, &o, &reply, &err), AXON_EINVAL, &err,
                 "depth_scale is -1, not a finite number above 0");
    o = (axon_graspgen_options){.size = sizeof o, .camera_matrix = {NAN}};
    assert_fails(axon_graspgen_generate(service, image, &o, &reply, &err), AXON_EINVAL, &err,
                 "camera_matrix");
    assert_fails(axon_graspgen_generate(service, NULL, NULL, &reply, &err), AXON_EINVAL, &err,
                 "depth_image is NULL");
    assert_int_equal(fake_accepted(fake), 0);
}

/* ---- foundation-stereo --------------------------------------------------------------------- */

/* float32 [[0, 1, 2], [3, 4, 5]] as numpy.save writes it: as it is, in Fortran order with the other byte order,
 * with a number missing, and of objects. */
#define NPY_C                                                                                              \
    "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDMpLCB9ICAg"     \
    "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAACAPwAAAEAAAEBA"     \
    "AACAQAAAoEA="
#define NPY_F                                                                                              \
    "k05VTVBZAQB2AHsnZGVzY3InOiAnPmY0JywgJ2ZvcnRyYW5fb3JkZXInOiBUcnVlLCAnc2hhcGUnOiAoMiwgMyksIH0gICAg"     \
    "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAQEAAAD+AAABAgAAA"     \
    "QAAAAECgAAA="
#define NPY_SHORT                                                                                          \
    "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDMpLCB9ICAg"     \
    "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAACAPwAAAEAAAEBA"     \
    "AACAQA=="
#define NPY_OBJECTS                                                                                        \
    "k05VTVBZAQB2AHsnZGVzY3InOiAnfE8nLCAnZm9ydHJhbl9vcmRlcic6IEZhbHNlLCAnc2hhcGUnOiAoMiwgMyksIH0gICAg"     \
    "ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAp4eHh4eHh4eHh4eHh4eHh4"     \
    "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg="
static void assert_zero_to_five(const char *key)
{
    const axon_array *array;
    float numbers[6];
    assert_int_equal(axon_value_as_array(axon_value_get(reply, key), &array), AXON_OK);
    assert_int_equal(array->dtype, AXON_FLOAT32);
    assert_int_equal(array->swapped, 0);
    assert_int_equal(array->ndim, 2);
    assert_int_equal(array->shape[0], 2);
    assert_int_equal(array->shape[1], 3);
    assert_int_equal(array->strides[0], 0);
    assert_int_equal((uintptr_t)array->data % 4, 0);
    memcpy(numbers, array->data, sizeof numbers);
    for (int i = 0; i < 6; i++)
        assert_true(numbers[i] == (float)i);
}

static void an_array_outlives_its_reply(void **state)
{
    (void)state;
    answer_text = "{\"height\": 2, \"disparity\": \"" NPY_C "\", \"depth\": null}";
    assert_ok(axon_foundation_stereo_depth(service, image, image, 382.5, 0.055, NULL, &reply, &err), &err);
    axon_value *node = (axon_value *)(uintptr_t)axon_value_get(reply, "disparity");
    axon_array *taken = axi_value_take_array(node);
    assert_non_null(taken);
    assert_int_equal(axon_value_type(node), AXON_NIL);
    assert_null(axi_value_take_array(node));
    axon_value_free(reply);
    reply = NULL;
    assert_true(((const float *)taken->data)[5] == 5.0F);
    free(taken);
}

static void stereo_gives_arrays_and_bytes(void **state)
{
    (void)state;
    const void *bytes;
    size_t length;
    answer_text = "{\"height\": 2, \"disparity\": \"" NPY_C "\", \"width\": 3, \"depth\": \"" NPY_F
                  "\", \"vis\": \"R0lG\"}";
    assert_ok(axon_foundation_stereo_depth(service, image, image, 382.5, 0.055, NULL, &reply, &err), &err);
    assert_zero_to_five("disparity");
    assert_zero_to_five("depth");
    assert_int_equal(axon_value_as_bytes(axon_value_get(reply, "vis"), &bytes, &length), AXON_OK);
    assert_int_equal(length, 3);
    assert_memory_equal(bytes, "GIF", 3);
    assert_sent("POST /depth", "{\"left_image\":" GIF ",\"right_image\":" GIF ",\"focal_length\":382.5,"
                               "\"baseline\":0.055,\"valid_iters\":32,\"scale\":1.0,\"hiera\":false,"
                               "\"return_disparity\":true,\"return_depth\":true,\"return_vis\":false}");
}

static void stereo_leaves_out_what_is_null(void **state)
{
    (void)state;
    axon_foundation_stereo_options o = {.size = sizeof o,
                                        .valid_iters = 8,
                                        .scale = 0.5,
                                        .hiera = AXON_YES,
                                        .return_disparity = AXON_NO,
                                        .return_vis = AXON_YES};
    answer_text = "{\"disparity\": null, \"height\": 2, \"depth\": \"" NPY_C "\"}";
    assert_ok(axon_foundation_stereo_depth(service, image, image, 1, 1, &o, &reply, &err), &err);
    assert_int_equal(axon_value_count(reply), 2);
    assert_zero_to_five("depth");
    assert_sent("POST /depth", "{\"left_image\":" GIF ",\"right_image\":" GIF ",\"focal_length\":1.0,"
                               "\"baseline\":1.0,\"valid_iters\":8,\"scale\":0.5,\"hiera\":true,"
                               "\"return_disparity\":false,\"return_depth\":true,\"return_vis\":true}");
}

static void stereo_blames_the_service_for_arrays_that_lie(void **state)
{
    (void)state;
    static const struct {
        const char *reply, *words;
    } cases[] = {
        {"{\"depth\": \"" NPY_SHORT "\"}",
         "reply: depth: .npy has 20 bytes of data where its header says 24"},
        {"{\"depth\": \"" NPY_OBJECTS "\"}", "dtype '|O'"},
        {"{\"depth\": \"k05VTVBZ\"}", "cut off"},
        {"{\"depth\": \"not base64\"}", "reply: depth"},
        {"{\"depth\": 3}", "reply: depth is not text"},
        {"{\"vis\": \"R0l*\"}", "reply: vis is not base64 at 3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        answer_text = cases[i].reply;
        assert_fails(axon_foundation_stereo_depth(service, image, image, 1, 1, NULL, &reply, &err),
                     AXON_EPROTOCOL, &err, cases[i].words);
        assert_null(reply);
    }
}

static void stereo_refuses_what_cannot_be(void **state)
{
    (void)state;
    assert_fails(axon_foundation_stereo_depth(service, image, image, 0, 1, NULL, &reply, &err), AXON_EINVAL,
                 &err, "focal_length is 0, not a finite number above 0");
    assert_fails(axon_foundation_stereo_depth(service, image, NULL, 1, 1, NULL, &reply, &err), AXON_EINVAL,
                 &err, "right_image is NULL");
    assert_fails(axon_foundation_stereo_depth(service, image, image, 1, 1, NULL, NULL, &err), AXON_EINVAL,
                 &err, "reply is NULL");
    assert_int_equal(fake_accepted(fake), 0);
}

/* ---- nav-mapping --------------------------------------------------------------------------- */

static void mapping_sends_pose_and_intrinsics_as_maps(void **state)
{
    (void)state;
    const axon_pose2 pose = {.x = 1.5, .y = -2, .theta = 0.25};
    assert_ok(axon_nav_mapping_update(service, image, &pose, &camera, NULL, &reply, &err), &err);
    assert_sent("POST /update", "{\"depth_image\":" GIF ",\"pose\":{\"x\":1.5,\"y\":-2.0,\"theta\":0.25},"
                                "\"intrinsics\":{\"fx\":615.0,\"fy\":616.0,\"cx\":320.5,\"cy\":240.0},"
                                "\"max_range\":5.0}");
}

static void mapping_asks_for_maps_and_paths(void **state)
{
    (void)state;
    const double from[2] = {0, 0}, to[2] = {2, 3.5};
    axon_nav_mapping_options o = {.size = sizeof o, .use_inflation = AXON_NO, .format = "info"};
    assert_ok(axon_nav_mapping_get_map(service, NULL, &reply, &err), &err);
    assert_sent("GET /map?format=png", "");
    assert_ok(axon_nav_mapping_get_map(service, &o, &reply, &err), &err);
    assert_sent("GET /map?format=info", "");
    assert_ok(axon_nav_mapping_plan(service, from, to, &o, &reply, &err), &err);
    assert_sent("POST /plan", "{\"start\":[0.0,0.0],\"goal\":[2.0,3.5],\"use_inflation\":false}");
    assert_ok(axon_nav_mapping_get_frontiers(service, &reply, &err), &err);
    assert_sent("GET /frontiers", "");
    assert_ok(axon_nav_mapping_reset(service, &reply, &err), &err);
    assert_sent("POST /reset", "{}");
}

static void mapping_refuses_what_cannot_be(void **state)
{
    (void)state;
    const axon_pose2 pose = {.theta = NAN}, origin = {.x = 0};
    const axon_intrinsics blind = {.fx = 0, .fy = 1};
    const double nowhere[2] = {INFINITY, 0};
    assert_fails(axon_nav_mapping_update(service, image, NULL, &camera, NULL, &reply, &err), AXON_EINVAL,
                 &err, "/update: pose is NULL");
    assert_fails(axon_nav_mapping_update(service, image, &pose, &camera, NULL, &reply, &err), AXON_EINVAL,
                 &err, "/update: pose: theta is nan");
    assert_fails(axon_nav_mapping_update(service, image, &origin, &blind, NULL, &reply, &err), AXON_EINVAL,
                 &err, "/update: intrinsics has fx 0");
    assert_fails(axon_nav_mapping_plan(service, nowhere, nowhere, NULL, &reply, &err), AXON_EINVAL, &err,
                 "start has inf at 0");
    assert_fails(axon_nav_mapping_plan(service, NULL, nowhere, NULL, &reply, &err), AXON_EINVAL, &err,
                 "start is NULL");
    assert_int_equal(fake_accepted(fake), 0);
}

/* ---- realsense-slam, lightweight-grasp-net ------------------------------------------------- */

static void slam_speaks_to_each_of_its_endpoints(void **state)
{
    (void)state;
    axon_realsense_slam_options o = {.size = sizeof o, .path = "/maps/lab.pcd"};
    assert_ok(axon_realsense_slam_update(service, image, image, &camera, &reply, &err), &err);
    assert_sent("POST /update", "{\"rgb_image\":" GIF ",\"depth_image\":" GIF
                                ",\"intrinsics\":{\"fx\":615.0,\"fy\":616.0,\"cx\":320.5,\"cy\":240.0}}");
    assert_ok(axon_realsense_slam_get_pose(service, &reply, &err), &err);
    assert_sent("GET /pose", "");
    assert_ok(axon_realsense_slam_get_pointcloud(service, &reply, &err), &err);
    assert_sent("GET /map/pointcloud", "");
    assert_ok(axon_realsense_slam_get_occupancy(service, &reply, &err), &err);
    assert_sent("GET /map/occupancy", "");
    assert_ok(axon_realsense_slam_save_map(service, &o, &reply, &err), &err);
    assert_sent("POST /map/save", "{\"path\":\"/maps/lab.pcd\"}");
    assert_ok(axon_realsense_slam_load_map(service, NULL, &reply, &err), &err);
    assert_sent("POST /map/load", "{}");
    assert_ok(axon_realsense_slam_reset(service, &reply, &err), &err);
    assert_sent("POST /reset", "{}");
}

static void grasp_net_sends_both_pictures(void **state)
{
    (void)state;
    axon_lightweight_grasp_net_options o = {.size = sizeof o, .num_grasps = -1};
    assert_ok(axon_lightweight_grasp_net_detect(service, image, image, NULL, &reply, &err), &err);
    assert_sent("POST /detect", "{\"rgb_image\":" GIF ",\"depth_image\":" GIF ",\"num_grasps\":5}");
    assert_fails(axon_lightweight_grasp_net_detect(service, image, image, &o, &reply, &err), AXON_EINVAL,
                 &err, "num_grasps is -1");
}

/* ---- local-obstacle-avoidance -------------------------------------------------------------- */

static void avoidance_sends_depth_and_wishes(void **state)
{
    (void)state;
    const double goal = 2.5;
    axon_local_obstacle_avoidance_options o = {.size = sizeof o, .target_vx = 0.3, .goal_x = &goal};
    assert_ok(axon_local_obstacle_avoidance_update_depth(service, image, 615, 616, 320, 240, &reply, &err),
              &err);
    assert_sent("POST /update_depth",
                "{\"image\":" GIF ",\"fx\":615.0,\"fy\":616.0,\"cx\":320.0,\"cy\":240.0}");
    assert_ok(axon_local_obstacle_avoidance_safe_velocity(service, NULL, &reply, &err), &err);
    assert_sent("POST /safe_velocity", "{\"target_vx\":0.0,\"target_omega\":0.0}");
    assert_ok(axon_local_obstacle_avoidance_safe_velocity(service, &o, &reply, &err), &err);
    assert_sent("POST /safe_velocity", "{\"target_vx\":0.3,\"target_omega\":0.0,\"goal_x\":2.5}");
    assert_ok(axon_local_obstacle_avoidance_costmap(service, NULL, &reply, &err), &err);
    assert_sent("GET /costmap?format=png", "");
    assert_ok(axon_local_obstacle_avoidance_estop_status(service, &reply, &err), &err);
    assert_sent("GET /estop_status", "");
    o.target_vx = NAN;
    assert_fails(axon_local_obstacle_avoidance_safe_velocity(service, &o, &reply, &err), AXON_EINVAL, &err,
                 "target_vx is nan");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start, tidy)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(sam2_detects_without_masks_and_gives_the_list),
        TEST(sam2_segments_with_what_is_set),
        TEST(sam2_draws_a_picture),
        TEST(sam2_refuses_what_cannot_be),
        TEST(graspgen_sends_the_defaults_and_gives_the_list),
        TEST(graspgen_sends_mask_and_camera_when_they_are_given),
        TEST(graspgen_sends_pixels_as_npy),
        TEST(an_array_outlives_its_reply),
        TEST(graspgen_refuses_what_cannot_be),
        TEST(stereo_gives_arrays_and_bytes),
        TEST(stereo_leaves_out_what_is_null),
        TEST(stereo_blames_the_service_for_arrays_that_lie),
        TEST(stereo_refuses_what_cannot_be),
        TEST(mapping_sends_pose_and_intrinsics_as_maps),
        TEST(mapping_asks_for_maps_and_paths),
        TEST(mapping_refuses_what_cannot_be),
        TEST(slam_speaks_to_each_of_its_endpoints),
        TEST(grasp_net_sends_both_pictures),
        TEST(avoidance_sends_depth_and_wishes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
