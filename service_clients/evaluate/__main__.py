"""Runs a policy server in a simulator server for some episodes and says how often it succeeds.

    python -m service_clients.evaluate --policy ws://127.0.0.1:8000 --simulator tcp://127.0.0.1:5555 \\
        --task place_red_block --episodes 100 --json out.json --plot out.png
    python -m service_clients.evaluate --local tabletop --episodes 20
    python -m service_clients.evaluate --local CartPole-v1 --episodes 20

docs/evaluate.md has the whole story.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import sys
import time
from typing import Any, NamedTuple, NoReturn, Sequence

from service_clients.evaluate.episodes import Episode, Rule, RuleError, Runner, parse_rule
from service_clients.evaluate.local import LocalError, start_local
from service_clients.evaluate.mapping import (
    Actions,
    MappingError,
    Observations,
    parse_actions,
    parse_observations,
    parse_size,
)
from service_clients.evaluate.progress import Progress
from service_clients.evaluate.report import describe, plot, summary, write_json
from service_clients.openpi.client import WebsocketClientPolicy
from service_clients.simulator.client import SimulatorClient

__all__ = ["main"]


class UsageError(Exception):
    """The command line asks for what cannot be."""


class _Setting(NamedTuple):
    """What is being evaluated, once everything is connected."""

    runner: Runner
    told: dict[str, Any]  # for the JSON
    title: str


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status.

    0: all episodes were run, however they went; 1: something failed, and what was done until then is reported; 2: the
    command line cannot be; 130: Ctrl-C or SIGTERM, likewise reported.
    """
    given = _parser().parse_args(arguments)
    try:
        _check(given)
        with contextlib.ExitStack() as stack:
            setting = _connect(given, stack)
            episodes, status = _run(given, setting.runner)
    except (UsageError, LocalError, MappingError, RuleError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return _report(given, setting, episodes) or status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service_clients.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument_group("what").add_argument
    add("--policy", metavar="URL", help="the policy server: ws://host:port")
    add("--api-key", metavar="KEY", help="for a policy server that wants one")
    add("--simulator", metavar="ADDRESS", help="the simulator server: tcp://host:port")
    add(
        "--local",
        metavar="NAME",
        help="start what of both is not named on this machine: tabletop with its expert, or a gymnasium environment; "
        "CartPole-v1 has a policy of ours as well",
    )
    add("--select", metavar="NAME", help="which of the server's simulators; default the only one")
    add("--task", help="default the only one, or what --local means")
    add("--list-tasks", action="store_true", help="print the simulator's tasks and end")
    add("--episodes", type=int, default=10, metavar="N", help="default %(default)s")
    add("--seed", type=int, help="of a local simulator's episodes; default 0")
    add(
        "--max-steps",
        type=int,
        metavar="N",
        help="end an episode after so many; default the task's own limit",
    )
    add(
        "--success",
        metavar="RULE",
        help="info: a step's info says success (the default); terminated; truncated: it lasted to the end; "
        "return:NUMBER: its rewards sum up to that",
    )
    add(
        "--keep-going",
        action="store_true",
        help="an episode that ends in an error counts as a failure; default stop",
    )
    add = parser.add_argument_group("which numbers go where").add_argument
    add(
        "--observation",
        action="append",
        default=[],
        metavar="POLICY_KEY=SIMULATOR_KEY[+SIMULATOR_KEY...]",
        help="send this and no other; repeatable; default: all, under the simulator's names",
    )
    add(
        "--resize",
        metavar="HEIGHTxWIDTH",
        help="bring pictures to this size, padded with black; default: as they are",
    )
    add("--prompt", help="default the task's description")
    add("--prompt-key", default="prompt", metavar="KEY", help='default "%(default)s"; "" sends none')
    add(
        "--actions",
        default="actions",
        metavar="KEY",
        help='what of the reply is the chunk; default "%(default)s"',
    )
    add(
        "--action",
        action="append",
        default=[],
        metavar="SIMULATOR_KEY=FIRST:END",
        help="which numbers of a chunk's row go to which key; repeatable; default: in the order of the action space",
    )
    add(
        "--steps-per-chunk",
        type=int,
        metavar="N",
        help="then the policy is asked again; default a whole chunk",
    )
    add = parser.add_argument_group("patience, in seconds").add_argument
    add("--connect-timeout", type=float, metavar="S", default=10.0, help="default %(default)s")
    add(
        "--infer-timeout",
        type=float,
        metavar="S",
        default=60.0,
        help="for one answer of the policy; default %(default)s",
    )
    add(
        "--step-timeout",
        type=float,
        metavar="S",
        default=60.0,
        help="for one of the simulator; default %(default)s",
    )
    add = parser.add_argument_group("results").add_argument
    add("--json", metavar="FILE", help="write everything there")
    add("--plot", metavar="FILE", help="draw it there (.png, .svg, .pdf); needs matplotlib")
    add(
        "--confidence", type=float, metavar="LEVEL", default=0.95, help="of the interval; default %(default)s"
    )
    add("--quiet", action="store_true", help="print the result alone")
    return parser


def _check(given: argparse.Namespace) -> None:
    """Raises UsageError for what needs no server to be seen."""
    for name in ("policy", "simulator"):
        if not getattr(given, name) and not given.local and not (given.list_tasks and name == "policy"):
            _refuse(f"name a server with --{name}, or let --local start one")
    if given.local and given.policy and given.simulator:
        _refuse("--local has nothing to start: --policy and --simulator name both servers")
    if given.seed is not None and given.simulator:
        _refuse("--seed is for a simulator that --local starts; the protocol has none to send")
    for name in ("episodes", "max_steps", "steps_per_chunk"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            _refuse(f"--{name.replace('_', '-')} is {getattr(given, name)}, not 1 or more")
    for name in ("connect_timeout", "infer_timeout", "step_timeout"):
        if not getattr(given, name) > 0.0:
            _refuse(f"--{name.replace('_', '-')} is {getattr(given, name)}, not more than 0")
    if not 0.0 < given.confidence < 1.0:
        _refuse(f"--confidence is {given.confidence}, not between 0 and 1")
    if given.plot and importlib.util.find_spec("matplotlib") is None:
        _refuse("--plot needs matplotlib: pip install matplotlib")
    for name in ("json", "plot"):  # rather now than when all episodes are done
        path = getattr(given, name)
        if path and not os.access(os.path.dirname(path) or ".", os.W_OK):
            _refuse(f"--{name} {path}: its folder does not exist, or cannot be written to")


def _refuse(why: str) -> NoReturn:
    raise UsageError(why)


def _connect(given: argparse.Namespace, stack: contextlib.ExitStack) -> _Setting:
    """Starts what is to be started, connects, and loads the task."""
    observations, columns = parse_observations(given.observation), parse_actions(given.action)
    size = parse_size(given.resize) if given.resize else None
    rule = parse_rule(given.success) if given.success else None
    policy_url, simulator_address = given.policy, given.simulator
    if given.local:
        local = stack.enter_context(
            start_local(
                given.local, given.seed or 0, needs_policy=not policy_url, needs_simulator=not given.simulator
            )
        )
        policy_url, simulator_address = policy_url or local.policy, simulator_address or local.simulator
        rule = rule or local.rule
        given.task = given.task or (local.task if not given.simulator else None)
    patience = {"connect_timeout": given.connect_timeout, "call_timeout": given.step_timeout}
    simulator = stack.enter_context(SimulatorClient(simulator_address, **patience))
    _select(simulator, given.select)
    task = _task(simulator, given)
    policy = stack.enter_context(
        WebsocketClientPolicy(
            policy_url,
            api_key=given.api_key,
            connect_timeout=given.connect_timeout,
            infer_timeout=given.infer_timeout,
        )
    )
    info = simulator.load_task(task)
    prompt = given.prompt if given.prompt is not None else str(info.get("description") or task)
    limit = given.max_steps or info.get("max_episode_steps")
    rule = rule or Rule("info")
    runner = Runner(
        policy,
        simulator,
        Observations(observations, given.prompt_key, prompt, size),
        Actions(_action_space(info, task), given.actions, columns, given.steps_per_chunk),
        rule,
        int(limit) if limit else None,
    )
    told = {
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "policy": policy_url,
        "policy_metadata": policy.get_server_metadata(),
        "simulator": simulator_address,
        "simulator_info": simulator.get_info(),
        "task": task,
        "prompt": prompt,
        "success_rule": str(rule),
    }
    if given.local and not given.simulator:
        told["seed"] = given.seed or 0
    return _Setting(runner, told, f"{task}: {policy_url} in {simulator_address}")


def _select(simulator: SimulatorClient, name: str | None) -> None:
    there = simulator.list_simulators()
    if name is None:
        if len(there) != 1:
            _refuse(f"the server has {len(there)} simulators ({', '.join(there)}): choose one with --select")
        name = there[0]
    simulator.select_simulator(name)


def _task(simulator: SimulatorClient, given: argparse.Namespace) -> str:
    there = simulator.list_tasks()
    if given.list_tasks:
        print("\n".join(there))
        raise SystemExit(0)
    if given.task:
        return str(given.task)
    if len(there) != 1:
        some = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "")
        _refuse(f"the simulator has {len(there)} tasks ({some}): choose one with --task")
    return str(there[0])


def _action_space(info: dict[str, Any], task: str) -> dict[str, Any]:
    space = info.get("action_space")
    if not isinstance(space, dict) or not space:
        raise MappingError(f"{task}: the simulator does not say what actions it takes (action_space)")
    return space


def _run(given: argparse.Namespace, runner: Runner) -> tuple[list[Episode], int]:
    """The episodes that were run, and the exit status."""
    episodes: list[Episode] = []
    with Progress(given.episodes, given.quiet) as progress:
        try:
            for number in range(given.episodes):
                episode = runner.run(number)
                episodes.append(episode)
                progress.add(episode)
                if episode.error and not given.keep_going:
                    print(f"evaluate: episode {number + 1}: {episode.error}", file=sys.stderr)
                    return episodes, 1
        except KeyboardInterrupt:
            return episodes, 130
    return episodes, 0


def _report(given: argparse.Namespace, setting: _Setting, episodes: list[Episode]) -> int:
    """Prints and writes what there is; returns 1 when a file cannot be written."""
    figures = summary(episodes, given.confidence)
    if not given.quiet:
        print(setting.title)
    print(describe(figures))
    try:
        if given.json:
            write_json(given.json, setting.told, figures, episodes)
        if given.plot:
            plot(given.plot, setting.title, figures, episodes)
    except (OSError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    return 0


def _end(number: int, frame: object) -> NoReturn:
    """Takes SIGTERM for Ctrl-C: what was done is reported."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
