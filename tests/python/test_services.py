"""The printed clients of all eight services against FastAPI apps of their contracts."""

from __future__ import annotations

import importlib
import json
from typing import Any

import contracts
import cv2
import numpy as np
import pytest
from fastapi import FastAPI
from support import CHECKOUT, Serve

from service_clients._axon import AxonServerError, AxonTypeError, AxonValueError

RGB = np.random.default_rng(3).integers(0, 256, (24, 32, 3), dtype=np.uint8)
JPEG = bytes(cv2.imencode(".jpg", RGB)[1])
DEPTH = np.random.default_rng(4).integers(300, 1500, (24, 32), dtype=np.uint16)
DEPTH_PNG = bytes(cv2.imencode(".png", DEPTH)[1])
CAMERA = (615.0, 616.0, 320.5, 240.0)

CATALOG = json.loads((CHECKOUT / "catalog.json").read_text(encoding="utf-8"))["capabilities"]


@pytest.fixture(scope="module")
def apps() -> dict[str, FastAPI]:
    return {folder: make() for folder, make in contracts.APPS.items()}


@pytest.fixture(scope="module")
def hosts(apps: dict[str, FastAPI], serve: Serve) -> dict[str, str]:
    return {folder: serve(app) for folder, app in apps.items()}


def new_client(folder: str, hosts: dict[str, str]) -> Any:
    """The client that the catalog names for a folder."""
    entry = CATALOG[folder.replace("_", "-")]
    module = importlib.import_module(f"service_clients.{folder}.client")
    return getattr(module, entry["usage"]["import"].split()[-1])(hosts[folder], timeout=30.0)


def dumped(app: FastAPI) -> dict[str, Any]:
    """The last request, as its model has it."""
    body: dict[str, Any] = app.state.last.model_dump()
    return body


@pytest.mark.parametrize("folder", contracts.APPS)
def test_health_is_what_the_service_says(folder: str, hosts: dict[str, str]) -> None:
    with new_client(folder, hosts) as client:
        assert client.health()["status"] == "ok"


@pytest.mark.parametrize("folder", contracts.APPS)
def test_every_endpoint_of_the_catalog_is_one_of_the_service(folder: str, apps: dict[str, FastAPI]) -> None:
    paths = apps[folder].openapi()["paths"]
    for endpoint in CATALOG[folder.replace("_", "-")]["endpoints"]:
        verb, path = endpoint.split()
        assert verb.lower() in paths[path]


def test_yolo_gives_detections_and_masks(hosts: dict[str, str]) -> None:
    with new_client("yolo_detection", hosts) as client:
        assert client.detect(RGB)[0]["bbox"] == {"x1": 0, "y1": 0, "x2": 32, "y2": 24}
        assert client.detect_full(JPEG, "yolov8n-seg", 0.5, True)["has_masks"] is True


def test_sam2_finds_and_draws(apps: dict[str, FastAPI], hosts: dict[str, str], tmp_path: Any) -> None:
    with new_client("grounded_sam2", hosts) as client:
        assert [d["label"] for d in client.detect(RGB, ["red cup", "plate"], conf=0)] == ["red cup", "plate"]
        sent = dumped(apps["grounded_sam2"])
        assert sent["conf"] == 0 and sent["return_masks"] is False
        assert (contracts.picture(sent["image"], "image")[:, :, ::-1] == RGB).all()  # arrays are RGB here
        client.detect(RGB, ["red cup"], color="bgr")
        assert (contracts.picture(dumped(apps["grounded_sam2"])["image"], "image") == RGB).all()
        assert client.detect_full(JPEG, ("cup",), mask_format="rle")["detections"][0]["mask"]["size"] == [
            24,
            32,
        ]
        drawn = client.visualize(RGB, ["cup"], fmt="png", save_path=tmp_path / "drawn.png", as_numpy=True)
        assert (drawn == RGB).all() and drawn.flags.writeable
        assert (np.asarray(cv2.imread(str(tmp_path / "drawn.png")))[:, :, ::-1] == RGB).all()
        assert client.visualize(JPEG, ["cup"]).startswith(b"\xff\xd8")
        assert client.visualize(JPEG, ["cup"], as_pil=True).size == (32, 24)


@pytest.mark.parametrize(
    "depth, dtype", [(DEPTH, "uint16"), (DEPTH / np.float32(1000), "float32"), (DEPTH_PNG, "uint16")]
)
def test_graspgen_takes_depth_in_every_form(
    apps: dict[str, FastAPI], hosts: dict[str, str], depth: Any, dtype: str
) -> None:
    with new_client("graspgen", hosts) as client:
        grasps = client.generate(depth, num_grasps=3)
    assert [round(g["score"], 3) for g in grasps] == [1, 0.5, 0.333]
    sent = contracts.picture(dumped(apps["graspgen"])["depth_image"], "depth_image")
    assert sent.dtype == dtype
    assert np.array_equal(sent, DEPTH if dtype == "uint16" else depth)


def test_graspgen_sends_mask_camera_and_range(apps: dict[str, FastAPI], hosts: dict[str, str]) -> None:
    with new_client("graspgen", hosts) as client:
        mask = np.zeros((24, 32), np.uint8)
        reply = client.generate_full(
            DEPTH, mask, np.diag([600.0, 600, 1]), z_range=[0.0, 2.0], depth_scale=0.002
        )
        assert reply["num_grasps"] == 10
        sent = dumped(apps["graspgen"])
        assert sent["camera_matrix"] == [[600, 0, 0], [0, 600, 0], [0, 0, 1]]
        assert sent["z_range"] == [0, 2] and sent["depth_scale"] == 0.002
        assert not contracts.picture(sent["mask"], "mask").any()
        transforms = client.get_transforms_as_numpy(reply["grasps"])
        assert transforms.shape == (10, 4, 4) and (transforms == np.eye(4)).all()
        assert client.get_transforms_as_numpy([]).shape == (0, 4, 4)
        with pytest.raises(AxonServerError, match=r"/generate failed \(HTTP 400\): no valid points"):
            client.generate(DEPTH, z_range=(50, 60))


@pytest.mark.parametrize(
    "options, said",
    [
        ({"num_grasps": 0}, "num_grasps is 0"),
        ({"num_grasps": 201}, "num_grasps is 201, not between 1 and 200"),
        ({"camera_matrix": [[1, 2], [3, 4]]}, "camera_matrix has 4 numbers, not 9"),
        ({"camera_matrix": np.zeros((3, 3))}, "camera_matrix is all zeros"),
        ({"z_range": (0.1, "far")}, "z_range holds 'far', not a number"),
        ({"depth_scale": float("nan")}, "depth_scale is nan"),
        ({"mask": np.zeros((2, 2, 2, 2), np.uint8)}, "mask"),
    ],
)
def test_graspgen_refuses_what_cannot_be_unsent(
    apps: dict[str, FastAPI], hosts: dict[str, str], options: dict[str, Any], said: str
) -> None:
    apps["graspgen"].state.last = None
    with new_client("graspgen", hosts) as client, pytest.raises(ValueError, match=said):
        client.generate(DEPTH, **options)
    assert apps["graspgen"].state.last is None


def test_stereo_gives_arrays(apps: dict[str, FastAPI], hosts: dict[str, str]) -> None:
    with new_client("foundation_stereo", hosts) as client:
        result = client.depth(RGB, RGB, 382.5, 0.055, return_vis=True)
        expected = np.arange(1, 24 * 32 + 1, dtype=np.float32).reshape(24, 32)
        assert result["disparity"].dtype == np.float32 and np.array_equal(result["disparity"], expected)
        assert np.array_equal(result["depth"], (382.5 * 0.055 / expected).astype(np.float32))
        assert result["depth"].flags.writeable and result["depth"].flags.owndata
        assert result["vis"].startswith(b"\x89PNG") and result["height"] == 24

        large = np.zeros((300, 400, 3), np.uint8)
        first = client.depth(large, large, 382.5, 0.055)
        second = client.depth(large, large, 382.5, 0.055)
        expected = np.arange(1, 300 * 400 + 1, dtype=np.float32).reshape(300, 400)
        second["disparity"] += 1
        assert np.array_equal(first["disparity"], expected) and np.array_equal(
            second["disparity"], expected + 1
        )

        result = client.depth_from_realsense(JPEG, JPEG, return_disparity=False, valid_iters=8)
        assert "disparity" not in result and "vis" not in result and result["depth"].shape == (24, 32)
        sent = dumped(apps["foundation_stereo"])
        assert sent["focal_length"] == 382.545 and sent["baseline"] == 0.055 and sent["valid_iters"] == 8


def test_mapping_takes_poses_as_tuples_and_maps(apps: dict[str, FastAPI], hosts: dict[str, str]) -> None:
    with new_client("nav_mapping", hosts) as client:
        assert client.update(DEPTH, pose=(1, 2, 0.5), intrinsics=CAMERA)["status"] == "ok"
        sent = dumped(apps["nav_mapping"])
        assert sent["pose"] == {"x": 1, "y": 2, "theta": 0.5}
        assert sent["intrinsics"] == dict(zip(("fx", "fy", "cx", "cy"), CAMERA))
        assert np.array_equal(contracts.picture(sent["depth_image"], "depth_image"), DEPTH)
        named = {"fx": 1.0, "fy": 2.0, "cx": 3.0, "cy": 4.0}
        client.update(DEPTH_PNG, {"theta": 1, "x": 0, "y": 0}, named, max_range=2.5)
        sent = dumped(apps["nav_mapping"])
        assert sent["intrinsics"] == named and sent["max_range"] == 2.5
        with pytest.raises(AxonValueError, match=r"pose \(x, y, theta\) has 2 numbers, not 3"):
            client.update(DEPTH, (0, 0), CAMERA)
        with pytest.raises(AxonValueError, match="intrinsics: its keys must be fx, fy, cx, cy"):
            client.update(DEPTH, (0, 0, 0), {"fx": 1})
        with pytest.raises(AxonTypeError, match="pose"):
            client.update(DEPTH, "here", CAMERA)


def test_mapping_gives_maps_and_paths(hosts: dict[str, str]) -> None:
    with new_client("nav_mapping", hosts) as client:
        assert client.get_map().startswith(b"\x89PNG")
        assert client.get_map(format="json")["resolution"] == 0.05
        assert client.get_map("info")["unknown_cells"] == 24
        assert client.plan((0, 0), np.array([2, 3.5]))["path_world"][1] == [2, 3.5]
        assert client.get_frontiers()["count"] == 1
        assert client.reset()["status"] == "ok"
        with pytest.raises(AxonServerError, match="No path found") as caught:
            client.plan((0, 0), (1000, 0), use_inflation=False)
        assert caught.value.http_status == 404
        with pytest.raises(AxonValueError, match='format "gif" is none of: png, json, info'):
            client.get_map("gif")


def test_slam_speaks_to_each_endpoint(apps: dict[str, FastAPI], hosts: dict[str, str]) -> None:
    with new_client("realsense_slam", hosts) as client:
        assert client.update(JPEG, DEPTH, intrinsics=CAMERA)["tracked"] is True
        assert len(client.get_pose()["matrix"]) == 4
        assert client.get_pointcloud()["points"] and client.get_occupancy()["grid"]
        assert client.save_map("/maps/lab.pcd")["path"] == "/maps/lab.pcd"
        assert client.load_map()["path"] is None and client.reset()["status"] == "ok"


def test_grasp_net_sends_both_pictures(hosts: dict[str, str]) -> None:
    with new_client("lightweight_grasp_net", hosts) as client:
        assert len(client.detect(RGB, DEPTH, num_grasps=2)["grasps"]) == 2


def test_avoidance_leaves_out_a_goal_that_is_none(apps: dict[str, FastAPI], hosts: dict[str, str]) -> None:
    with new_client("local_obstacle_avoidance", hosts) as client:
        assert client.update_depth(DEPTH, fx=615, fy=615, cx=320, cy=240)["costmap_coverage"] == 1
        assert client.safe_velocity(target_vx=0.3)["safe_vx"] == 0.15
        assert apps["local_obstacle_avoidance"].state.last.model_fields_set == {"target_vx", "target_omega"}
        client.safe_velocity(goal_x=0.0, goal_y=-1.5)
        sent = dumped(apps["local_obstacle_avoidance"])
        assert sent["goal_x"] == 0 and sent["goal_y"] == -1.5
        assert client.costmap().startswith(b"\x89PNG") and client.costmap("json")["grid"]
        assert client.estop_status()["estop_active"] is False
