"""What an evaluation is made of, without servers: statistics, keys and shapes, rules of success, reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from service_clients.evaluate import report
from service_clients.evaluate.episodes import Episode, Rule, RuleError, Runner, parse_rule
from service_clients.evaluate.mapping import (
    Actions,
    MappingError,
    Observations,
    parse_actions,
    parse_observations,
    parse_size,
)
from service_clients.evaluate.statistics import times_of, wilson

SPACE = {
    "ee_delta": {"shape": [3], "dtype": "float64", "low": [-1.0] * 3, "high": [1.0] * 3},
    "gripper": {"shape": [1], "dtype": "float64", "low": [0.0], "high": [1.0]},
}
PUSH = {"action": {"shape": [], "dtype": "int64", "low": 0, "high": 1}}

# ---- statistics ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17, 1998,
        # table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_wilsons(successes: int, trials: int, low: float, high: float) -> None:
    interval = wilson(successes, trials)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)
    mirrored = wilson(trials - successes, trials)
    assert (round(mirrored.low, 4), round(mirrored.high, 4)) == (round(1 - high, 4), round(1 - low, 4))


def test_the_interval_solves_the_equation_that_it_comes_from() -> None:
    """Its ends are the rates p with |rate - p| = z sqrt(p (1 - p) / n)."""
    for confidence, z in ((0.9, 1.644854), (0.95, 1.959964), (0.99, 2.575829)):
        for successes, trials in ((3, 17), (1, 2), (99, 100)):
            interval, rate = wilson(successes, trials, confidence), successes / trials
            for end in interval[:2]:
                assert abs(rate - end) == pytest.approx(z * (end * (1 - end) / trials) ** 0.5, rel=1e-5)


@pytest.mark.parametrize(("successes", "trials", "confidence"), [(0, 0, 0.95), (3, 2, 0.95), (1, 2, 1.0)])
def test_there_is_no_interval_of_nonsense(successes: int, trials: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"trials|confidence"):
        wilson(successes, trials, confidence)


def test_percentiles_are_of_calls_that_were_made() -> None:
    assert times_of([5.0, 1.0, 3.0]) == (3, 3.0, 5.0, 5.0)
    assert times_of([float(number) for number in range(1, 201)])[:3] == (200, 100.0, 198.0)
    assert times_of([]).calls == 0


# ---- keys and shapes -----------------------------------------------------------------------------


def test_an_observation_goes_as_it_is_with_the_prompt() -> None:
    observation = {"image": np.zeros((2, 2, 3), np.uint8), "state": np.ones(3)}
    sent = Observations({}, "prompt", "lift it")(observation)
    assert list(sent) == ["image", "state", "prompt"]
    assert sent["image"] is observation["image"], "nothing is copied"
    assert list(Observations({}, "", "lift it")(observation)) == ["image", "state"]


def test_keys_are_renamed_and_laid_end_to_end() -> None:
    keys = parse_observations(["observation/image=image", "observation/state=hand+gripper"])
    observation = {"image": np.zeros((2, 2, 3)), "hand": np.array([1.0, 2.0]), "gripper": np.float64(3.0)}
    sent = Observations(keys, "task", "x")(observation)
    assert list(sent) == ["observation/image", "observation/state", "task"]
    assert sent["observation/state"].tolist() == [1.0, 2.0, 3.0]


def test_pictures_are_brought_to_the_size_that_the_policy_wants() -> None:
    observation = {"image": np.full((50, 100, 3), 200, np.uint8), "depth": np.ones((50, 100), np.float32)}
    for keys in ({}, {"cam": ["image"], "depth": ["depth"]}):
        sent = Observations(keys, "", "", parse_size("64x32"))(observation)
        picture = sent["cam" if keys else "image"]
        assert (picture.dtype.name, picture.shape) == ("uint8", (64, 32, 3))
        assert (int(picture[32, 16, 0]), int(picture[0, 16, 0])) == (200, 0), "padded with black"
        assert sent["depth"] is observation["depth"]


@pytest.mark.parametrize("option", ["224", "224x", "x", "-1x4", "9000x10", "axb"])
def test_a_size_that_is_none_is_quoted(option: str) -> None:
    with pytest.raises(MappingError, match=f"--resize '{option}'"):
        parse_size(option)


def test_a_key_that_the_simulator_does_not_have_is_named_with_those_that_it_has() -> None:
    with pytest.raises(MappingError, match="no 'camera'; it has image, state"):
        Observations({"a": ["camera"]}, "", "")({"image": 1, "state": 2})


def test_a_chunk_is_split_in_the_order_of_the_action_space() -> None:
    first, second = Actions(SPACE)({"actions": np.array([[0.1, 0.2, 0.3, 1.0], [0.4, 0.5, 0.6, 0.0]])})
    assert first["ee_delta"].tolist() == [0.1, 0.2, 0.3]
    assert first["gripper"].tolist() == [1.0]
    assert second["ee_delta"].tolist() == [0.4, 0.5, 0.6]


def test_columns_may_be_named_and_fewer_steps_carried_out() -> None:
    act = Actions(SPACE, columns=parse_actions(["gripper=0", "ee_delta=2:5"]), steps=1)
    (only,) = act({"actions": np.arange(12).reshape(2, 6) / 10})
    assert only["gripper"].tolist() == [0.0]
    assert only["ee_delta"].tolist() == [0.2, 0.3, 0.4]


def test_numbers_are_brought_within_the_limits_and_into_the_dtype() -> None:
    (action,) = Actions(SPACE)({"actions": [[5.0, -5.0, 0.0, 7.0]]})
    assert action["ee_delta"].tolist() == [1.0, -1.0, 0.0]
    assert action["gripper"].tolist() == [1.0]
    (push,) = Actions(PUSH)({"actions": np.float32(0.7)})
    assert (push["action"].dtype.name, push["action"].shape, int(push["action"])) == ("int64", (), 1)


def test_what_has_no_limit_is_not_limited() -> None:
    space = {"force": {"shape": [2], "dtype": "float32", "low": None, "high": [None, 1.0]}}
    (action,) = Actions(space)({"actions": [-9.0, 9.0]})
    assert action["force"].tolist() == [-9.0, 1.0]


def test_a_map_of_arrays_is_a_chunk_too() -> None:
    reply = {"actions": {"ee_delta": np.zeros((3, 3)), "gripper": np.ones((3, 1)), "more": 1}}
    assert [action["gripper"].tolist() for action in Actions(SPACE, steps=2)(reply)] == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"chunk": 1}, "answered no 'actions'; it answered chunk"),
        ({"actions": np.zeros((2, 5))}, "5 numbers a step, the action takes 4 .*ee_delta .3. . gripper"),
        ({"actions": np.zeros((0, 4))}, r"shape \(0, 4\)"),
        ({"actions": "left"}, "no numbers"),
        ({"actions": [[0.0, 0.0, float("nan"), 0.0]]}, "'ee_delta' are not finite"),
        ({"actions": {"ee_delta": np.zeros((3, 3))}}, "has no 'gripper'"),
        (
            {"actions": {"ee_delta": np.zeros((3, 2)), "gripper": np.zeros((3, 1))}},
            "2 numbers for 'ee_delta'",
        ),
    ],
)
def test_a_reply_that_does_not_fit_says_why(reply: dict[str, Any], said: str) -> None:
    with pytest.raises(MappingError, match=said):
        Actions(SPACE)(reply)


@pytest.mark.parametrize("option", ["image", "=image", "a=", "a=b+"])
def test_an_observation_option_that_is_none_is_quoted(option: str) -> None:
    with pytest.raises(MappingError, match=option.replace("+", r"\+")):
        parse_observations([option])


@pytest.mark.parametrize("option", ["gripper", "gripper=x", "=0:3", "gripper=0:y"])
def test_an_action_option_that_is_none_is_quoted(option: str) -> None:
    with pytest.raises(MappingError, match=option):
        parse_actions([option])


# ---- episodes ------------------------------------------------------------------------------------


class Pole:
    """A simulator whose episodes take `length` steps; one in three says success, where it says anything."""

    def __init__(self, length: int, ends: str = "terminated", says: bool = True) -> None:
        self.length, self.ends, self.says, self.episode = length, ends, says, 0

    def reset(self) -> dict[str, Any]:
        self.at, self.episode = 0, self.episode + 1
        return {"state": np.zeros(4)}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.at += 1
        is_over = self.at == self.length
        info = {"success": is_over and self.episode % 3 == 0} if self.says else {}
        ends = [is_over and self.ends == end for end in ("terminated", "truncated")]
        return {"state": np.ones(4)}, 1.0, ends[0], ends[1], info


class Pusher:
    """Answers chunks of four, and fails when it is told to."""

    def __init__(self, fails_at: int = 0) -> None:
        self.calls, self.fails_at, self.seen = 0, fails_at, []  # type: tuple[int, int, list[Any]]

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        self.seen.append(observation)
        if self.calls == self.fails_at:
            raise RuntimeError("the GPU is on fire")
        return {"actions": np.zeros((4, 1))}


def runner(simulator: Pole, rule: str = "info", policy: Pusher | None = None, **options: Any) -> Runner:
    """Of episodes of `simulator`."""
    observe = Observations({}, "prompt", "push")
    return Runner(policy or Pusher(), simulator, observe, Actions(PUSH), parse_rule(rule), **options)


def test_an_episode_asks_once_for_each_chunk_and_ends_where_the_simulator_says() -> None:
    policy = Pusher()
    episode = runner(Pole(10), policy=policy).run(0)
    assert (policy.calls, episode.steps, len(episode.infer_ms), len(episode.step_ms)) == (3, 10, 3, 10)
    assert (episode.reward, episode.ended, episode.success, episode.error) == (10.0, "terminated", False, "")
    assert policy.seen[0]["state"].tolist() == [0.0] * 4
    assert policy.seen[1]["state"].tolist() == [1.0] * 4
    assert policy.seen[0]["prompt"] == "push"


@pytest.mark.parametrize(
    ("rule", "ends", "successes"),
    [
        ("info", "terminated", 2),
        ("terminated", "terminated", 6),
        ("terminated", "truncated", 0),
        ("truncated", "truncated", 6),
        ("return:10", "terminated", 6),
        ("return:10.5", "terminated", 0),
    ],
)
def test_the_rule_decides_what_a_success_is(rule: str, ends: str, successes: int) -> None:
    run = runner(Pole(10, ends), rule)
    assert sum(run.run(number).success for number in range(6)) == successes


def test_a_simulator_that_says_nothing_of_success_needs_another_rule() -> None:
    with pytest.raises(RuleError, match="say what counts as success: --success"):
        runner(Pole(10, says=False)).run(0)


def test_an_episode_that_goes_on_for_ever_is_ended() -> None:
    episode = runner(Pole(10**9), max_steps=25).run(0)
    assert (episode.steps, episode.ended, episode.success) == (25, "steps", False)


def test_an_episode_that_breaks_is_a_failure_with_its_reason() -> None:
    episode = runner(Pole(10), "return:1", policy=Pusher(fails_at=2)).run(0)
    assert (episode.ended, episode.success, episode.error) == ("error", False, "the GPU is on fire")
    assert episode.steps == 4


@pytest.mark.parametrize("text", ["always", "return", "return:x", "info:1", ""])
def test_a_rule_that_is_none_is_quoted(text: str) -> None:
    with pytest.raises(RuleError, match="--success"):
        parse_rule(text)


# ---- reports -------------------------------------------------------------------------------------


def some_episodes() -> list[Episode]:
    """Twelve, of which four succeed."""
    run = runner(Pole(7))
    return [run.run(number) for number in range(12)]


def test_the_summary_has_rate_interval_and_times() -> None:
    figures = report.summary(some_episodes())
    assert (figures["episodes"], figures["successes"], figures["errors"]) == (12, 4, 0)
    assert figures["success_rate"] == pytest.approx(1 / 3)
    assert (figures["interval"]["low"], figures["interval"]["high"]) == wilson(4, 12)[:2]
    assert "Wilson" in figures["interval"]["method"]
    assert (figures["infer_ms"]["calls"], figures["step_ms"]["calls"]) == (24, 84)
    text = report.describe(figures)
    assert "33.3%  (4 of 12; 95% interval 13.8% to 60.9%, Wilson score)" in text


def test_no_episode_is_no_rate_and_no_crash() -> None:
    figures = report.summary([])
    assert "success_rate" not in figures
    assert "no episode was finished" in report.describe(figures)


def test_the_json_holds_every_episode_and_replaces_the_file_whole(tmp_path: Path) -> None:
    path, episodes = tmp_path / "out.json", some_episodes()
    path.write_text("old")
    setting = {
        "task": "push",
        "policy_metadata": {"mean": np.arange(2), "scale": float("nan"), "of": Rule("info")},
    }
    report.write_json(str(path), setting, report.summary(episodes), episodes)
    told = json.loads(path.read_text())
    assert told["task"] == "push"
    assert told["policy_metadata"] == {"mean": [0, 1], "scale": None, "of": ["info", 0.0]}
    assert len(told["episode"]) == 12
    assert told["episode"][2]["success"] is True
    assert len(told["episode"][2]["step_ms"]) == 7
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.filterwarnings("error")
def test_the_plot_is_a_picture_that_changes_with_what_it_shows(tmp_path: Path) -> None:
    episodes = some_episodes()
    pictures = []
    for name, shown in (("all", episodes), ("some", episodes[:5]), ("none", [])):
        path = tmp_path / f"{name}.png"
        report.plot(str(path), "push", report.summary(shown), shown)
        picture = cv2.imread(str(path))
        assert picture is not None
        pictures.append(picture)
    assert pictures[0].shape == pictures[1].shape
    assert np.not_equal(pictures[0], pictures[1]).any()
