"""In place of openpi_client.msgpack_numpy: see service_clients/_axon/msgpack_numpy.py."""

from __future__ import annotations

from service_clients._axon.msgpack_numpy import (
    OutOfData,
    Packer,
    Unpacker,
    UnpackError,
    pack_array,
    packb,
    unpack_array,
    unpackb,
)

__all__ = ["OutOfData", "Packer", "UnpackError", "Unpacker", "pack_array", "packb", "unpack_array", "unpackb"]
