/* Rows: what Python reads of a tree in one go. */
#include "row.h"
#include "value_internal.h"

#include "checks.h"

#include <stdlib.h>

typedef struct {
    axi_node nodes[16];
    char text[64];
    char data[256];
    axi_row row;
} room;

static room *make_room(size_t nodes, size_t text, size_t data)
{
    room *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->row = (axi_row){.nodes = r->nodes, .text = r->text, .data = r->data};
    r->row.node_room = nodes;
    r->row.text_room = text;
    r->row.data_room = data;
    return r;
}

static axon_value *array_of(axon_dtype dtype, int64_t count, const void *data)
{
    const axon_array array = {.dtype = dtype, .ndim = 1, .shape = {count}, .data = data};
    return axon_value_array(&array);
}

static void containers_come_before_their_children(void **state)
{
    (void)state;
    axon_value *map = axon_value_map(), *list = axon_value_list();
    axon_value_append(list, axon_value_nil());
    axon_value_append(list, axon_value_bool(1));
    axon_value_set(map, "a", list);
    axon_value_set(map, "b", axon_value_float(0.5));
    room *r = make_room(16, 64, 256);
    assert_int_equal(axi_row_fill(&r->row, map, NULL), 2);
    assert_int_equal(r->row.node_count, 5);
    const int64_t types[] = {AXON_MAP, AXON_LIST, AXON_NIL, AXON_BOOL, AXON_FLOAT};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(r->nodes[i].type, types[i]);
    assert_int_equal(r->nodes[0].at, 2);
    assert_int_equal(r->nodes[1].at, 2);
    assert_int_equal(r->nodes[3].at, 1);
    assert_true(r->nodes[4].real == 0.5);
    free(r);
    axon_value_free(map);
}

static void places_in_text_count_characters_not_bytes(void **state)
{
    (void)state;
    axon_value *map = axon_value_map();
    axon_value_set(map, "h\xc3\xb6he", axon_value_string("\xe2\x82\xac", AXON_ZSTRING));
    axon_value_set(map, "z", axon_value_nil());
    room *r = make_room(16, 64, 256);
    assert_int_equal(axi_row_fill(&r->row, map, NULL), 9);
    assert_memory_equal(r->text, "h\xc3\xb6he\xe2\x82\xacz", 9);
    assert_int_equal(r->nodes[1].key_end, 4);
    assert_int_equal(r->nodes[1].at, 4);
    assert_int_equal(r->nodes[1].end, 5);
    assert_int_equal(r->nodes[2].key_at, 5);
    free(r);
    axon_value_free(map);
}

static void numbers_and_small_arrays_are_copied_to_aligned_places(void **state)
{
    (void)state;
    const double joints[] = {1, 2};
    const int64_t steps[] = {3, -4};
    axon_value *list = axon_value_list(), *numbers = axon_value_list();
    axon_value_append_ints(numbers, steps, 2);
    axon_value_append(list, axon_value_bytes("abc", 3));
    axon_value_append(list, array_of(AXON_FLOAT64, 2, joints));
    axon_value_append(list, numbers);
    room *r = make_room(16, 64, 256);
    assert_int_equal(axi_row_fill(&r->row, list, NULL), 0);
    assert_int_equal(r->row.node_count, 4);
    assert_int_equal(r->nodes[1].end, 3);
    assert_int_equal(r->nodes[2].at, 8);
    assert_int_equal(r->nodes[2].kind, AXON_FLOAT64);
    assert_int_equal(r->nodes[2].shape[0], 2);
    assert_memory_equal(r->data + 8, joints, sizeof joints);
    assert_int_equal(r->nodes[3].kind, AXON_INT);
    assert_memory_equal(r->data + r->nodes[3].at, steps, sizeof steps);
    free(r);
    axon_value_free(list);
}

static void large_arrays_stay_where_they_are(void **state)
{
    (void)state;
    char *message = calloc(1, 70000);
    axon_value *array = array_of(AXON_UINT8, 65536, message + 100);
    room *r = make_room(16, 64, 256);
    assert_int_equal(axi_row_fill(&r->row, array, message), 0);
    assert_int_equal(r->nodes[0].type, AXI_NODE_VIEW);
    assert_int_equal(r->nodes[0].at, 100);
    assert_int_equal(axi_row_fill(&r->row, array, NULL), 0);
    assert_int_equal(r->nodes[0].type, AXI_NODE_LONG);
    assert_int_equal(r->nodes[0].end, 65536);
    assert_ptr_equal((void *)(intptr_t)r->nodes[0].at, message + 100);
    array->flags |= AXI_IS_WHOLE;
    assert_int_equal(axi_row_fill(&r->row, array, message), 0);
    array->flags &= (uint8_t)~AXI_IS_WHOLE;
    assert_int_equal(r->nodes[0].type, AXI_NODE_FAR);
    assert_int_equal(r->nodes[0].kind, AXON_ARRAY);
    assert_ptr_equal((void *)(intptr_t)r->nodes[0].at, array);
    free(r);
    axon_value_free(array);
    free(message);
}

static void what_has_no_room_is_counted(void **state)
{
    (void)state;
    axon_value *map = axon_value_map();
    axon_value_set(map, "name", axon_value_string("cup", AXON_ZSTRING));
    axon_value_set(map, "data", axon_value_bytes("12345678", 8));
    room *r = make_room(2, 5, 7);
    assert_int_equal(axi_row_fill(&r->row, map, NULL), -1);
    assert_int_equal(r->row.node_count, 3);
    assert_int_equal(r->row.text_bytes, 11);
    assert_int_equal(r->row.data_bytes, 8);
    assert_int_equal(r->nodes[2].type, 0);
    assert_int_equal(r->text[5], 0);
    assert_int_equal(r->data[7], 0);
    r->row.node_room = r->row.node_count;
    r->row.text_room = r->row.text_bytes;
    r->row.data_room = r->row.data_bytes;
    assert_int_equal(axi_row_fill(&r->row, map, NULL), 11);
    free(r);
    axon_value_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(containers_come_before_their_children),
        cmocka_unit_test(places_in_text_count_characters_not_bytes),
        cmocka_unit_test(numbers_and_small_arrays_are_copied_to_aligned_places),
        cmocka_unit_test(large_arrays_stay_where_they_are),
        cmocka_unit_test(what_has_no_room_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
