"""
lightweight-grasp-net - Python Client SDK

Grasps for a parallel gripper, in the picture's plane (GR-ConvNet v2).

RGB and depth in, ranked grasps out, in under 50 ms. The names of the fields are those of the service's
catalog entry; no server of it is public, so they are not confirmed against one.

Usage (inside robot code execution):
    from service_clients.lightweight_grasp_net.client import LightweightGraspClient
    from robot_sdk import sensors

    client = LightweightGraspClient()

    rgb_bytes = sensors.get_camera_frame()  # JPEG bytes
    depth_bytes = sensors.get_depth_frame()  # PNG bytes, 16 bit, in mm
    result = client.detect(rgb_bytes, depth_bytes, num_grasps=5)

Methods:
    detect(rgb_image, depth_image, num_grasps=5)
        Proposes grasps, best first. Returns {grasps: list of {position: [x, y] in pixels, angle in rad,
        width, quality, transform: 4 x 4}}.

A picture is any of: JPEG or PNG bytes, a path, a numpy array, base64 text, a PIL image. Arrays are uint8 (H,
W), (H, W, 1), (H, W, 3) or (H, W, 4), or uint16 or float depth (H, W), and BGR unless color= says otherwise.

The service is looked for at the constructor's `host`, else the environment's AXON_HOST_LIGHTWEIGHT_GRASP_NET,
else the `host` of the service.json beside this file, else http://127.0.0.1:8006.

Everything raised is a RuntimeError: "Service unavailable at http://...: ..." (also a ConnectionError),
"/detect failed (HTTP 422): ...", a call longer than `timeout` (also a TimeoutError), an argument that cannot
be (also a ValueError; a path that leads nowhere also a FileNotFoundError).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from service_clients._axon import ServiceClient, given

if TYPE_CHECKING:
    from service_clients._axon import Image


class LightweightGraspClient(ServiceClient):
    """Grasps for a parallel gripper, in the picture's plane (GR-ConvNet v2)."""

    _WIRE: ClassVar[Any] = {  # for robots without the native core
        "detect": ("POST", "/detect", {}),
    }

    def __init__(self, host: str | None = None, timeout: float | None = 60.0) -> None:
        """Makes the client; nothing is sent yet.

        Args:
            host: "http://host:port" of the service; None looks where the module's docstring says.
            timeout: seconds for one whole call, connecting included.
        """
        super().__init__(
            host,
            timeout,
            service="lightweight_grasp_net",
            default_host="http://127.0.0.1:8006",
            client_file=__file__,
        )

    def detect(
        self, rgb_image: Image, depth_image: Image, num_grasps: int = 5, *, color: str | None = None
    ) -> dict[str, Any]:
        """Proposes grasps, best first.

        Args:
            rgb_image: JPEG or PNG bytes, or pixels.
            depth_image: Aligned to it: uint16 pixels or a 16-bit PNG, in mm.
            num_grasps: The most that come back, at least 1.
            color: The channel order of an array, "rgb" or "bgr"; None: "bgr".

        Returns:
            {grasps: list of {position: [x, y] in pixels, angle in rad, width, quality, transform: 4 x 4}}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call(
            "detect",
            {"rgb_image": rgb_image, "depth_image": depth_image},
            color,
            num_grasps=given(num_grasps, "num_grasps"),
        )
        return reply  # type: ignore[no-any-return]
