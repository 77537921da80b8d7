import io
import itertools
import re
from collections.abc import Callable, Sequence

import pytest
from rich.console import Console

from asr.scoring.errors import UtteranceScore, score
from asr.training.screen import Pace, TrainingLines, TrainingScreen, marked, trace

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def history(count: int) -> list[dict[str, float]]:
    """The third epoch is the best."""
    return [
        {
            "epoch": epoch,
            "loss": 3 / epoch,
            "skipped": 0,
            "real_time_factor": 100 + epoch,
            "data_wait": 0.015,
            "gradient_layer1": 2.0**-epoch,
            "gradient_output": 1.5,
            "learning_rate": 0.001,
            "dev_wer": abs(epoch - 3) + 5,
            "dev_cer": 2.0,
            "dev_loss": 1.0,
        }
        for epoch in range(1, count + 1)
    ]


def samples() -> Sequence[UtteranceScore]:
    pairs = {"first": ("yes", "yes"), "second": ("no yes", "no no"), "third": ("no", "yes")}
    references = {name: reference for name, (reference, _) in pairs.items()}
    return score(references, {name: said for name, (_, said) in pairs.items()}).utterances


def pace() -> Pace:
    return Pace(learning_rate=2.5e-3, real_time_factor=123.4, data_wait=0.015)


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that goes on by so much whenever it is looked at."""
    return itertools.count(0.0, seconds).__next__


def drawn(width: int, height: int, epochs: int) -> str:
    consoles = [
        Console(file=file, force_terminal=True, width=width, height=height, color_system="standard")
        for file in (io.StringIO(), io.StringIO())
    ]
    screen = TrainingScreen(epochs, 10 * epochs, print, clock=ticking(1.0), console=consoles[0])
    with screen:
        assert [*screen.steps("abcd", epoch=epochs, step=10 * epochs - 10, pace=pace)] == [*"abcd"]
        screen.show(history(epochs), samples(), ["the loss has risen"])
    consoles[1].print(screen.draw())
    return consoles[1].file.getvalue()  # type: ignore[attr-defined]


def test_the_screen_has_all_that_a_run_is_judged_by() -> None:
    coloured = drawn(width=140, height=40, epochs=30)
    text = ESCAPES.sub("", coloured)
    assert "294 of 300 steps, 98 %" in text
    assert "epoch 30/30" in text
    assert "learning rate 2.50e-03   123 x real time   1.5 % waiting for data" in text
    rows = [line.split() for line in text.splitlines()]
    assert any(row[:5] == ["3*", "1.000", "1.000", "5.00", "2.00"] for row in rows)  # scrolled off
    assert any(row[:5] == ["30", "0.100", "1.000", "32.00", "2.00"] for row in rows)
    assert "output" in text
    assert "! the loss has risen" in text
    assert re.search(r"best first, CER 0 %\n *ref yes *\n *hyp yes", text)
    assert re.search(r"median second, .*\n *ref no yes *\n *hyp no no", text)
    assert "worst third" in text
    red, green = re.findall(r"\x1b\[3[12]m(\w+) ", coloured)[-2:]
    assert (red, green) == ("no", "yes")


def test_the_screen_fits_a_small_terminal() -> None:
    lines = ESCAPES.sub("", drawn(width=80, height=24, epochs=30)).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:1] == ["3*"] for line in lines)


LARGE = {
    "loss": 1234.5678,
    "dev_loss": 1234.5678,
    "dev_wer": 123.456,
    "dev_cer": 123.456,
    "gradient_subsampling": 1.23e-10,
}


@pytest.mark.parametrize("width", [80, 100, 104, 108, 112, 120])
def test_no_column_is_cut_off(width: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=40)
    screen = TrainingScreen(300, 10**6, print, clock=ticking(1.0), console=console)
    with screen:
        [*screen.steps("abcd", epoch=300, step=999_990, pace=pace)]
        screen.show([row | LARGE | {"epoch": 270 + row["epoch"]} for row in history(30)], [], [])
    plain = Console(file=io.StringIO(), width=width)
    plain.print(screen.draw())
    text = plain.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    header = next(line for line in text.splitlines() if "dev loss" in line)
    assert header.split()[:9] == ["epoch", "loss", "dev", "loss", "WER", "%", "CER", "%", "rate"]
    last = next(line for line in text.splitlines() if line.split()[:1] == ["300"])
    assert last.split()[1:6] == ["1234.568", "1234.568", "123.46", "123.46", "1.0e-03"]


def test_the_time_left_is_what_a_step_took_times_those_that_are_left() -> None:
    now = 5.0
    display = TrainingLines(30, 60, print, clock=lambda: now)
    assert display.time_left == "?"
    steps = iter(display.steps("abcdefgh", epoch=3, step=20, pace=pace))
    for _ in range(5):  # four are over
        next(steps)
        now += 2.5
    # 12.5 s for four of them, and 36 are left.
    assert display.time_left == "1 min 52 s"


def test_lines_say_the_epoch_its_best_and_samples() -> None:
    lines: list[str] = []
    with TrainingLines(30, 300, lines.append) as display:
        list(display.steps("abcd", epoch=7, step=60, pace=pace))
        display.show(history(7), samples(), [])
    assert lines[0].startswith(
        "epoch 7/30: loss 0.429, dev WER 9.00 %, CER 2.00 % (best 5.00 % at 3); gradients 0.01 "
        "1.50; 107 x real time, 1.5 % waiting for data; "
    )
    assert lines[2] == "  second (CER 50 %)\n    ref no yes\n    hyp no no"


def test_what_was_said_cannot_steer_the_terminal() -> None:
    texts = {"a": "no \x1b[2J\x9b31m"}
    hostile = score(texts, {"a": "yes \x1b[2J"}).utterances
    lines: list[str] = []
    with TrainingLines(30, 300, lines.append) as display:
        display.show(history(1), hostile, [])
    assert lines[-1].endswith("ref no \\x1b[2J\\x9b31m\n    hyp yes \\x1b[2J")
    assert not {"\x1b", "\x9b"} & set("".join(line.plain for line in marked(hostile[0])))


def test_a_trace_goes_with_the_logarithm() -> None:
    assert trace([1, 10, 100, 1000]) == "▁▃▆█"
    assert trace([float("nan"), 0.0, 2.0]) == "  ▁"
    assert trace([]) == ""
