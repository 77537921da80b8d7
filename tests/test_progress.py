import io
import logging
from collections.abc import Iterator

import pytest
from rich.console import Console

from asr import progress
from asr.progress import Progress, track


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asr")


def test_nothing_is_said_in_the_first_seconds_and_then_a_line_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    going = Progress("reading", clock=clock)
    for second in range(100):
        clock.now = second
        going.show(f"{second} of 100 shards", share=second / 100, amount=10 * second)
    assert lines_of(caplog)[:2] == [
        "reading: 15 of 100 shards, 15%, 1 min 25 s left, 10.0 a second",
        "reading: 30 of 100 shards, 30%, 1 min 10 s left, 10.0 a second",
    ]
    assert len(caplog.records) == 6


def test_what_nobody_knows_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    going = Progress("reading", clock=clock, rate="{:.0f} x real time")
    clock.now = 20
    going.show("0 of 1 inputs", share=0, amount=100)
    assert lines_of(caplog) == ["reading: 0 of 1 inputs, 5 x real time"]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_of_several_processes_the_first_speaks(
    rank: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**started, "RANK": rank}.items():
        monkeypatch.setenv(name, value)
    clock = Clock()
    going = Progress("reading", clock=clock)
    clock.now = 20
    going.show("1 of 2", share=0.5, amount=1)
    assert len(caplog.records) == (rank == "0")


def test_a_bar_is_drawn_anew_and_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    screen = io.StringIO()
    clock = Clock()
    console = Console(file=screen, force_terminal=True, width=100)
    with Progress("reading", clock=clock, console=console) as going:
        clock.now = 1.9
        going.show("1 of 4 shards", share=0.25, amount=1)
        assert not screen.getvalue()
        clock.now = 10
        going.show("2 of 4 shards", share=0.5, amount=2)
        drawn = screen.getvalue()
        assert "2 of 4 shards" in drawn
        assert "10 s left" in drawn
        assert drawn.count("reading") == 1
        clock.now = 10.1
        going.show("3 of 4 shards", share=0.75, amount=3)
        assert screen.getvalue() == drawn  # too soon
        going.hide()
        assert screen.getvalue().endswith("\x1b[2K")  # the line is erased
        clock.now = 20
        going.show("3 of 4 shards", share=0.75, amount=3)
        assert "3 of 4 shards" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K")
    assert not caplog.records


def test_items_come_through_and_are_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0)

    def items() -> Iterator[str]:
        for item in "abcd":
            clock.now += 2
            yield item

    tracked = track(items(), total=4, label="reading", unit="shards", clock=clock)
    assert list(tracked) == list("abcd")
    assert lines_of(caplog) == [
        "reading: 1 of 4 shards, 25%, 12 s left, 0.2 a second",
        "reading: 2 of 4 shards, 50%, 6 s left, 0.3 a second",
        "reading: 3 of 4 shards, 75%, 3 s left, 0.4 a second",
    ]
