"""The services' contracts as FastAPI apps with pydantic models, from what the services' own servers accept and return.

Each app keeps its last request in `app.state.last`, refuses fields that its service does not know, looks at every
picture that it is sent, and answers with small fixed data of the right form.
"""

from __future__ import annotations

import base64
import io
from typing import Any, Callable

import cv2
import numpy as np
from fastapi import FastAPI, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1])


def picture(text: str, name: str) -> np.ndarray[Any, Any]:
    """The pixels of a base64 picture, or of a base64 .npy file."""
    try:
        data = base64.b64decode(text, validate=True)
        if data.startswith(b"\x93NUMPY"):
            return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (ValueError, cv2.error) as error:
        raise HTTPException(400, f"{name}: {error}") from None
    if pixels is None:
        raise HTTPException(400, f"{name} is no picture")
    return np.asarray(pixels)


def npy(array: np.ndarray[Any, Any]) -> str:
    file = io.BytesIO()
    np.save(file, array)
    return base64.b64encode(file.getvalue()).decode()


def new_app(**health: Any) -> FastAPI:
    app = FastAPI()
    app.state.last = None
    app.get("/health")(lambda: {"status": "ok", **health})
    return app


def box(pixels: np.ndarray[Any, Any]) -> dict[str, float]:
    return {"x1": 0.0, "y1": 0.0, "x2": float(pixels.shape[1]), "y2": float(pixels.shape[0])}


# ---- the eight -------------------------------------------------------------------------------


class YoloRequest(Body):
    image: str
    model: str = "yolov8n"
    conf: float = Field(0.25, ge=0, le=1)
    return_masks: bool = False
    mask_format: str = Field("polygon", pattern="^(polygon|rle|bitmap)$")


def yolo_detection() -> FastAPI:
    app = new_app(
        device="cpu", gpu_name=None, gpu_memory_mb=None, loaded_models=[], available_models=["yolov8n"]
    )

    @app.post("/detect")
    def detect(request: YoloRequest) -> dict[str, Any]:
        app.state.last = request
        pixels = picture(request.image, "image")
        found = {"bbox": box(pixels), "confidence": 0.9, "class_id": 0, "class_name": "person", "mask": None}
        if request.return_masks:
            found["mask"] = [[[0.0, 0.0], [4.0, 0.0], [4.0, 3.0]]]
        return {
            "detections": [found],
            "model": request.model,
            "device": "cpu",
            "inference_ms": 1.5,
            "image_width": pixels.shape[1],
            "image_height": pixels.shape[0],
            "has_masks": request.return_masks,
        }

    return app


class SamRequest(Body):
    image: str
    prompts: list[str] = Field(min_length=1)
    conf: float = Field(0.3, ge=0, le=1)
    return_masks: bool = True
    mask_format: str = Field("polygon", pattern="^(polygon|rle|bitmap)$")


def grounded_sam2() -> FastAPI:
    app = new_app(device="cpu", gpu_name=None, gpu_memory_mb=None, models_loaded=True)

    @app.post("/detect")
    def detect(request: SamRequest) -> dict[str, Any]:
        app.state.last = request
        pixels = picture(request.image, "image")
        mask = {"counts": [0, pixels.size], "size": list(pixels.shape[:2])} if request.return_masks else None
        return {
            "detections": [
                {"label": prompt, "confidence": 0.8, "bbox": box(pixels), "mask": mask}
                for prompt in request.prompts
            ],
            "device": "cpu",
            "inference_ms": 2.0,
            "image_width": pixels.shape[1],
            "image_height": pixels.shape[0],
            "has_masks": request.return_masks,
        }

    @app.post("/visualize")
    def visualize(
        request: SamRequest, fmt: str = Query(pattern="^(jpeg|png)$"), quality: int = Query(ge=1, le=100)
    ) -> Response:
        app.state.last = request
        pixels = picture(request.image, "image")
        data = (
            png(pixels)
            if fmt == "png"
            else bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
        )
        return Response(data, media_type=f"image/{fmt}")

    return app


class GraspRequest(Body):
    depth_image: str
    mask: str | None = None
    camera_matrix: list[list[float]] | None = None
    num_grasps: int = Field(10, ge=1, le=200)
    z_range: list[float] = [0.2, 1.8]
    depth_scale: float = 0.001


def graspgen() -> FastAPI:
    app = new_app(device="cpu", gpu_name=None, gpu_memory_mb=None, model_loaded=True, model_name="none")

    @app.post("/generate")
    def generate(request: GraspRequest) -> dict[str, Any]:
        app.state.last = request
        depth = picture(request.depth_image, "depth_image")
        metres = depth if depth.dtype.kind == "f" else depth * request.depth_scale
        near, far = request.z_range
        points = int(((metres > near) & (metres < far)).sum())
        if not points:
            raise HTTPException(400, "no valid points after filtering")
        grasp = {"transform": np.eye(4).tolist(), "contact_point": [0.0, 0.0, 0.5], "gripper_opening": 0.08}
        grasps = [{**grasp, "score": 1 / (1 + i)} for i in range(request.num_grasps)]
        return {
            "grasps": grasps,
            "num_grasps": len(grasps),
            "device": "cpu",
            "inference_ms": 3.0,
            "point_cloud_size": points,
        }

    return app


class StereoRequest(Body):
    left_image: str
    right_image: str
    focal_length: float
    baseline: float
    valid_iters: int = 32
    scale: float = Field(1.0, gt=0, le=1)
    hiera: bool = False
    return_disparity: bool = True
    return_depth: bool = True
    return_vis: bool = False


def foundation_stereo() -> FastAPI:
    app = new_app(
        device="cpu", gpu_name=None, gpu_memory_mb=None, model_loaded=True, checkpoint="none", valid_iters=32
    )

    @app.post("/depth")
    def depth(request: StereoRequest) -> dict[str, Any]:
        app.state.last = request
        left, right = picture(request.left_image, "left_image"), picture(request.right_image, "right_image")
        if left.shape != right.shape:
            raise HTTPException(400, "left_image and right_image differ in shape")
        height, width = left.shape[:2]
        disparity = np.arange(1, height * width + 1, dtype=np.float32).reshape(height, width)
        metres = (request.focal_length * request.baseline / disparity).astype(np.float32)
        vis = base64.b64encode(png(left)).decode()
        return {
            "disparity": npy(disparity) if request.return_disparity else None,
            "depth": npy(metres) if request.return_depth else None,
            "vis": vis if request.return_vis else None,
            "height": height,
            "width": width,
            "inference_ms": 4.0,
            "device": "cpu",
        }

    return app


class Pose(Body):
    x: float
    y: float
    theta: float


class Intrinsics(Body):
    fx: float
    fy: float
    cx: float
    cy: float


class MapUpdate(Body):
    depth_image: str
    pose: Pose
    intrinsics: Intrinsics
    max_range: float = 5.0


class PlanRequest(Body):
    start: list[float] = Field(min_length=2, max_length=2)
    goal: list[float] = Field(min_length=2, max_length=2)
    use_inflation: bool = True


class Nothing(Body):
    pass


def occupancy(format: str, info: dict[str, Any]) -> Any:
    """A map in the form asked for."""
    if format == "png":
        return Response(png(np.full((4, 6), 127, np.uint8)), media_type="image/png")
    if format == "json":
        return {"grid": [[0] * 6] * 4, "resolution": 0.05, "origin": [0.0, 0.0]}
    return info


def nav_mapping() -> FastAPI:
    app = new_app(map_shape=[4, 6], resolution=0.05, robot_radius=0.3)

    @app.post("/update")
    def update(request: MapUpdate) -> dict[str, Any]:
        app.state.last = request
        if picture(request.depth_image, "depth_image").dtype != np.uint16:
            raise HTTPException(400, "depth_image is not uint16")
        return {"status": "ok", "update_ms": 1.0, "map_shape": [4, 6]}

    @app.get("/map")
    def get_map(format: str = Query("png", pattern="^(png|json|info)$")) -> Any:
        cells = {"free_cells": 0, "occupied_cells": 0, "unknown_cells": 24}
        return occupancy(
            format, {"shape": [4, 6], "resolution": 0.05, "origin": [0, 0], "robot_radius": 0.3, **cells}
        )

    @app.post("/plan")
    def plan(request: PlanRequest) -> dict[str, Any]:
        app.state.last = request
        if request.goal[0] > 100:
            raise HTTPException(404, "No path found between start and goal")
        return {
            "path_grid": [[0, 0]],
            "path_world": [request.start, request.goal],
            "length_m": 3.5,
            "planning_ms": 1.0,
        }

    @app.get("/frontiers")
    def frontiers() -> dict[str, Any]:
        return {"frontiers": [[1.0, 2.0]], "count": 1, "detection_ms": 1.0}

    @app.post("/reset")
    def reset(request: Nothing) -> dict[str, Any]:
        return {"status": "ok", "message": "map reset"}

    return app


class SlamUpdate(Body):
    rgb_image: str
    depth_image: str
    intrinsics: Intrinsics


class MapFile(Body):
    path: str | None = None


def realsense_slam() -> FastAPI:
    """From its catalog entry alone: no server of it is public."""
    app = new_app()

    @app.post("/update")
    def update(request: SlamUpdate) -> dict[str, Any]:
        app.state.last = request
        rgb, depth = picture(request.rgb_image, "rgb_image"), picture(request.depth_image, "depth_image")
        return {"status": "ok", "tracked": rgb.ndim == 3 and depth.ndim == 2}

    @app.get("/pose")
    def pose() -> dict[str, Any]:
        return {
            "translation": [0, 0, 0],
            "quaternion": [0, 0, 0, 1],
            "euler": [0, 0, 0],
            "matrix": np.eye(4).tolist(),
        }

    app.get("/map/pointcloud")(lambda: {"points": [[0.0, 0.0, 1.0]]})
    app.get("/map/occupancy")(lambda: occupancy("json", {}))

    def keep(request: MapFile) -> dict[str, Any]:
        app.state.last = request
        return {"status": "ok", "path": request.path}

    for endpoint in ("/map/save", "/map/load", "/reset"):
        app.post(endpoint)(keep)
    return app


class GraspNetRequest(Body):
    rgb_image: str
    depth_image: str
    num_grasps: int = 5


def lightweight_grasp_net() -> FastAPI:
    """From its catalog entry alone: no server of it is public."""
    app = new_app()

    @app.post("/detect")
    def detect(request: GraspNetRequest) -> dict[str, Any]:
        app.state.last = request
        picture(request.rgb_image, "rgb_image"), picture(request.depth_image, "depth_image")
        grasp = {
            "position": [3, 4],
            "angle": 0.5,
            "width": 0.04,
            "quality": 0.9,
            "transform": np.eye(4).tolist(),
        }
        return {"grasps": [grasp] * request.num_grasps}

    return app


class DepthUpdate(Body):
    image: str
    fx: float
    fy: float
    cx: float
    cy: float


class VelocityRequest(Body):
    target_vx: float = 0.0
    target_omega: float = 0.0
    goal_x: float | None = None
    goal_y: float | None = None


def local_obstacle_avoidance() -> FastAPI:
    app = new_app(service="local-obstacle-avoidance", estop_active=False, last_update=None)

    @app.post("/update_depth")
    def update_depth(request: DepthUpdate) -> dict[str, Any]:
        app.state.last = request
        coverage = float((picture(request.image, "image") > 0).mean())
        return {"status": "ok", "estop_active": False, "costmap_coverage": coverage, "timestamp": 0.0}

    @app.post("/safe_velocity")
    def safe_velocity(request: VelocityRequest) -> dict[str, Any]:
        app.state.last = request
        return {
            "safe_vx": request.target_vx / 2,
            "safe_omega": request.target_omega,
            "estop_active": False,
            "dwa_score": 1.0,
        }

    @app.get("/costmap")
    def costmap(format: str = Query("png", pattern="^(png|json)$")) -> Any:
        return occupancy(format, {})

    @app.get("/estop_status")
    def estop_status() -> dict[str, Any]:
        return {"estop_active": False, "min_obstacle_distance_threshold": 0.3, "last_update": None}

    return app


APPS: dict[str, Callable[[], FastAPI]] = {
    make.__name__: make
    for make in (
        yolo_detection,
        grounded_sam2,
        graspgen,
        foundation_stereo,
        nav_mapping,
        realsense_slam,
        lightweight_grasp_net,
        local_obstacle_avoidance,
    )
}
