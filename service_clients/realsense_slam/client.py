"""
realsense-slam - Python Client SDK

Where the camera is, and a map, from its pictures (visual SLAM).

Feed RGB and depth frames; ask for the camera's pose and for the map. The names of the fields are those of the
service's catalog entry; no server of it is public, so they are not confirmed against one.

Usage (inside robot code execution):
    from service_clients.realsense_slam.client import SLAMClient
    from robot_sdk import sensors

    client = SLAMClient()

    rgb_bytes = sensors.get_camera_frame()  # JPEG bytes
    depth_bytes = sensors.get_depth_frame()  # PNG bytes, 16 bit, in mm
    client.update(rgb_bytes, depth_bytes, intrinsics=(615.0, 615.0, 320.0, 240.0))
    pose = client.get_pose()
    points = client.get_pointcloud()
    grid = client.get_occupancy()
    client.save_map()
    client.load_map()
    client.reset()

Methods:
    update(rgb_image, depth_image, intrinsics)
        Adds one frame. Returns what the service says.
    get_pose()
        The camera's pose in the map. Returns {translation, quaternion, euler, matrix}.
    get_pointcloud()
        The map as points in space. Returns what the service says.
    get_occupancy()
        The map as an occupancy grid. Returns what the service says.
    save_map(path=None)
        Keeps the map in a file. Returns what the service says.
    load_map(path=None)
        Takes the map from a file. Returns what the service says.
    reset()
        Forgets map and pose. Returns what the service says.

A picture is any of: JPEG or PNG bytes, a path, a numpy array, base64 text, a PIL image. Arrays are uint8 (H,
W), (H, W, 1), (H, W, 3) or (H, W, 4), or uint16 or float depth (H, W), and BGR unless color= says otherwise.

The service is looked for at the constructor's `host`, else the environment's AXON_HOST_REALSENSE_SLAM, else
the `host` of the service.json beside this file, else http://127.0.0.1:8005.

Everything raised is a RuntimeError: "Service unavailable at http://...: ..." (also a ConnectionError),
"/update failed (HTTP 422): ...", a call longer than `timeout` (also a TimeoutError), an argument that cannot
be (also a ValueError; a path that leads nowhere also a FileNotFoundError).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Mapping, Sequence

from service_clients._axon import ServiceClient

if TYPE_CHECKING:
    from service_clients._axon import Image


class SLAMClient(ServiceClient):
    """Where the camera is, and a map, from its pictures (visual SLAM)."""

    _WIRE: ClassVar[Any] = {  # for robots without the native core
        "update": ("POST", "/update", {"named": {"intrinsics": ["fx", "fy", "cx", "cy"]}}),
        "get_pose": ("GET", "/pose", {}),
        "get_pointcloud": ("GET", "/map/pointcloud", {}),
        "get_occupancy": ("GET", "/map/occupancy", {}),
        "save_map": ("POST", "/map/save", {}),
        "load_map": ("POST", "/map/load", {}),
        "reset": ("POST", "/reset", {}),
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
            service="realsense_slam",
            default_host="http://127.0.0.1:8005",
            client_file=__file__,
        )

    def update(
        self,
        rgb_image: Image,
        depth_image: Image,
        intrinsics: Sequence[float] | Mapping[str, float],
        *,
        color: str | None = None,
    ) -> Any:
        """Adds one frame.

        Args:
            rgb_image: JPEG or PNG bytes, or pixels.
            depth_image: Aligned to it: uint16 pixels or a 16-bit PNG, in mm.
            intrinsics: Of the camera: (fx, fy, cx, cy) in pixels.
            color: The channel order of an array, "rgb" or "bgr"; None: "bgr".

        Returns:
            What the service says.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call(
            "update", {"rgb_image": rgb_image, "depth_image": depth_image, "intrinsics": intrinsics}, color
        )
        return reply

    def get_pose(self) -> dict[str, Any]:
        """The camera's pose in the map.

        Returns:
            {translation, quaternion, euler, matrix}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call("get_pose", {})
        return reply  # type: ignore[no-any-return]

    def get_pointcloud(self) -> Any:
        """The map as points in space.

        Returns:
            What the service says.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call("get_pointcloud", {})
        return reply

    def get_occupancy(self) -> Any:
        """The map as an occupancy grid.

        Returns:
            What the service says.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call("get_occupancy", {})
        return reply

    def save_map(self, path: str | None = None) -> Any:
        """Keeps the map in a file.

        Args:
            path: Of the map's file, on the service's machine; None: the service's own.

        Returns:
            What the service says.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call("save_map", {}, path=path)
        return reply

    def load_map(self, path: str | None = None) -> Any:
        """Takes the map from a file.

        Args:
            path: Of the map's file, on the service's machine; None: the service's own.

        Returns:
            What the service says.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call("load_map", {}, path=path)
        return reply

    def reset(self) -> Any:
        """Forgets map and pose.

        Returns:
            What the service says.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call("reset", {})
        return reply
