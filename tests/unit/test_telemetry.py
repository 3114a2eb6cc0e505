"""Logs say what went wrong and where, but never what the variables held."""

from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from gateway.telemetry import configure_logging


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_traceback_shows_no_values(style: Literal["console", "json"], capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", style)

    def fail(secret: str) -> None:
        raise ValueError("the reason")

    try:
        fail("s3cr" + "et")
    except ValueError:
        structlog.get_logger().exception("it_failed")
    written = capsys.readouterr().err
    assert "it_failed" in written
    assert "the reason" in written
    assert "fail" in written
    assert "s3cret" not in written


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", "json")
    structlog.get_logger().info("small_talk")
    structlog.get_logger().warning("bad_news", call_id="c1")
    assert '"event": "bad_news"' in capsys.readouterr().err
