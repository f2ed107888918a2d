"""
graspgen - Python Client SDK

Six-degree-of-freedom grasp poses from a depth image (Contact-GraspNet).

Depth in, ranked grasp poses for a parallel gripper out, in the camera's frame.

Usage (inside robot code execution):
    from service_clients.graspgen.client import GraspGenClient
    from robot_sdk import sensors

    client = GraspGenClient()

    depth_bytes = sensors.get_depth_frame()  # PNG bytes, 16 bit, in mm
    grasps = client.generate(depth_bytes, num_grasps=5)
    reply = client.generate_full(depth_bytes, z_range=(0.3, 1.0))

Methods:
    generate(depth_image, mask=None, camera_matrix=None, num_grasps=10, z_range=(0.2, 1.8), depth_scale=0.001)
        Proposes grasps, best first. Returns list of {transform: 4 x 4 in the camera's frame, score,
        contact_point: [x, y, z] in m, gripper_opening in m}.
    generate_full(depth_image, mask=None, camera_matrix=None, num_grasps=10, z_range=(0.2, 1.8),
            depth_scale=0.001)
        Proposes grasps and gives the whole reply. Returns {grasps: as above; num_grasps, device,
        inference_ms, point_cloud_size}.

A picture is any of: JPEG or PNG bytes, a path, a numpy array, base64 text, a PIL image. Arrays are uint8 (H,
W), (H, W, 1), (H, W, 3) or (H, W, 4), or uint16 or float depth (H, W).

The service is looked for at the constructor's `host`, else the environment's AXON_HOST_GRASPGEN, else the
`host` of the service.json beside this file, else http://127.0.0.1:8002.

Everything raised is a RuntimeError: "Service unavailable at http://...: ..." (also a ConnectionError),
"/generate failed (HTTP 422): ...", a call longer than `timeout` (also a TimeoutError), an argument that
cannot be (also a ValueError; a path that leads nowhere also a FileNotFoundError).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Mapping, Sequence

from service_clients._axon import ServiceClient, given, stack

if TYPE_CHECKING:
    import numpy

    from service_clients._axon import Image


class GraspGenClient(ServiceClient):
    """Six-degree-of-freedom grasp poses from a depth image (Contact-GraspNet)."""

    _WIRE: ClassVar[Any] = {  # for robots without the native core
        "generate": (
            "POST",
            "/generate",
            {
                "member": "grasps",
                "npy": ["depth_image"],
                "rows": {"camera_matrix": 3},
            },
        ),
        "generate_full": ("POST", "/generate", {"npy": ["depth_image"], "rows": {"camera_matrix": 3}}),
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
            service="graspgen",
            default_host="http://127.0.0.1:8002",
            client_file=__file__,
        )

    def generate(
        self,
        depth_image: Image,
        mask: Image | None = None,
        camera_matrix: Sequence[Any] | None = None,
        num_grasps: int = 10,
        z_range: Sequence[Any] = (0.2, 1.8),
        depth_scale: float = 0.001,
    ) -> list[dict[str, Any]]:
        """Proposes grasps, best first.

        Args:
            depth_image: A 16-bit PNG or uint16 pixels in units of depth_scale, or float pixels in metres;
                pixels travel as .npy.
            mask: 255 where the object is, 0 elsewhere; None: the whole scene.
            camera_matrix: 3 x 3, row by row, in pixels; None: a RealSense D435 at 640 x 480.
            num_grasps: The most that come back, 1 to 200.
            z_range: Nearest and farthest depth used, in m.
            depth_scale: Metres in one unit of an integer depth image.

        Returns:
            List of {transform: 4 x 4 in the camera's frame, score, contact_point: [x, y, z] in m,
            gripper_opening in m}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call(
            "generate",
            {"depth_image": depth_image},
            mask=mask,
            camera_matrix=camera_matrix,
            num_grasps=given(num_grasps, "num_grasps"),
            z_range=z_range,
            depth_scale=given(depth_scale, "depth_scale"),
        )
        return reply  # type: ignore[no-any-return]

    def generate_full(
        self,
        depth_image: Image,
        mask: Image | None = None,
        camera_matrix: Sequence[Any] | None = None,
        num_grasps: int = 10,
        z_range: Sequence[Any] = (0.2, 1.8),
        depth_scale: float = 0.001,
    ) -> dict[str, Any]:
        """Proposes grasps and gives the whole reply.

        Args:
            depth_image: As for generate.
            mask: 255 where the object is, 0 elsewhere; None: the whole scene.
            camera_matrix: 3 x 3, row by row, in pixels; None: a RealSense D435 at 640 x 480.
            num_grasps: The most that come back, 1 to 200.
            z_range: Nearest and farthest depth used, in m.
            depth_scale: Metres in one unit of an integer depth image.

        Returns:
            {grasps: as above; num_grasps, device, inference_ms, point_cloud_size}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call(
            "generate_full",
            {"depth_image": depth_image},
            mask=mask,
            camera_matrix=camera_matrix,
            num_grasps=given(num_grasps, "num_grasps"),
            z_range=z_range,
            depth_scale=given(depth_scale, "depth_scale"),
        )
        return reply  # type: ignore[no-any-return]

    @staticmethod
    def get_transforms_as_numpy(found: Sequence[Mapping[str, Any]]) -> numpy.ndarray[Any, Any]:
        """The transforms of grasps, as generate gives them, as one float64 array (N, 4, 4)."""
        return stack(found, "transform", (4, 4))
