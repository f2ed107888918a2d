"""
nav-mapping - Python Client SDK

A two-dimensional occupancy grid from depth images, and paths through it.

Feed depth frames with the robot's pose; ask for the map, for a path (A*, obstacles inflated by the robot's
radius), or for the frontiers worth exploring.

Usage (inside robot code execution):
    from service_clients.nav_mapping.client import NavMappingClient
    from robot_sdk import sensors

    client = NavMappingClient()

    depth_bytes = sensors.get_depth_frame()  # PNG bytes, 16 bit, in mm
    status = client.update(depth_bytes, pose=(0.0, 0.0, 0.0), intrinsics=(615.0, 615.0, 320.0, 240.0))
    picture = client.get_map()
    path = client.plan(start=(0.0, 0.0), goal=(2.0, 3.0))
    frontiers = client.get_frontiers()
    client.reset()

Methods:
    update(depth_image, pose, intrinsics, max_range=5.0)
        Adds one depth frame to the map. Returns {status, update_ms, map_shape: [height, width]}.
    get_map(format="png")
        The map as it is now. Returns "png": bytes of a picture (0 free, 127 unknown, 255 occupied); "json":
        {grid, resolution in m, origin}; "info": {shape, resolution, origin, robot_radius, free_cells,
        occupied_cells, unknown_cells}.
    plan(start, goal, use_inflation=True)
        A path from one place to another. Returns {path_grid: list of cells, path_world: list of [x, y] in m,
        length_m, planning_ms}.
    get_frontiers()
        The borders between known and unknown space. Returns {frontiers, count, detection_ms}.
    reset()
        Forgets the map. Returns {status, message}.

A picture is any of: JPEG or PNG bytes, a path, a numpy array, base64 text, a PIL image. Arrays are uint8 (H,
W), (H, W, 1), (H, W, 3) or (H, W, 4), or uint16 or float depth (H, W).

The service is looked for at the constructor's `host`, else the environment's AXON_HOST_NAV_MAPPING, else the
`host` of the service.json beside this file, else http://127.0.0.1:8004.

Everything raised is a RuntimeError: "Service unavailable at http://...: ..." (also a ConnectionError),
"/update failed (HTTP 422): ...", a call longer than `timeout` (also a TimeoutError), an argument that cannot
be (also a ValueError; a path that leads nowhere also a FileNotFoundError).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Mapping, Sequence

from service_clients._axon import ServiceClient, given, numbers

if TYPE_CHECKING:
    from service_clients._axon import Image


class NavMappingClient(ServiceClient):
    """A two-dimensional occupancy grid from depth images, and paths through it."""

    _WIRE: ClassVar[Any] = {  # for robots without the native core
        "update": (
            "POST",
            "/update",
            {
                "named": {"pose": ["x", "y", "theta"], "intrinsics": ["fx", "fy", "cx", "cy"]},
            },
        ),
        "get_map": ("GET", "/map", {"query": ["format"]}),
        "plan": ("POST", "/plan", {}),
        "get_frontiers": ("GET", "/frontiers", {}),
        "reset": ("POST", "/reset", {}),
    }

    def __init__(self, host: str | None = None, timeout: float | None = 30.0) -> None:
        """Makes the client; nothing is sent yet.

        Args:
            host: "http://host:port" of the service; None looks where the module's docstring says.
            timeout: seconds for one whole call, connecting included.
        """
        super().__init__(
            host,
            timeout,
            service="nav_mapping",
            default_host="http://127.0.0.1:8004",
            client_file=__file__,
        )

    def update(
        self,
        depth_image: Image,
        pose: Sequence[float] | Mapping[str, float],
        intrinsics: Sequence[float] | Mapping[str, float],
        max_range: float = 5.0,
    ) -> dict[str, Any]:
        """Adds one depth frame to the map.

        Args:
            depth_image: Uint16 pixels or a 16-bit PNG, in mm.
            pose: Of the robot: (x, y) in m, theta in rad.
            intrinsics: Of the camera: (fx, fy, cx, cy) in pixels.
            max_range: Depth beyond this is not used, in m.

        Returns:
            {status, update_ms, map_shape: [height, width]}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call(
            "update",
            {"depth_image": depth_image, "pose": pose, "intrinsics": intrinsics},
            max_range=given(max_range, "max_range"),
        )
        return reply  # type: ignore[no-any-return]

    def get_map(self, format: str = "png") -> Any:
        """The map as it is now.

        Args:
            format: Of the map: "png", "json" or "info".

        Returns:
            "png": bytes of a picture (0 free, 127 unknown, 255 occupied); "json": {grid, resolution in m,
            origin}; "info": {shape, resolution, origin, robot_radius, free_cells, occupied_cells,
            unknown_cells}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call("get_map", {}, format=format)
        return reply

    def plan(
        self, start: Sequence[float], goal: Sequence[float], use_inflation: bool = True
    ) -> dict[str, Any]:
        """A path from one place to another.

        Args:
            start: [x, y] in m.
            goal: [x, y] in m.
            use_inflation: Keep the robot's radius from obstacles.

        Returns:
            {path_grid: list of cells, path_world: list of [x, y] in m, length_m, planning_ms}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call(
            "plan",
            {"start": numbers(start, 2, "start"), "goal": numbers(goal, 2, "goal")},
            use_inflation=use_inflation,
        )
        return reply  # type: ignore[no-any-return]

    def get_frontiers(self) -> dict[str, Any]:
        """The borders between known and unknown space.

        Returns:
            {frontiers, count, detection_ms}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call("get_frontiers", {})
        return reply  # type: ignore[no-any-return]

    def reset(self) -> dict[str, Any]:
        """Forgets the map.

        Returns:
            {status, message}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call("reset", {})
        return reply  # type: ignore[no-any-return]
