from dataclasses import replace
from typing import Any

import pytest

from asr.corpus.packed import PackedCorpus
from asr.training.diagnosis import diagnose_history, diagnose_sets


def test_sets_with_nothing_in_common_say_nothing(tone_corpus: dict[str, PackedCorpus]) -> None:
    dev = renamed(tone_corpus["dev"])
    assert diagnose_sets(tone_corpus["train"], dev, 10**9) == {}


def renamed(corpus: PackedCorpus) -> PackedCorpus:
    utterances = tuple(replace(u, speaker=f"other {u.speaker}") for u in corpus.utterances)
    return replace(corpus, utterances=utterances)


def test_shared_audio_speakers_and_long_utterances_are_named(
    tone_corpus: dict[str, PackedCorpus],
) -> None:
    train = tone_corpus["train"]
    findings = diagnose_sets(train, train, int(train.lengths.max()) - 1)
    same, speakers, long = findings.values()
    assert same.startswith("60 dev utterances have the same audio as a training utterance (train-0")
    assert speakers.startswith("3 speakers are in train and dev (speaker0, speaker1, speaker2)")
    assert long.startswith("1 training utterances are longer than training.batch_seconds (train-")


def history(**columns: list[float]) -> list[dict[str, float]]:
    length = max(map(len, columns.values()))
    rows: list[dict[str, Any]] = [{"epoch": index + 1} for index in range(length)]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=False):
            row[name] = value
    return rows


@pytest.mark.parametrize(
    ("columns", "finding"),
    [
        pytest.param({"loss": [3, 2, 1, 4, 5]}, "the loss has risen from 1.000 to 5.000", id="up"),
        pytest.param(
            {"loss": [3] * 6, "dev_loss": [3] * 6, "dev_empty": [100] * 6},
            "100 % of the dev hypotheses are empty at epoch 6",
            id="blanks",
        ),
        pytest.param(
            {"loss": [3, 2, *[1] * 11], "dev_loss": [3, 1, *[2] * 11]},
            "the dev loss was lowest at epoch 2 (1.000) and is 2.000 now",
            id="by heart",
        ),
        pytest.param(
            {"loss": [4, *[2.9] * 12]}, "the training loss has stood at 2.900 for 10", id="plateau"
        ),
    ],
)
def test_what_goes_wrong_is_said(columns: dict[str, list[float]], finding: str) -> None:
    (said,) = diagnose_history(history(**columns), epochs=20).values()
    assert said.startswith(finding)


def test_a_run_that_learns_late_is_left_in_peace() -> None:
    """As CR-CTC on AN4: for a fifth of the epochs all is blank; later the dev loss creeps up."""
    loss = [3.0] * 20 + [2.5 * 0.9**epoch for epoch in range(80)]
    dev = [3.0] * 20 + [2.5 * 0.9**epoch for epoch in range(30)] + [0.13] * 50
    late = history(loss=loss, dev_loss=dev, dev_empty=[100] * 20 + [0] * 80)
    for count in range(len(late) + 1):
        assert diagnose_history(late[:count], epochs=100) == {}
    assert set(diagnose_history(late[:20], epochs=50)) == {"plateau", "blanks"}


def test_a_run_that_learns_is_left_in_peace() -> None:
    loss = [3 * 0.8**epoch for epoch in range(20)]
    good = history(loss=loss, dev_loss=loss, dev_empty=[100, 90, 50, *[0] * 17])
    for count in range(len(good) + 1):
        assert diagnose_history(good[:count], epochs=20) == {}


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        # The last two losses are above one and a half times the least.
        ({"loss": [2, 3.1, 3.1]}, "rising loss"),
        ({"loss": [2, 3.1, 2.9]}, None),
        ({"loss": [2, 2.9, 3.1]}, None),
        ({"loss": [2, 3.1]}, None),
        # Eleven epochs are needed, two per cent are a fall, and below 1 nothing is said.
        ({"loss": [2.0] * 11}, "plateau"),
        ({"loss": [2.0] * 10}, None),
        ({"loss": [2.0, *[2.0] * 9, 1.961]}, "plateau"),
        ({"loss": [2.0, *[2.0] * 9, 1.959]}, None),
        ({"loss": [0.99] * 12}, None),
        # Above nine tenths empty, from the fourth epoch on.
        ({"loss": [3, 2, 1, 0.9], "dev_loss": [1] * 4, "dev_empty": [91] * 4}, "blanks"),
        ({"loss": [3, 2, 1, 0.9], "dev_loss": [1] * 4, "dev_empty": [90] * 4}, None),
        ({"loss": [3, 2, 1], "dev_loss": [1] * 3, "dev_empty": [100] * 3}, None),
        # Ten epochs without a better one, a fifth above it, and not since the first.
        ({"loss": [0.9] * 12, "dev_loss": [2, 1, *[1.21] * 10]}, "by heart"),
        ({"loss": [0.9] * 11, "dev_loss": [2, 1, *[1.21] * 9]}, None),
        ({"loss": [0.9] * 12, "dev_loss": [2, 1, *[1.19] * 10]}, None),
        ({"loss": [0.9] * 12, "dev_loss": [1, *[1.5] * 11]}, None),
    ],
)
def test_findings_begin_where_they_are_said_to(
    columns: dict[str, list[float]], kind: str | None
) -> None:
    assert [*diagnose_history(history(**columns), epochs=12)] == ([kind] if kind else [])
