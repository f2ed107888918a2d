"""
foundation-stereo - Python Client SDK

Dense depth from a pair of pictures (FoundationStereo).

Rectified left and right pictures in, disparity and metric depth out; reflecting and transparent surfaces,
where infrared stereo fails, included.

Usage (inside robot code execution):
    from service_clients.foundation_stereo.client import FoundationStereoClient

    client = FoundationStereoClient()

    left_bytes = open("left.png", "rb").read()
    right_bytes = open("right.png", "rb").read()
    result = client.depth(left_bytes, right_bytes, focal_length=382.5, baseline=0.055)

Methods:
    depth(left_image, right_image, focal_length, baseline, valid_iters=32, scale=1.0, hiera=False,
            return_disparity=True, return_depth=True, return_vis=False)
        Computes disparity and depth, aligned to the left picture. Returns {height, width, inference_ms,
        device, and what was asked for: disparity: float32 array (height, width) in pixels, depth: float32
        array (height, width) in m, vis: PNG bytes}.

A picture is any of: JPEG or PNG bytes, a path, a numpy array, base64 text, a PIL image. Arrays are uint8 (H,
W), (H, W, 1), (H, W, 3) or (H, W, 4), or uint16 or float depth (H, W), and RGB unless color= says otherwise.

The service is looked for at the constructor's `host`, else the environment's AXON_HOST_FOUNDATION_STEREO,
else the `host` of the service.json beside this file, else http://127.0.0.1:8003.

Everything raised is a RuntimeError: "Service unavailable at http://...: ..." (also a ConnectionError),
"/depth failed (HTTP 422): ...", a call longer than `timeout` (also a TimeoutError), an argument that cannot
be (also a ValueError; a path that leads nowhere also a FileNotFoundError).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from service_clients._axon import ServiceClient, given

if TYPE_CHECKING:
    from service_clients._axon import Image


class FoundationStereoClient(ServiceClient):
    """Dense depth from a pair of pictures (FoundationStereo)."""

    _WIRE: ClassVar[Any] = {  # for robots without the native core
        "depth": ("POST", "/depth", {"arrays": ["disparity", "depth"], "bytes": ["vis"]}),
    }

    def __init__(self, host: str | None = None, timeout: float | None = 120.0) -> None:
        """Makes the client; nothing is sent yet.

        Args:
            host: "http://host:port" of the service; None looks where the module's docstring says.
            timeout: seconds for one whole call, connecting included.
        """
        super().__init__(
            host,
            timeout,
            service="foundation_stereo",
            default_host="http://127.0.0.1:8003",
            client_file=__file__,
        )

    def depth(
        self,
        left_image: Image,
        right_image: Image,
        focal_length: float,
        baseline: float,
        valid_iters: int = 32,
        scale: float = 1.0,
        hiera: bool = False,
        return_disparity: bool = True,
        return_depth: bool = True,
        return_vis: bool = False,
        *,
        color: str | None = None,
    ) -> dict[str, Any]:
        """Computes disparity and depth, aligned to the left picture.

        Args:
            left_image: Rectified; JPEG or PNG bytes, or pixels.
            right_image: Rectified, of the same shape.
            focal_length: In pixels.
            baseline: Between the cameras, in m.
            valid_iters: Refinement steps: more are slower and better.
            scale: Pictures are scaled by this first, above 0, at most 1.
            hiera: Coarse to fine, for pictures wider than 1000 pixels.
            return_disparity: Whether it comes back.
            return_depth: Whether it comes back.
            return_vis: A coloured PNG of the disparity.
            color: The channel order of an array, "rgb" or "bgr"; None: "rgb".

        Returns:
            {height, width, inference_ms, device, and what was asked for: disparity: float32 array (height,
            width) in pixels, depth: float32 array (height, width) in m, vis: PNG bytes}.

        Raises:
            RuntimeError: see the module's docstring.
        """
        reply = self._call(
            "depth",
            {
                "left_image": left_image,
                "right_image": right_image,
                "focal_length": focal_length,
                "baseline": baseline,
            },
            color or "rgb",
            valid_iters=given(valid_iters, "valid_iters"),
            scale=given(scale, "scale"),
            hiera=hiera,
            return_disparity=return_disparity,
            return_depth=return_depth,
            return_vis=return_vis,
        )
        return reply  # type: ignore[no-any-return]

    def depth_from_realsense(
        self,
        left_image: Image,
        right_image: Image,
        fx: float = 382.545,
        baseline: float = 0.055,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Depth with the focal length and baseline of an Intel RealSense D435 at 640 x 480."""
        return self.depth(left_image, right_image, focal_length=fx, baseline=baseline, **kwargs)
