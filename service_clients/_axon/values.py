"""Python values to axon's trees and back: what travels to a policy server, and what comes from it.

Out: dict (or any Mapping with str keys), list, tuple, str, bytes-like, bool, int (64 bit), float, None, numpy
arrays and scalars of bool, integer, float, fixed-width text and bytes, and what numpy can see as such an array
(`__array__`, `__array_interface__`: a PIL image, a torch tensor on the CPU). Nothing large is copied: the tree
borrows, and `keep` holds what it borrows from until the call is over.

In: the same kinds as fresh objects of the caller's own; arrays are writable. numpy is imported only for those.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Tuple

from service_clients._axon._ffi import check, ffi, lib, new_error
from service_clients._axon.errors import AxonProtocolError, AxonTypeError, AxonValueError

if TYPE_CHECKING:
    import numpy

__all__ = ["Memory", "Picture", "Refused", "as_numpy", "describe", "packb", "read", "unpackb", "write"]

_CODES = {  # numpy's kind and size of an element, whatever the byte order
    "b1": lib.AXON_BOOL8,
    "i1": lib.AXON_INT8,
    "i2": lib.AXON_INT16,
    "i4": lib.AXON_INT32,
    "i8": lib.AXON_INT64,
    "u1": lib.AXON_UINT8,
    "u2": lib.AXON_UINT16,
    "u4": lib.AXON_UINT32,
    "u8": lib.AXON_UINT64,
    "f2": lib.AXON_FLOAT16,
    "f4": lib.AXON_FLOAT32,
    "f8": lib.AXON_FLOAT64,
}
_UNSENDABLE = {"O": "object", "V": "structured", "c": "complex", "M": "datetime64", "m": "timedelta64"}

_MAX_DEPTH: int = lib.AXON_MAX_DEPTH
_MAX_NDIM: int = lib.AXON_MAX_NDIM
_MAX_NAMES = 1000
_MAX_LAYOUTS = 100
_ARRAY = ffi.typeof("axon_array *")
_FLOAT: int = lib.AXON_FLOAT
_INT: int = lib.AXON_INT
_DOUBLES = ffi.typeof("double[]")
_INTS = ffi.typeof("int64_t[]")

Writer = Callable[[Any, List[Any], int], Any]


# ---- out -------------------------------------------------------------------------------------------------


class Refused(Exception):
    """A value that does not travel, and why; the path to it is put together on the way up."""

    def __init__(self, reason: str, kind: type[AxonValueError] = AxonValueError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind
        self.path = ""

    def inside(self, step: str | int) -> None:
        """Puts the key or index that the value was found under in front of the path."""
        dot = "." if self.path and self.path[0] != "[" else ""
        self.path = (f"[{step}]" if isinstance(step, int) else step) + dot + self.path

    def error(self, subject: str) -> AxonValueError:
        return self.kind(
            f'{subject} "{self.path}": {self.reason}' if self.path else f"{subject}: {self.reason}"
        )


def write(value: Any, subject: str, keep: list[Any]) -> Any:
    """Builds the tree of a value.

    Args:
        value: what is to travel.
        subject: begins the error texts: `observation "images.top": object dtype`.
        keep: is given everything that the tree borrows from; it must live as long as the tree.

    Returns:
        An `axon_value *`, the caller's: free it with `lib.axon_value_free`.

    Raises:
        AxonValueError: a value that does not travel; AxonTypeError when its type is the reason.
    """
    try:
        tree = _write(value, keep, _MAX_DEPTH)
    except Refused as refused:
        raise refused.error(subject) from refused.__cause__
    if tree == ffi.NULL:
        raise MemoryError(f"{subject}: out of memory")
    return tree


def _write(value: Any, keep: list[Any], depth: int) -> Any:
    writer = _WRITERS.get(type(value)) or _find_writer(value)
    return writer(value, keep, depth)


def _write_map(value: Any, keep: list[Any], depth: int) -> Any:
    tree = _container(lib.axon_value_map, depth)
    try:
        for key, child in value.items():
            name = _names.get(key) or _name(key)
            writer = _WRITERS.get(type(child))
            try:
                if writer is _write_array and child.flags.c_contiguous:
                    like = _layouts.get((child.dtype, child.shape)) or _layout(child)
                    data = ffi.from_buffer(child)
                    keep.append(data)
                    status = lib.axb_set_array(tree, name, like, data)
                else:
                    writer = writer or _find_writer(child)
                    status = lib.axon_value_set(tree, name, writer(child, keep, depth - 1))
            except Refused as refused:
                refused.inside(key)
                raise
            if status:
                raise MemoryError("out of memory")
    except BaseException:
        lib.axon_value_free(tree)
        raise
    return tree


def _write_list(value: Any, keep: list[Any], depth: int) -> Any:
    tree = _container(lib.axon_value_list, depth)
    try:
        if not _append_numbers(tree, value):
            for index, child in enumerate(value):
                try:
                    node = _write(child, keep, depth - 1)
                except Refused as refused:
                    refused.inside(index)
                    raise
                if lib.axon_value_append(tree, node):
                    raise MemoryError("out of memory")
    except BaseException:
        lib.axon_value_free(tree)
        raise
    return tree


def _container(make: Callable[[], Any], depth: int) -> Any:
    if depth == 0:
        raise Refused(f"nested deeper than {_MAX_DEPTH} levels")
    return make()


def _append_numbers(tree: Any, numbers: Any) -> bool:
    """Adds a list of nothing but floats, or nothing but ints, in one call; False when it is no such list."""
    kinds = set(map(type, numbers))
    if kinds == {float}:
        status = lib.axon_value_append_floats(tree, ffi.new(_DOUBLES, numbers), len(numbers))
    elif kinds == {int}:
        try:
            status = lib.axon_value_append_ints(tree, ffi.new(_INTS, numbers), len(numbers))
        except OverflowError:
            return False
    else:
        return False
    if status:
        raise MemoryError("out of memory")
    return True


_names: dict[str, bytes] = {}  # observations have the same keys, time after time


def _name(key: Any) -> bytes:
    if not isinstance(key, str):
        raise Refused(f"key {key!r:.80} is {type(key).__name__}, keys must be str", AxonTypeError)
    name = _utf8(key, "key ")
    if b"\0" in name:
        raise Refused(f"key {key!r:.80} holds a zero character")
    if len(_names) < _MAX_NAMES:
        _names[key] = name
    return name


def _utf8(text: str, what: str = "") -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{what}{text!r:.80} is not Unicode: lone surrogate at {error.start}") from None


class Picture:
    """A picture among the members of a JSON body."""

    __slots__ = ("handle",)

    def __init__(self, handle: Any) -> None:
        self.handle = handle


def _write_picture(value: Picture, _keep: list[Any], _depth: int) -> Any:
    return lib.axon_value_image(value.handle)


def _write_nil(_value: Any, _keep: list[Any], _depth: int) -> Any:
    return lib.axon_value_nil()


def _write_bool(value: bool, _keep: list[Any], _depth: int) -> Any:
    return lib.axon_value_bool(value)


def _write_int(value: int, _keep: list[Any], _depth: int) -> Any:
    try:
        return lib.axon_value_int(value) if value < 1 << 63 else lib.axon_value_uint(value)
    except OverflowError:
        raise Refused(f"int of {value.bit_length()} bits does not fit 64") from None


def _write_float(value: float, _keep: list[Any], _depth: int) -> Any:
    return lib.axon_value_float(value)


def _write_str(value: str, keep: list[Any], _depth: int) -> Any:
    text = ffi.from_buffer(_utf8(value))
    keep.append(text)
    return lib.axon_value_string(text, len(text))


def _write_bytes(value: Any, keep: list[Any], _depth: int) -> Any:
    if isinstance(value, memoryview) and not value.c_contiguous:
        value = value.tobytes()
    data = ffi.from_buffer(value)
    keep.append(data)
    return lib.axon_value_bytes(data, len(data))


def _write_array(value: numpy.ndarray[Any, Any], keep: list[Any], _depth: int) -> Any:
    return lib.axon_value_array(describe(value, keep))


def _write_like_array(value: Any, keep: list[Any], _depth: int) -> Any:
    return lib.axon_value_array(describe(as_numpy(value), keep))


def _write_scalar(value: numpy.generic, _keep: list[Any], _depth: int) -> Any:
    dtype, _, _ = _element(value.dtype)
    return lib.axon_value_scalar(dtype, value.tobytes())


_WRITERS: dict[type, Writer] = {
    type(None): _write_nil,
    bool: _write_bool,
    int: _write_int,
    float: _write_float,
    str: _write_str,
    bytes: _write_bytes,
    bytearray: _write_bytes,
    memoryview: _write_bytes,
    list: _write_list,
    tuple: _write_list,
    dict: _write_map,
    Picture: _write_picture,
}


def _find_writer(value: Any) -> Writer:
    """The writer of a subclass, of a numpy type, or of what numpy can see as an array."""
    kind = type(value)
    numpy = sys.modules.get("numpy")
    writer = None
    for base in kind.__mro__:
        if base in _WRITERS:
            writer = _WRITERS[base]
            break
    if numpy is not None and isinstance(value, numpy.ndarray):
        writer = _write_array if kind is numpy.ndarray else _write_like_array
    elif writer is None and numpy is not None and isinstance(value, numpy.generic):
        writer = _write_scalar
    elif writer is None and isinstance(value, Mapping):
        writer = _write_map
    elif writer is None and (hasattr(kind, "__array_interface__") or hasattr(kind, "__array__")):
        writer = _write_like_array
    if writer is None:
        raise Refused(f"{kind.__name__} does not travel", AxonTypeError)
    if kind.__module__ == "numpy":  # a closed set, unlike the caller's own classes
        _WRITERS[kind] = writer
    return writer


def as_numpy(value: Any) -> numpy.ndarray[Any, Any]:
    """What numpy sees in a torch tensor, a PIL image, a subclass of ndarray and the like, as a plain ndarray."""
    if hasattr(value, "filled") and hasattr(value, "mask"):
        raise Refused("a masked array would lose its mask; send array.filled(value)")
    try:
        return _numpy().asarray(value)  # type: ignore[no-any-return]
    except Exception as error:  # whatever the other library raises: on a GPU, needs a gradient, ...
        raise Refused(f"{type(value).__name__} gives no array: {error}", AxonTypeError) from error


def describe(array: numpy.ndarray[Any, Any], keep: list[Any]) -> Any:
    """Describes an array to C without copying it, whatever its strides.

    Returns:
        An `axon_array *` that points into the array's memory, which `keep` is given to hold.

    Raises:
        Refused: a dtype that does not travel, or too many dimensions.
    """
    dtype, itemsize, swapped = _element(array.dtype)
    shape = array.shape
    if len(shape) > _MAX_NDIM:
        raise Refused(f"array of {len(shape)} dimensions, at most {_MAX_NDIM} travel")
    if not array.flags.c_contiguous:
        if any(array.strides):
            keep.append(array)
            data = ffi.cast("void *", array.__array_interface__["data"][0])
            return ffi.new(_ARRAY, (dtype, len(shape), itemsize, swapped, data, shape, array.strides))
        array = array.copy()  # one element broadcast: to C, strides of nothing but 0 mean C order
    data = ffi.from_buffer(array)
    keep.append(data)
    return ffi.new(_ARRAY, (dtype, len(shape), itemsize, swapped, data, shape))


_layouts: dict[Any, Any] = {}  # by dtype and shape, descriptions of arrays in C order, without their data


def _layout(array: numpy.ndarray[Any, Any]) -> Any:
    if len(_layouts) >= _MAX_LAYOUTS:
        _layouts.clear()
    layout = _layouts[array.dtype, array.shape] = describe(array, [])
    return layout


_elements: dict[Any, tuple[int, int, int]] = {}


def _element(dtype: numpy.dtype[Any]) -> tuple[int, int, int]:
    """A dtype as C knows it: (axon_dtype, itemsize where C cannot know it, 1 for the other byte order)."""
    found = _elements.get(dtype)
    if found is None:
        found = _classify(dtype)
        if dtype.str[1:] in _CODES:
            _elements[dtype] = found
    return found


def _classify(dtype: numpy.dtype[Any]) -> tuple[int, int, int]:
    swapped = int(not dtype.isnative)
    if dtype.str[1:] in _CODES:
        return _CODES[dtype.str[1:]], 0, swapped
    if dtype.kind == "U":
        return lib.AXON_FIXED_TEXT, dtype.itemsize, swapped
    if dtype.kind == "S":
        return lib.AXON_FIXED_BYTES, dtype.itemsize, 0
    name = _UNSENDABLE.get(dtype.kind, str(dtype))
    raise Refused(f"{name} dtype", AxonTypeError)


# ---- in --------------------------------------------------------------------------------------------------


_BYTES = ffi.typeof("char *")
_ARRAY_OUT = ffi.typeof("const axon_array **")
_CHARACTERS = ffi.typeof("char[]")
_VALUE = ffi.typeof("axon_value *")
_ROW = ffi.typeof("axi_row *")
_NODES = ffi.typeof("axi_node[]")
_ROOM = (32, 1024, 32768)  # nodes, bytes of text and of data: most replies need no more
_KEPT = 1 << 20  # bytes of a row that is kept for the next tree
_LARGE = 65536  # bytes of an array that stays in its message
_MOST = 65536  # nodes laid out at a time: 7 MB, whatever a peer sends
_NODE = struct.Struct("7qd5q")  # an axi_node, as the tuples that readers are given
_TYPE, _KIND, _KEY_IS_BYTES, _KEY_AT, _KEY_END, _AT, _END, _REAL, _NDIM, _SHAPE = range(10)

_Node = Tuple[Any, ...]


class Memory:
    """A received message, in which large arrays may stay: it is freed when nobody looks at one of them any more."""

    __slots__ = ("buffer", "start")

    def __init__(self, start: Any, length: int) -> None:
        """Takes over a message of `length` bytes at `start`, a `char *`."""
        self.start = ffi.gc(start, lib.axb_give_message)
        self.buffer = ffi.buffer(self.start, length)


class _Row:
    """A tree as C lays it out, csrc/row.h: its nodes, and the texts and data that they have places in."""

    __slots__ = ("_nodes", "_utf8", "c", "data", "memory", "nodes", "size", "text")

    nodes: Iterator[_Node]
    text: str
    memory: Memory | None

    def __init__(self, nodes: int, text: int, data: int) -> None:
        rooms = [ffi.new(_NODES, nodes), ffi.new(_CHARACTERS, text), ffi.new(_CHARACTERS, data)]
        self.c = ffi.new(_ROW, (*rooms, nodes, text, data))
        self._nodes, self._utf8, self.data = map(ffi.buffer, rooms)  # which keep the rooms
        self.size = nodes * _NODE.size + text + data

    def fill(self, lay_out: LayOut, value: Any, memory: Memory | None) -> bool:
        """Lays a tree out; False when there is no room for all of it, and `c` says how much it takes."""
        length = lay_out(self.c, value, ffi.NULL if memory is None else memory.start)
        if length < 0:
            return False
        self.nodes = _NODE.iter_unpack(self._nodes)
        self.text = self._utf8[:length].decode() if length else ""
        self.memory = memory
        return True


_spare_rows: list[_Row] = []

LayOut = Callable[[Any, Any, Any], int]  # C's axi_row_fill(), or what does the same with more than a tree

Reader = Callable[[_Node, _Row], Any]


def _read_branches(value: Any, memory: Memory | None) -> Any:
    count = lib.axon_value_count(value)
    if lib.axon_value_type(value) == lib.AXON_LIST:
        return [read(lib.axon_value_at(value, index), memory) for index in range(count)]
    result: dict[Any, Any] = {}
    length, is_bytes = ffi.new("size_t *"), ffi.new("int32_t *")
    for index in range(count):
        key = ffi.unpack(lib.axon_value_key(value, index, length, is_bytes), length[0])
        result[key if is_bytes[0] else key.decode()] = read(lib.axon_value_at(value, index), memory)
    return result


def read(
    value: Any,
    memory: Memory | None = None,
    lay_out: LayOut = lib.axi_row_fill,
    read_branches: Callable[[Any, Memory | None], Any] = _read_branches,
) -> Any:
    """Turns a C tree into Python objects that the caller owns; `value` stays whose it was.

    The tree crosses in one call: C lays it out as a row of nodes, each container before its children. A tree of
    very many nodes crosses branch by branch.

    Args:
        value: an `axon_value *`.
        memory: the message that it points into; without it, arrays are copied.
        lay_out: what lays `value` out, if it is no `axon_value *`.
        read_branches: what reads it branch by branch.

    Raises:
        AxonProtocolError: the tree holds JSON text, and Python's parser does not take it.
        ImportError: the tree holds an array, and numpy is not installed.
    """
    try:
        row = _spare_rows.pop()
    except IndexError:
        row = _Row(*_ROOM)
    if not row.fill(lay_out, value, memory):
        counted = row.c
        if counted.node_count > _MOST:
            return read_branches(value, memory)
        row = _Row(
            max(counted.node_count, counted.node_room),
            max(counted.text_bytes, counted.text_room),
            max(counted.data_bytes, counted.data_room),
        )
        row.fill(lay_out, value, memory)
    root = next(row.nodes)
    result = _READERS[root[_TYPE]](root, row)
    row.memory = None
    if row.size <= _KEPT:
        _spare_rows.append(row)
    return result


def _read_map(node: _Node, row: _Row) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for child in islice(row.nodes, node[_AT]):  # a reader takes its own children off
        text = row.data if child[_KEY_IS_BYTES] else row.text
        key = text[child[_KEY_AT] : child[_KEY_END]]
        result[key] = _READERS[child[_TYPE]](child, row)
    return result


def _read_list(node: _Node, row: _Row) -> list[Any]:
    if node[_KIND] == _FLOAT:
        return memoryview(row.data)[node[_AT] : node[_END]].cast("d").tolist()
    if node[_KIND] == _INT:
        return memoryview(row.data)[node[_AT] : node[_END]].cast("q").tolist()
    return [_READERS[child[_TYPE]](child, row) for child in islice(row.nodes, node[_AT])]


def _read_nil(_node: _Node, _row: _Row) -> None:
    return None


def _read_bool(node: _Node, _row: _Row) -> bool:
    return bool(node[_AT])


def _read_int(node: _Node, _row: _Row) -> int:
    return node[_AT]  # type: ignore[no-any-return]


def _read_uint(node: _Node, _row: _Row) -> int:
    return node[_AT] + (1 << 64)  # type: ignore[no-any-return]  # the row has it as a negative int64


def _read_float(node: _Node, _row: _Row) -> float:
    return node[_REAL]  # type: ignore[no-any-return]


def _read_str(node: _Node, row: _Row) -> str:
    return row.text[node[_AT] : node[_END]]


def _read_bytes(node: _Node, row: _Row) -> bytes:
    return row.data[node[_AT] : node[_END]]  # type: ignore[no-any-return]


def _read_array(node: _Node, row: _Row) -> numpy.ndarray[Any, Any]:
    dtype = _dtypes.get(node[_KIND]) or _dtype(node[_KIND])
    return _new_array(node[_SHAPE : _SHAPE + node[_NDIM]], dtype, row.data, node[_AT]).copy()  # type: ignore[no-any-return]


def _read_view(node: _Node, row: _Row) -> numpy.ndarray[Any, Any]:
    dtype = _dtypes.get(node[_KIND]) or _dtype(node[_KIND])
    assert row.memory is not None
    return _new_array(node[_SHAPE : _SHAPE + node[_NDIM]], dtype, row.memory.buffer, node[_AT])  # type: ignore[no-any-return]


def _read_long(node: _Node, _row: _Row) -> numpy.ndarray[Any, Any]:
    dtype = _dtypes.get(node[_KIND]) or _dtype(node[_KIND])
    result = _new_array(node[_SHAPE : _SHAPE + node[_NDIM]], dtype)
    ffi.memmove(result, ffi.cast(_BYTES, node[_AT]), node[_END])
    return result  # type: ignore[no-any-return]


def _read_scalar(node: _Node, row: _Row) -> Any:
    return _read_array(node, row)[()]


def _read_far(node: _Node, row: _Row) -> Any:
    """What is too long for a row, or is no plain array."""
    kind, where = node[_KIND], node[_AT]
    if kind == lib.AXON_ARRAY:
        return _read_whole_array(ffi.cast(_VALUE, where), node[_END], row.memory)
    if kind == lib.AXON_SCALAR:
        return array_of(_described(ffi.cast(_VALUE, where)))[()]
    data = ffi.buffer(ffi.cast(_BYTES, where), node[_END])
    if kind == lib.AXON_STRING:
        return str(data, "utf-8")
    return _parse(data) if kind == lib.AXON_JSON else bytes(data)


def _parse(text: Any) -> Any:
    try:
        return json.loads(str(text, "utf-8"))
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(bytes(text))  # which finds out what else its encoding may be
    except (ValueError, RecursionError) as error:
        raise AxonProtocolError(f"not JSON: {error}") from None


def _read_whole_array(value: Any, length: int, memory: Memory | None) -> numpy.ndarray[Any, Any]:
    whole = lib.axb_take_array(value)
    if whole:
        return _view_of(whole)
    array = _described(value)
    if memory is not None and length >= _LARGE:
        return _view(array, memory.start, memory.buffer)
    return array_of(array)


def _described(value: Any) -> Any:
    array = ffi.new(_ARRAY_OUT)
    lib.axon_value_as_array(value, array)
    return array[0]


def _view_of(array: Any) -> numpy.ndarray[Any, Any]:
    """The array that was taken out of its tree, where it lies; the memory goes when nobody looks at it any more."""
    memory = ffi.gc(ffi.cast(_BYTES, array), lib.axon_free)
    dtype = _dtype_of(array)
    begin = ffi.cast(_BYTES, array.data) - memory
    elements = math.prod(ffi.unpack(array.shape, array.ndim))
    return _view(array, memory, ffi.buffer(memory, begin + elements * dtype.itemsize))


def _view(array: Any, start: Any, buffer: Any) -> numpy.ndarray[Any, Any]:
    """The array whose elements lie in `buffer`, which begins at `start`."""
    dtype, shape = _dtype_of(array), ffi.unpack(array.shape, array.ndim)
    return _new_array(shape, dtype, buffer, ffi.cast(_BYTES, array.data) - start)  # type: ignore[no-any-return]


def array_of(array: Any) -> numpy.ndarray[Any, Any]:
    """A copy of what an `axon_array *` describes, in C order."""
    dtype, shape = _dtype_of(array), ffi.unpack(array.shape, array.ndim)
    result = _new_array(shape, dtype)
    ffi.memmove(result, array.data, result.nbytes)
    return result  # type: ignore[no-any-return]


_READERS: dict[int, Reader] = {
    lib.AXON_NIL: _read_nil,
    lib.AXON_BOOL: _read_bool,
    lib.AXON_INT: _read_int,
    lib.AXON_UINT: _read_uint,
    lib.AXON_FLOAT: _read_float,
    lib.AXON_STRING: _read_str,
    lib.AXON_BYTES: _read_bytes,
    lib.AXON_ARRAY: _read_array,
    lib.AXON_SCALAR: _read_scalar,
    lib.AXON_LIST: _read_list,
    lib.AXON_MAP: _read_map,
    lib.AXI_NODE_VIEW: _read_view,
    lib.AXI_NODE_LONG: _read_long,
    lib.AXI_NODE_FAR: _read_far,
}

_dtypes: dict[int, Any] = {}
_new_array: Any = None  # numpy.ndarray, once a dtype was asked for


def _dtype_of(array: Any) -> Any:
    """The numpy dtype of a received `axon_array *`: always this machine's byte order."""
    known = _dtypes.get(array.dtype) or _dtype(array.dtype)
    if array.dtype == lib.AXON_FIXED_TEXT:
        return known(f"U{array.itemsize // 4}")
    return known(f"S{array.itemsize}") if array.dtype == lib.AXON_FIXED_BYTES else known


def _dtype(code: int) -> Any:
    global _new_array
    numpy = _numpy()
    _new_array = numpy.ndarray
    for name, known in _CODES.items():
        _dtypes[known] = numpy.dtype(name)
    _dtypes[lib.AXON_FIXED_TEXT] = _dtypes[lib.AXON_FIXED_BYTES] = numpy.dtype
    return _dtypes[code]


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise ImportError(f"an array needs numpy, which cannot be imported: {error}") from error
    return numpy


# ---- as bytes --------------------------------------------------------------------------------------------


def packb(value: Any, marker: int = lib.AXON_MARKER_OPENPI) -> bytes:
    """The msgpack message that a value travels as.

    Raises:
        AxonValueError: as `write`.
    """
    keep: list[Any] = []
    data, length, error = ffi.new("void **"), ffi.new("size_t *"), new_error()
    tree = write(value, "value", keep)
    try:
        check(lib.axon_value_to_msgpack(tree, marker, data, length, error), error)
    finally:
        lib.axon_value_free(tree)
    try:
        return bytes(ffi.buffer(data[0], length[0]))
    finally:
        lib.axon_free(data[0])


def unpackb(message: bytes | bytearray | memoryview) -> Any:
    """The value that a msgpack message holds, whichever ndarray marker it uses.

    Raises:
        AxonProtocolError: anything but one whole, well-formed message.
    """
    data, tree, error = ffi.from_buffer(message), ffi.new("axon_value **"), new_error()
    check(lib.axon_value_from_msgpack(data, len(data), tree, error), error)
    try:
        return read(tree[0])
    finally:
        lib.axon_value_free(tree[0])
