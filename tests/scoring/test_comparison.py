import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from asr.errors import DataError
from asr.scoring.comparison import (
    Comparison,
    compare,
    comparison_lines,
    comparison_notes,
    comparison_values,
    unit_notes,
)
from asr.scoring.errors import Score, score
from asr.scoring.statistics import Interval
from asr.text.alternates import parse_alternates

SCTK = shutil.which("sctk")


def noisy_copies(
    texts: dict[str, str], rate: float, generator: random.Random, words: list[str]
) -> dict[str, str]:
    copies = {}
    for utterance_id, text in texts.items():
        said = []
        for word in text.split():
            draw = generator.random()
            if draw >= 0.8 * rate:
                said.append(word)
            elif draw < 0.6 * rate:
                said.append(generator.choice(words))
            if generator.random() < 0.15 * rate:
                said.append(generator.choice(words))
        copies[utterance_id] = " ".join(said)
    return copies


def two_systems(
    num_utterances: int, rate_a: float, rate_b: float, seed: int
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    generator = random.Random(seed)
    words = [f"w{number}" for number in range(2000)]
    references = {
        f"s{number % 10}-{number:04d}": " ".join(generator.choices(words, k=15))
        for number in range(num_utterances)
    }
    return (
        references,
        noisy_copies(references, rate_a, generator, words),
        noisy_copies(references, rate_b, generator, words),
    )


def comparison_of(num_utterances: int, rate_a: float, rate_b: float, seed: int) -> Comparison:
    references, a, b = two_systems(num_utterances, rate_a, rate_b, seed)
    return compare(score(references, a), score(references, b))


def test_a_comparison_says_which_system_is_better_and_how_sure() -> None:
    result = comparison_of(300, 0.15, 0.08, seed=2)
    lines = comparison_lines(result)
    assert result.bootstrap is not None
    assert result.bootstrap.low > 0
    assert result.matched_pairs.p is not None
    assert result.matched_pairs.p < 0.001
    assert lines[0].startswith("A: WER ")
    assert re.match(r"Difference A - B: \+\d+\.\d\d points \[\+\d+\.\d\d, \+\d+\.\d\d\]", lines[2])
    assert re.match(r"This test set cannot distinguish less than \d\.\d\d points", lines[-1])
    assert comparison_notes(result) == []


def test_swapping_the_systems_turns_the_signs() -> None:
    references, a, b = two_systems(40, 0.2, 0.1, seed=4)
    forth = compare(score(references, a), score(references, b))
    back = compare(score(references, b), score(references, a))
    assert forth.bootstrap is not None
    assert back.bootstrap is not None
    assert forth.bootstrap.difference == pytest.approx(-back.bootstrap.difference)
    assert forth.matched_pairs.p == back.matched_pairs.p
    assert (forth.num_a_better, forth.num_b_better) == (back.num_b_better, back.num_a_better)
    assert "MAPSSWE supposes about 50 segments" in comparison_notes(
        comparison_of(2, 0.2, 0.1, seed=4)
    )[0]  # fmt: skip


def test_an_utterance_with_alternates_chosen_differently_is_one_segment() -> None:
    references = {"u": parse_alternates("x x { a / b c } x x z", "here"), "v": "a"}
    a = score(references, {"u": "x x a x x y", "v": "a"})
    b = score(references, {"u": "y x b c x x z", "v": "b"})
    assert compare(a, b).matched_pairs.num_segments == 2
    assert [u.reference for u in a.utterances] != [u.reference for u in b.utterances]


def test_scores_of_different_references_are_not_compared() -> None:
    def one(utterance_id: str) -> Score:
        return score({utterance_id: "a"}, {})

    with pytest.raises(DataError, match="different references"):
        compare(one("u"), one("v"))


@pytest.mark.skipif(SCTK is None, reason="NIST's sctk is not installed")
def test_mapsswe_agrees_with_nists(tmp_path: Path) -> None:
    references, a, b = two_systems(300, 0.15, 0.12, seed=5)
    for name, texts in (("ref", references), ("a", a), ("b", b)):
        lines = [f"{text} ({utterance_id})\n" for utterance_id, text in texts.items()]
        (tmp_path / f"{name}.trn").write_text("".join(lines), encoding="utf-8")
    sgml = ""
    for name in "ab":
        files = ["-r", "ref.trn", "trn", "-h", f"{name}.trn", "trn", name]
        command = [str(SCTK), "sclite", "-s", "-i", "rm", *files, "-o", "sgml"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        sgml += (tmp_path / f"{name}.trn.sgml").read_text(encoding="utf-8")
    command = [str(SCTK), "sc_stats", "-p", "-t", "mapsswe", "-u", "-n", "out"]
    subprocess.run(command, cwd=tmp_path, input=sgml, text=True, check=True, capture_output=True)
    report = (tmp_path / "out.stats.unified").read_text(encoding="utf-8")
    found = re.search(r"MP\s+\|\|\s+a\s+\|\s+\|\s+[ab~]\s+<?(\d\.\d+)", report)
    assert found
    ours = compare(score(references, a), score(references, b)).matched_pairs.p
    assert ours == pytest.approx(float(found[1]), abs=0.0011)


def test_utterances_are_better_in_one_worse_in_one_or_equal() -> None:
    references = dict.fromkeys("uvwxyz", "a b")
    a = score(references, {"u": "a b", "v": "a", "w": "a b", "x": "", "y": "a c", "z": "a b"})
    b = score(references, {"u": "a", "v": "a b", "w": "a b", "x": "c", "y": "a d", "z": ""})
    result = compare(a, b)
    assert comparison_lines(result)[-2] == "Utterances: A better 2, B better 1, equal 3"
    assert (result.mcnemar.only_a_right, result.mcnemar.only_b_right) == (2, 1)
    values = comparison_values(result)
    assert values["schema_version"] == 1
    assert (values["num_a_better"], values["num_b_better"]) == (2, 1)


def test_a_p_value_has_four_digits_or_is_said_to_be_smaller() -> None:
    lines = "\n".join(comparison_lines(comparison_of(300, 0.4, 0.05, seed=2)))
    assert re.search(r"MAPSSWE: z = \d+\.\d\d, p = < 0\.0001 ", lines)
    texts = {"u": "a b", "v": "a"}
    lines = "\n".join(comparison_lines(compare(score(texts, texts), score(texts, texts))))
    assert "Paired bootstrap: p = 1.0000" in lines
    assert "MAPSSWE: p = - (0 segments)" in lines


def interval_of(num_units: int) -> Interval:
    return Interval(
        low=1, high=2, confidence=0.95, unit="speaker", num_units=num_units, standard_error=0.2
    )


def test_fewer_than_twenty_units_are_few() -> None:
    assert unit_notes(interval_of(20)) == unit_notes(None) == []
    assert unit_notes(interval_of(19)) == [
        "19 speakers are few: the interval is narrower than it should be"
    ]


def test_fewer_than_fifty_segments_are_few_for_mapsswe() -> None:
    texts = {f"u{number}": "a" for number in range(60)}
    for num_wrong, num_notes in ((50, 0), (49, 1)):
        said = {name: "a" if number >= num_wrong else "b" for number, name in enumerate(texts)}
        result = compare(score(texts, said), score(texts, texts))
        assert result.matched_pairs.num_segments == num_wrong
        assert len(comparison_notes(result)) == num_notes


def test_speakers_are_drawn_where_all_are_known() -> None:
    texts = {f"u{number}": "a b" for number in range(6)}
    speakers = {name: f"s{number % 3}" for number, name in enumerate(texts)}
    scores = [score(texts, said, speakers=speakers) for said in ({}, texts)]
    bootstrap = compare(*scores).bootstrap
    assert bootstrap is not None
    assert (bootstrap.unit, bootstrap.num_units) == ("speaker", 3)
    del speakers["u0"]
    bootstrap = compare(*(score(texts, said, speakers=speakers) for said in ({}, texts))).bootstrap
    assert bootstrap is not None
    assert (bootstrap.unit, bootstrap.num_units) == ("utterance", 6)
