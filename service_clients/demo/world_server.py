"""The tabletop world as a machine on the network: a simulator server, and a robot backend that streams from the same world.

    python -m service_clients.demo.world_server --seed 7

Every reset and step of a simulator session is seen by the robot backend's clients: a camera frame, an IMU sample and
the robot's status. The command "watch_task" is answered with an action_plan_status when the episode that is under way
ends.
"""

from __future__ import annotations

import argparse
import threading

from service_clients.demo import backends
from service_clients.demo.tabletop import Tabletop
from service_clients.physical_ai.server import Command, CommandError, RobotBackendServer
from service_clients.simulator.backends.tabletop import TabletopBackend
from service_clients.simulator.server import SimulatorServer

__all__ = ["CAMERA_ID", "IMU_ID", "ROBOT_ID", "Streamer", "main"]

ROBOT_ID, CAMERA_ID, IMU_ID = "tabletop-arm", "agentview", "wrist"
PICTURES = ("agentview_image", "agentview_depth")
DEPTH = 256  # messages that may wait for a client: some seconds of them, for a machine that is busy


class Streamer:
    """Tells a robot backend's clients what happens in a world."""

    def __init__(self) -> None:
        self.robot = RobotBackendServer(
            host="127.0.0.1", port=0, on_command=self._on_command, client_depth=DEPTH
        )
        self._gate = threading.Lock()  # commands come on another thread than steps
        self._watching: list[str] = []

    def _on_command(self, command: Command) -> None:
        if command.command_type != "watch_task":
            raise CommandError("command_type", f"{command.command_type!r:.80} is not watch_task")
        if not command.command_id:
            raise CommandError("command_id", "is missing: nobody could tell whose status it is")
        with self._gate:
            self._watching.append(command.command_id)
        self.robot.publish_plan_status(command.command_id, "episode", "executing", "watching")

    def on_change(self, world: Tabletop) -> None:
        """Streams what a reset or step has led to."""
        self.robot.publish_camera(ROBOT_ID, CAMERA_ID, world.render().rgb)
        felt = world.imu()
        self.robot.publish_imu(ROBOT_ID, IMU_ID, felt.accelerometer.tolist(), felt.gyroscope.tolist())
        self.robot.publish_status(ROBOT_ID, "idle" if world.is_over else "moving", world.hand, "down")
        if world.is_over:
            self._tell_watchers(world)

    def _tell_watchers(self, world: Tabletop) -> None:
        with self._gate:
            watching, self._watching = self._watching, []
        status = "completed" if world.is_done else "failed"
        for command_id in watching:
            said = f"{world.task}: {world.steps} steps"
            self.robot.publish_plan_status(command_id, "episode", status, said)


def main() -> None:
    """Serves until its starter is gone."""
    parser = argparse.ArgumentParser(prog="python -m service_clients.demo.world_server", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the episodes (%(default)s)")
    given = parser.parse_args()
    streamer = Streamer()

    def backend() -> TabletopBackend:
        return TabletopBackend(seed=given.seed, pictures=PICTURES, on_change=streamer.on_change)

    with streamer.robot, SimulatorServer({"tabletop": backend}, host="127.0.0.1", port=0) as simulator:
        backends.watch_starter()
        backends.announce(simulator.address, robot=streamer.robot.url)
        simulator.serve_forever()


if __name__ == "__main__":
    main()
