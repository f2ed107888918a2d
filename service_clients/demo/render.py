"""A small ray caster on numpy: boxes and capsules on a table, with shadows, seen by pinhole cameras.

Each shape is tried only against the rays of the pixels that it can cover, so that a picture costs milliseconds.
Lengths are metres. The world's x points away from the robot, y to its left, z up.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Sequence, Union

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt  # which numpy 1.17 has not

    Floats = npt.NDArray[np.float32]
    Triple = Union[Sequence[Any], Floats]  # x, y and z: numbers, or arrays of one shape

__all__ = ["Box", "Camera", "Capsule", "Disc", "Picture", "Shape", "Window", "draw", "draw_ground"]

Color = Sequence[int]

_LIGHT = np.array([0.42, -0.38, 0.82], np.float32) / np.float32(math.sqrt(0.42**2 + 0.38**2 + 0.82**2))
_AMBIENT, _DIFFUSE, _GLOSS = 0.52, 0.55, 0.18
_SHADOW = 0.62
_SKY = (214, 220, 226)
_TABLE = (198, 182, 160)
_PLANK = np.float32(0.11)  # its width
_TEXELS = 1000  # per metre of the table
_NEAR = 0.005  # what is nearer is not seen
_FAR = 5.0  # the depth of what is no shape and no table
_SIGNS = np.array([(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], np.float64)


class Box(NamedTuple):
    """A box, its sides along the world's axes."""

    center: tuple[float, float, float]
    half: tuple[float, float, float]
    color: Color


class Capsule(NamedTuple):
    """A rod with round ends."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float
    color: Color


class Disc(NamedTuple):
    """A mark painted on the table."""

    center: tuple[float, float]
    radius: float
    color: Color


Shape = Union[Box, Capsule]


class Window(NamedTuple):
    """A rectangle of pixels."""

    rows: slice
    columns: slice


class Picture(NamedTuple):
    """What a camera sees: rgb uint8 (h, w, 3) and depth float32 (h, w), metres along its optical axis."""

    rgb: npt.NDArray[np.uint8]
    depth: Floats


class Camera:
    """A pinhole camera without distortion."""

    def __init__(
        self,
        size: tuple[int, int],
        position: Sequence[float],
        target: Sequence[float],
        field_of_view: float,
        up: Sequence[float] = (0.0, 0.0, 1.0),
    ) -> None:
        """Puts a camera at `position`, looking at `target`.

        Args:
            size: (height, width) in pixels.
            position, target: x, y, z.
            field_of_view: from the top to the bottom of the picture, degrees.
            up: which way is up in the picture.
        """
        self.size = size
        height, width = size
        self.position = np.array(position, np.float64)
        forward = _unit(np.array(target, np.float64) - self.position)
        right = _unit(np.cross(forward, np.array(up, np.float64)))
        self.axes = np.stack([right, np.cross(forward, right), forward], axis=1)
        self.focal = height / 2.0 / math.tan(math.radians(field_of_view) / 2.0)
        across = (np.arange(width) + 0.5 - width / 2.0) / self.focal
        down = (np.arange(height) + 0.5 - height / 2.0) / self.focal
        # One forward per ray: what is reached after t of it lies at depth t.
        self.rays: Floats = (
            self.axes[:, 0, None, None] * across[None, None, :]
            + self.axes[:, 1, None, None] * down[None, :, None]
            + self.axes[:, 2, None, None]
        ).astype(np.float32)

    @property
    def intrinsics(self) -> npt.NDArray[np.float64]:
        """(3, 3), in pixels; pixel (0, 0) reaches from 0 to 1."""
        height, width = self.size
        return np.array([[self.focal, 0, width / 2], [0, self.focal, height / 2], [0, 0, 1]], np.float64)

    @property
    def pose(self) -> npt.NDArray[np.float64]:
        """(4, 4): from the camera's coordinates (x right, y down, z forward) to the world's."""
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = self.axes, self.position
        return pose

    def project(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Pixel coordinates (n, 2), x and y, of points (n, 3) of the world; those behind the camera are NaN."""
        seen = (np.asarray(points, np.float64) - self.position) @ self.axes
        depth = np.where(seen[:, 2:] > 1e-3, seen[:, 2:], np.nan)
        height, width = self.size
        return np.asarray(seen[:, :2] * (self.focal / depth) + (width / 2.0, height / 2.0))

    def points(self, depth: Floats) -> Floats:
        """The points (h, w, 3) of the world that a depth picture (h, w) of this camera shows."""
        return np.moveaxis(self.rays * depth, 0, -1) + self.position.astype(np.float32)

    def window(self, points: npt.ArrayLike) -> Window | None:
        """The pixels that the hull of points (n, 3) can cover; None: none of them."""
        height, width = self.size
        seen = (np.asarray(points, np.float64) - self.position) @ self.axes
        is_ahead = seen[:, 2] > _NEAR
        ahead, behind = seen[is_ahead], seen[~is_ahead]
        if not len(ahead):
            return None
        if len(behind):
            # What of the hull is ahead has its corners also where an edge leads behind the camera.
            share = (ahead[:, 2, None] - _NEAR) / (ahead[:, 2, None] - behind[None, :, 2])
            crossing = ahead[:, None] + (behind[None] - ahead[:, None]) * share[..., None]
            ahead = np.concatenate([ahead, crossing.reshape(-1, 3)])
        pixels = ahead[:, :2] * (self.focal / ahead[:, 2:]) + (width / 2.0, height / 2.0)
        left, top = np.clip(np.floor(pixels.min(axis=0)), 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(pixels.max(axis=0)), 0, (width, height)).astype(int)
        if left >= right or top >= bottom:
            return None
        return Window(slice(int(top), int(bottom)), slice(int(left), int(right)))


def draw_ground(camera: Camera, half_width: float, near: float, far: float) -> Picture:
    """The empty table, from x = near to far and y = -half_width to half_width at z = 0, in a bright room."""
    depth = np.float32(-camera.position[2]) / camera.rays[2]
    x = np.float32(camera.position[0]) + depth * camera.rays[0]
    y = np.float32(camera.position[1]) + depth * camera.rays[1]
    is_table = (depth > 0) & (np.abs(y) <= half_width) & (x >= near) & (x <= far)
    fade = np.linspace(1.04, 0.9, camera.size[0], dtype=np.float32)[:, None]
    room = np.minimum(np.array(_SKY, np.float32) * fade, 255).astype(np.uint8)
    rgb = np.broadcast_to(room[:, None], (*camera.size, 3)).copy()
    row = ((x[is_table] - np.float32(near)) * _TEXELS).astype(np.intp)
    column = ((y[is_table] + np.float32(half_width)) * _TEXELS).astype(np.intp)
    rgb[is_table] = _wood(math.ceil((far - near) * _TEXELS) + 1, math.ceil(2 * half_width * _TEXELS) + 1)[
        row, column
    ]
    return Picture(rgb, np.where(is_table, depth, np.float32(_FAR)))


@functools.lru_cache(maxsize=4)
def _wood(rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """A table top of planks along x, _TEXELS pixels to the metre, each plank a little lighter or darker."""
    x = (np.arange(rows, dtype=np.float32) / _TEXELS)[:, None]
    y = (np.arange(columns, dtype=np.float32) / _TEXELS)[None, :]
    plank = np.floor(y / _PLANK)
    grain = (
        np.sin(x * 23 + np.sin(y * 190 + plank * 5) * 1.2) * 3.0 + np.sin(y * 520 + x * 9 + plank * 3) * 2.0
    )
    tone = 1.0 + np.sin(plank * 12.9) * 0.02 + grain / 255.0
    tone *= np.where(y - plank * _PLANK < 0.003, 0.9, 1.0)
    return np.asarray(np.minimum(np.multiply.outer(tone, _TABLE), 255), np.uint8)


def draw(camera: Camera, ground: Picture, discs: Sequence[Disc], shapes: Sequence[Shape]) -> Picture:
    """The scene as `camera` sees it.

    Args:
        ground: what draw_ground() made for this camera; not changed.
        discs: painted on the table, in order.
        shapes: what stands and hangs there, in any order; it throws shadows on the table, not on other shapes.
    """
    picture = Picture(ground.rgb.copy(), ground.depth.copy())
    for disc in discs:
        _paint(camera, picture, disc)
    _throw_shadows(camera, picture, shapes)
    for shape in shapes:
        _draw_shape(camera, picture, shape)
    return picture


def _paint(camera: Camera, picture: Picture, disc: Disc) -> None:
    (x, y), radius = disc.center, disc.radius
    window = camera.window([(x + i, y + j, 0.0) for i in (-radius, radius) for j in (-radius, radius)])
    if window is None:
        return
    point = _table_points(camera, picture, window)
    inside = (point[0] - x) ** 2 + (point[1] - y) ** 2 <= radius**2
    inside &= picture.depth[window] < _FAR
    picture.rgb[window][inside] = disc.color


def _throw_shadows(camera: Camera, picture: Picture, shapes: Sequence[Shape]) -> None:
    dark = np.zeros(camera.size, bool)
    for shape in shapes:
        corners = _corners(shape)
        fallen = corners - corners[:, 2:] * (_LIGHT / _LIGHT[2])
        window = camera.window(fallen)
        if window is not None:
            reach, _ = _meet(shape, _table_points(camera, picture, window), _LIGHT)
            dark[window] |= (reach < np.inf) & (picture.depth[window] < _FAR)
    picture.rgb[dark] = picture.rgb[dark] * np.float32(_SHADOW)


def _draw_shape(camera: Camera, picture: Picture, shape: Shape) -> None:
    window = camera.window(_corners(shape))
    if window is None:
        return
    rays = camera.rays[(slice(None), *window)]
    reach, shade = _meet(shape, camera.position.astype(np.float32), rays)
    nearer = reach < picture.depth[window]
    picture.depth[window][nearer] = reach[nearer]
    color = np.multiply.outer(shade[nearer], np.array(shape.color, np.float32))
    picture.rgb[window][nearer] = np.minimum(color, 255.0)


def _table_points(camera: Camera, picture: Picture, window: Window) -> Floats:
    """Where the rays of a window meet the table: (3, rows, columns)."""
    rays, origin = camera.rays[(slice(None), *window)], camera.position.astype(np.float32)
    return np.asarray(origin[:, None, None] + rays * picture.depth[window], np.float32)


def _corners(shape: Shape) -> npt.NDArray[np.float64]:
    """Points (n, 3) whose hull holds a shape: a box's corners, those of the cubes around a capsule's ends."""
    if isinstance(shape, Box):
        return np.array(shape.center) + _SIGNS * shape.half
    ways = _SIGNS * shape.radius
    return np.concatenate([np.array(shape.start) + ways, np.array(shape.end) + ways])


def _meet(shape: Shape, origin: Triple, ray: Triple) -> tuple[Floats, Floats]:
    """How far along `ray` from `origin` the shape begins (infinity: it is missed), and its brightness there."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _meet_box(shape, origin, ray) if isinstance(shape, Box) else _meet_capsule(shape, origin, ray)


def _meet_box(box: Box, origin: Triple, ray: Triple) -> tuple[Floats, Floats]:
    """By slabs: a ray is inside the box while it is between all three pairs of sides."""
    enter: Any = np.float32(-np.inf)
    leave: Any = np.float32(np.inf)
    shade: Any = np.float32(0.0)
    for axis in range(3):
        inverse = np.float32(1.0) / ray[axis]
        middle = (np.float32(box.center[axis]) - origin[axis]) * inverse
        half = np.float32(box.half[axis]) * np.abs(inverse)
        low, high = middle - half, middle + half
        light = _LIGHT[axis] * -np.sign(inverse)
        here = np.asarray(_AMBIENT + _DIFFUSE * np.maximum(light, 0), np.float32)
        shade = np.where(low > enter, here, shade)
        enter, leave = np.maximum(enter, low), np.minimum(leave, high)
    reach = np.where((enter < leave) & (enter > 0), enter, np.float32(np.inf))
    return reach, np.broadcast_to(shade, reach.shape)


def _meet_capsule(capsule: Capsule, origin: Triple, ray: Triple) -> tuple[Floats, Floats]:
    """The surface is what lies one radius from the axis; along the ray that distance is a quadratic."""
    start = np.array(capsule.start, np.float32)
    axis = np.array(capsule.end, np.float32) - start
    length2 = np.float32(max(float(axis @ axis), 1e-12))
    from_start = [origin[i] - start[i] for i in range(3)]
    along_ray, along_start = _dot(axis, ray) / length2, _dot(axis, from_start) / length2
    # What of the ray and of its origin is across the axis.
    across_ray = [ray[i] - axis[i] * along_ray for i in range(3)]
    across_start = [from_start[i] - axis[i] * along_start for i in range(3)]
    square, half, root = _quadratic(across_ray, across_start, capsule.radius)
    is_hit = np.asarray(root > 0)
    reach, shade = np.full(is_hit.shape, np.inf, np.float32), np.zeros(is_hit.shape, np.float32)
    # From here on only the rays that meet the endless rod; most of a slanting one's do not.
    square, half, root, along_ray, along_start = _only(is_hit, square, half, root, along_ray, along_start)
    ray, from_start = _only(is_hit, *ray), _only(is_hit, *from_start)
    way = -(half + np.sqrt(root)) / square
    place = along_start + way * along_ray
    # Beyond an end of the axis it is the sphere around that end.
    end = np.clip(place, 0, 1)
    is_round = end != place
    square, half, root = _quadratic(ray, [from_start[i] - axis[i] * end for i in range(3)], capsule.radius)
    way = np.where(is_round, -(half + np.sqrt(root)) / square, way)
    normal = [(from_start[i] + way * ray[i] - axis[i] * end) / np.float32(capsule.radius) for i in range(3)]
    light = np.maximum(_dot(_LIGHT, normal), 0)
    reach[is_hit] = np.where(way > 0, way, np.float32(np.inf))
    shade[is_hit] = np.float32(_AMBIENT) + np.float32(_DIFFUSE) * light + np.float32(_GLOSS) * light**16
    return reach, shade


def _quadratic(ray: Triple, start: Triple, radius: float) -> tuple[Any, Any, Any]:
    """Of |start + t ray| = radius: the square's factor, half the middle one, and what is under the root."""
    square, half = _dot(ray, ray), _dot(ray, start)
    return square, half, half * half - square * (_dot(start, start) - np.float32(radius * radius))


def _only(chosen: npt.NDArray[np.bool_], *values: Any) -> list[Any]:
    """Of arrays what was chosen; numbers as they are."""
    return [value[chosen] if np.ndim(value) else value for value in values]


def _dot(one: Triple, other: Triple) -> Any:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _unit(vector: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector))
