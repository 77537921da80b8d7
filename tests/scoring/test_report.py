import json
from collections import Counter
from pathlib import Path

import pytest

from asr.scoring.detail import write_files
from asr.scoring.errors import Score, UtteranceScore, score
from asr.scoring.page import write_html
from asr.scoring.report import (
    Clip,
    ScoreReport,
    normalization_examples,
    report_json,
    report_lines,
    report_notes,
)

FILES = {
    "report.txt", "report.json", "alignments.txt", "per_utt", "per_spk", "ops", "ref.trn",
    "hyp.trn", "RESULTS.md",
}  # fmt: skip

REFERENCES = {"s-1": "a b c", "s-2": "a b", "t-1": "a", "t-2": "", "t-3": "d e"}
HYPOTHESES = {"s-1": "a x c", "s-2": "a b y y", "t-1": "a", "t-2": ""}
SPEAKERS = {utterance_id: utterance_id[0] for utterance_id in REFERENCES}
SCORE = score(REFERENCES, HYPOTHESES, speakers=SPEAKERS)


def report_of(scored: Score, **values: object) -> ScoreReport:
    return ScoreReport(
        score=scored,
        reference="ref",
        hypothesis="hyp",
        **values,  # type: ignore[arg-type]
    )


def test_the_json_holds_counts_rates_and_every_utterance() -> None:
    values = json.loads(report_json(report_of(SCORE, audio_seconds=20.0, compute_seconds=0.5)))
    assert values["schema_version"] == 1
    assert values["wer"] == pytest.approx(62.5)
    assert values["words"] == {"errors": 5, "reference_length": 8, "substitutions": 1,
                               "deletions": 2, "insertions": 2}  # fmt: skip
    assert values["missing"] == ["t-3"]
    assert values["empty_references"] == {"num": 1, "insertions": 0}
    assert values["interval"]["unit"] == "speaker"
    assert values["real_time_factor"] == 0.025
    assert [row["id"] for row in values["utterances"]] == list(REFERENCES)
    assert values["utterances"][3]["wer"] is None


def same(text: str) -> str:
    del text
    return "same"


def test_lines_files_and_page_share_one_count_of_the_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spelled = []
    spell_out = UtteranceScore.pairs
    monkeypatch.setattr(UtteranceScore, "pairs", lambda u: (spelled.append(u.id), spell_out(u))[1])
    report = report_of(SCORE)
    assert report.operations["S", "b", "x"] == 1
    report_json(report)
    report_lines(report)
    assert spelled == list(REFERENCES)
    # Each place that shows the words of an utterance spells them out; none counts them again.
    write_files(report, tmp_path)
    write_html(report, tmp_path / "report.html")
    assert Counter(spelled) == {**dict.fromkeys(REFERENCES, 4), "t-3": 3}


def test_raw_and_normalized_rates_stand_side_by_side() -> None:
    references, said = {"u": "Hello, World", "v": "b"}, {"u": "hello world", "v": "b"}
    raw, normalized = score(references, said), score(references, said, normalizer=same)
    report = report_of(normalized, raw=raw, normalizer="basic")
    assert "Before normalizer basic: WER 66.67 % (2 / 3)" in report_lines(report)
    examples = json.loads(report_json(report))["raw"]["examples"]
    assert examples[0] == {"id": "u", "before": "Hello, World", "after": "same"}


def test_notes_warn_of_few_units_and_of_no_errors() -> None:
    notes = " ".join(report_notes(report_of(score(REFERENCES, REFERENCES))))
    assert "5 utterances are few" in notes
    assert "no errors: resampling cannot bound the rate" in notes


def test_examples_are_the_first_texts_that_the_normalizer_changed() -> None:
    references = dict(zip("uvwxyz", "aBCDEF", strict=True))
    said = {"u": "a", "w": "X", "x": "Y"}
    scores = [score(references, said, normalizer=normalizer) for normalizer in (None, str.lower)]
    examples = normalization_examples(report_of(scores[1], raw=scores[0], normalizer="lower"))
    assert [(each["id"], each["before"], each["after"]) for each in examples] == [
        ("v", "B", "b"), ("w", "C", "c"), ("w", "X", "x"),
    ]  # fmt: skip
    assert normalization_examples(report_of(scores[1])) == []


def test_notes_name_ten_missing_utterances() -> None:
    for count, end in ((10, "u8, u9"), (11, "u8, u9, ...")):
        texts = {f"u{number}": "a" for number in range(count)}
        (note,) = [n for n in report_notes(report_of(score(texts, {}))) if "without" in n]
        assert note.endswith(end)


def test_no_errors_are_bounded_by_three_of_the_words() -> None:
    texts = {f"u{number}": "a b c" for number in range(20)}
    (note,) = report_notes(report_of(score(texts, texts)))
    assert "below 5 % (3 / words)" in note


def test_json_lists_fifty_confusions_and_letters_of_any_script() -> None:
    texts = {f"u{number}": f"ä{number}" for number in range(60)}
    text = report_json(report_of(score(texts, dict.fromkeys(texts, "x"))))
    assert len(json.loads(text)["confusions"]) == 50
    assert '"ä0"' in text


def test_a_clip_is_from_the_beginning_of_its_file() -> None:
    clip = Clip(path=Path("a.wav"))
    assert (clip.offset, clip.duration) == (0, None)
