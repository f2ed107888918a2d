"""What holds for every Python test: none may be skipped.

A test that skips when its peer is missing passes for as long as nobody looks. What the tests need is
installed by ``tools/setup.sh``; when it is not there, that is a failure, and so is an expected one (xfail).
"""

from __future__ import annotations

from typing import Generator

import pytest


def _fail_when_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    expected = report.__dict__.pop("wasxfail", None)  # pytest counts no failure that bears this mark
    if report.skipped or expected is not None:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else f"xfail {expected}"
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped or expected to fail, which counts as a failure: {why}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_when_skipped(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_when_skipped(report)
    return report
