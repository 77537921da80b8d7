from pathlib import Path

import numpy as np
import pytest

from asr.corpus.checks import sound as audio_checks
from asr.corpus.checks.sound import Case, check_speaking_rates
from asr.corpus.manifest import Utterance


def cases(lengths: list[int], seconds: list[float]) -> list[Case]:
    return [
        Case(
            manifest="m",
            utterance=Utterance(
                id=str(index), audio_filepath=Path("a.mfc"), duration=duration, text="a" * length
            ),
        )
        for index, (length, duration) in enumerate(zip(lengths, seconds, strict=True))
    ]


@pytest.mark.parametrize("num", [40, 350])
def test_speaking_rates_that_stand_out_are_those_of_a_plain_loop(num, monkeypatch):
    monkeypatch.setattr(audio_checks, "_CHUNK", 64)
    random = np.random.default_rng(num)
    lengths = random.integers(1, 60, num)
    seconds = 0.3 + lengths / 14 * np.exp(0.15 * random.standard_normal(num))
    seconds[5] *= 5
    seconds[17] /= 6
    findings = list(check_speaking_rates(cases(lengths.tolist(), seconds.tolist())))
    found = {f.utterance: f.message.split("; ")[1].split(" is usual")[0] for f in findings}
    order = np.argsort(lengths, kind="stable")
    rates = np.log(lengths / seconds)[order]
    width = min(100, num)
    wanted = {}
    for place, rate in enumerate(rates):
        first = min(max(0, place - width // 2), num - width)
        near = rates[first : first + width]
        median = np.median(near)
        limit = max(np.log(2), 6 * 1.4826 * np.median(np.abs(near - median)))
        if abs(rate - median) > limit:
            wanted[str(order[place])] = f"{np.exp(median):.1f}"
    assert {"5", "17"} <= wanted.keys()
    assert found == wanted


def test_a_few_utterances_have_no_usual_rate():
    assert list(check_speaking_rates(cases([5] * 29, [1.0] * 28 + [50.0]))) == []
    assert len(list(check_speaking_rates(cases([5] * 30, [1.0] * 29 + [50.0])))) == 1
