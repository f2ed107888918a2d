"""
local-obstacle-avoidance - Python Client SDK

Velocities that do not run into things (dynamic window approach).

Feed depth frames; a costmap of the robot's surroundings (3 to 5 m) is kept from them. Ask what is safe of the
velocity that you want. An emergency stop is on while something is too near.

Usage (inside robot code execution):
    from service_clients.local_obstacle_avoidance.client import ObstacleAvoidanceClient
    from robot_sdk import sensors

    client = ObstacleAvoidanceClient()

    depth_bytes = sensors.get_depth_frame()  # PNG bytes, 16 bit, in mm
    client.update_depth(depth_bytes, fx=615.0, fy=615.0, cx=320.0, cy=240.0)
    command = client.safe_velocity(target_vx=0.3)
    picture = client.costmap()
    stopped = client.estop_status()["estop_active"]

Methods:
    update_depth(image, fx, fy, cx, cy)
        Updates the costmap with one depth frame. Returns {status, estop_active, costmap_coverage, timestamp}.
    safe_velocity(target_vx=0.0, target_omega=0.0, goal_x=None, goal_y=None)
        The velocity nearest to the wanted one that is safe. Returns {safe_vx in m/s, safe_omega in rad/s,
        estop_active, dwa_score, or reason while the emergency stop is on}.
    costmap(format="png")
        The costmap as it is now. Returns "png": bytes of a picture; "json": {costmap, size, resolution}.
    estop_status()
        Whether the emergency stop is on. Returns {estop_active, min_obstacle_distance_threshold in m,
        last_update}.

A picture is any of: JPEG or PNG bytes, a path, a numpy array, base64 text, a PIL image. Arrays are uint8 (H,
W), (H, W, 1), (H, W, 3) or (H, W, 4), or uint16 or float depth (H, W).

The service is looked for at the constructor's `host`, else the environment's
AXON_HOST_LOCAL_OBSTACLE_AVOIDANCE, else the `host` of the service.json beside this file, else
http://127.0.0.1:8007.

Everything raised is a RuntimeError: "Service unavailable at http://...: ..." (also a ConnectionError),
"/update_depth failed (HTTP 422): ...", a call longer than `timeout` (also a TimeoutError), an argument that
cannot be (also a ValueError; a path that leads nowhere also a FileNotFoundError).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from service_clients._axon import ServiceClient

if TYPE_CHECKING:
    from service_clients._axon import Image


class ObstacleAvoidanceClient(ServiceClient):
    """Velocities that do not run into things (dynamic window approach)."""

    _WIRE: ClassVar[Any] = {  # for robots without the native core
        "update_depth": ("POST", "/update_depth", {}),
        "safe_velocity": ("POST", "/safe_velocity", {}),
        "costmap": ("GET", "/costmap", {"query": ["format"]}),
        "estop_status": ("GET", "/estop_status", {}),
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
            service="local_obstacle_avoidance",
            default_host="http://127.0.0.1:8007",
            client_file=__file__,
        )

    def update_depth(self, image: Image, fx: float, fy: float, cx: float, cy: float) -> dict[str, Any]:
        """Updates the costmap with one depth frame.

        Args:
            image: Uint16 pixels or a 16-bit PNG, in mm.
            fx: Focal length in pixels, as fy.
            fy: Focal length in pixels.
            cx: Principal point in pixels, as cy.
            cy: Principal point in pixels.

        Returns:
            {status, estop_active, costmap_coverage, timestamp}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call("update_depth", {"image": image, "fx": fx, "fy": fy, "cx": cx, "cy": cy})
        return reply  # type: ignore[no-any-return]

    def safe_velocity(
        self,
        target_vx: float = 0.0,
        target_omega: float = 0.0,
        goal_x: float | None = None,
        goal_y: float | None = None,
    ) -> dict[str, Any]:
        """The velocity nearest to the wanted one that is safe.

        Args:
            target_vx: Wanted forward velocity in m/s.
            target_omega: Wanted turning velocity in rad/s.
            goal_x: Forward, in m, in the robot's frame.
            goal_y: To the left, in m, in the robot's frame.

        Returns:
            {safe_vx in m/s, safe_omega in rad/s, estop_active, dwa_score, or reason while the emergency stop
            is on}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call(
            "safe_velocity", {}, target_vx=target_vx, target_omega=target_omega, goal_x=goal_x, goal_y=goal_y
        )
        return reply  # type: ignore[no-any-return]

    def costmap(self, format: str = "png") -> Any:
        """The costmap as it is now.

        Args:
            format: Of the costmap: "png" or "json".

        Returns:
            "png": bytes of a picture; "json": {costmap, size, resolution}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call("costmap", {}, format=format)
        return reply

    def estop_status(self) -> dict[str, Any]:
        """Whether the emergency stop is on.

        Returns:
            {estop_active, min_obstacle_distance_threshold in m, last_update}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call("estop_status", {})
        return reply  # type: ignore[no-any-return]
