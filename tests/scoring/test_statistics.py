import itertools
import math
import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DataError
from asr.scoring.comparison import Comparison, compare, comparison_lines, comparison_notes
from asr.scoring.errors import ErrorCounts, Score, score, word_error_interval
from asr.scoring.statistics import (
    bootstrap_interval,
    detectable_difference,
    error_segments,
    matched_pairs,
    mcnemar,
    paired_bootstrap,
    resampled_sums,
)
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


def test_a_small_bootstrap_is_that_of_all_resamples() -> None:
    errors, lengths = [0, 3, 1], [4, 6, 10]
    rates = sorted(
        100 * sum(errors[i] for i in drawn) / sum(lengths[i] for i in drawn)
        for drawn in itertools.product(range(3), repeat=3)
    )
    interval = bootstrap_interval(errors, lengths, unit="utterance", confidence=0.8)
    assert interval is not None
    low, high = np.quantile(rates, [0.1, 0.9], method="inverted_cdf")
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert interval.standard_error == pytest.approx(np.std(rates), rel=0.03)


def test_equal_units_drawn_together_are_drawn_as_often_as_apart() -> None:
    counts = np.array([[1, 1, 1, 5], [2, 2, 2, 9]])
    sums = np.concatenate(list(resampled_sums(counts, num_resamples=40_000, seed=1)))
    num_fives = (sums[:, 0] - 4) / 4
    expected = [math.comb(4, k) * 0.25**k * 0.75 ** (4 - k) for k in range(5)]
    found = [np.mean(num_fives == k) for k in range(5)]
    assert found == pytest.approx(expected, abs=0.01)
    assert (sums[:, 1] == 8 + 7 * num_fives).all()


def test_the_interval_is_the_same_every_time_and_another_for_another_seed() -> None:
    errors, lengths = list(range(30)), [40 + number for number in range(30)]
    intervals = [
        bootstrap_interval(errors, lengths, unit="speaker", seed=seed) for seed in (1, 1, 2)
    ]
    assert intervals[0] == intervals[1]
    assert intervals[0] != intervals[2]


def test_units_without_words_leave_the_rate_defined() -> None:
    interval = bootstrap_interval([1, 2, 0, 3], [0, 0, 4, 5], unit="utterance")
    assert interval is not None
    assert math.isfinite(interval.high)


@pytest.mark.parametrize("lengths", [[], [5], [5, 0], [0, 0, 0]])
def test_one_unit_with_words_says_nothing(lengths: list[int]) -> None:
    assert bootstrap_interval([0] * len(lengths), lengths, unit="utterance") is None


def simulated_coverage(num_speakers: int, by_speaker: bool, num_trials: int) -> float:
    """How often the interval of speakers with rates of their own holds the population's rate."""
    generator = np.random.default_rng(11)
    num_covered = 0
    for _ in range(num_trials):
        rates = generator.beta(2, 10, size=num_speakers)
        errors = generator.binomial(200, rates)
        lengths = np.full(num_speakers, 200)
        if not by_speaker:
            # The same words in ten utterances of each speaker, as if they were independent.
            errors = np.concatenate([generator.multinomial(e, [0.1] * 10) for e in
                                     generator.binomial(200, rates)])  # fmt: skip
            lengths = np.full(10 * num_speakers, 20)
        interval = bootstrap_interval(
            errors.tolist(), lengths.tolist(), unit="speaker", num_resamples=1000
        )
        assert interval is not None
        num_covered += interval.low <= 100 * 2 / 12 <= interval.high
    return num_covered / num_trials


def test_the_95_percent_interval_holds_the_true_rate_in_95_of_100_cases() -> None:
    assert 0.93 <= simulated_coverage(60, by_speaker=True, num_trials=1000) <= 0.97


def test_resampling_utterances_of_different_speakers_would_be_too_sure() -> None:
    assert simulated_coverage(60, by_speaker=False, num_trials=100) < 0.85


def test_speakers_are_the_units_of_a_scores_interval() -> None:
    texts = {f"u{number}": "a b c d" for number in range(12)}
    said = {name: "a b c x" if number % 3 else "a" for number, name in enumerate(texts)}
    speakers = {name: f"s{number % 4}" for number, name in enumerate(texts)}
    interval = word_error_interval(score(texts, said, speakers=speakers))
    assert interval is not None
    assert (interval.unit, interval.num_units) == ("speaker", 4)


def test_mapsswe_is_as_worked_out_by_hand() -> None:
    # Differences 1, 0, -1, 3: mean 0.75, variance 8.75 / 3, z = 0.75 / sqrt(8.75 / 3 / 4).
    result = matched_pairs([(2, 1), (1, 1), (0, 1), (3, 0)])
    assert (result.num_segments, result.mean) == (4, 0.75)
    assert result.z == pytest.approx(0.87831, abs=1e-5)
    assert result.p == pytest.approx(0.37978, abs=1e-5)


@pytest.mark.parametrize(
    ("a", "b", "segments"),
    [
        pytest.param("CCCC", "CCCC", [], id="no errors"),
        pytest.param("SCCS", "CCCC", [(1, 0), (1, 0)], id="two right words part"),
        pytest.param("SCS", "CCC", [(2, 0)], id="one right word does not"),
        pytest.param("SCCCS", "CCSCC", [(2, 1)], id="right in one system only"),
        pytest.param("ICC", "CC", [(1, 0)], id="inserted first"),
        pytest.param("CCI", "CC", [(1, 0)], id="inserted last"),
        pytest.param("SCICS", "CCCC", [(3, 0)], id="an insertion between right words joins"),
        pytest.param("DDD", "CCC", [(3, 0)], id="a missing hypothesis"),
        pytest.param("III", "", [(3, 0)], id="an empty reference"),
    ],
)
def test_segments_end_where_two_words_are_right_in_both(
    a: str, b: str, segments: list[tuple[int, int]]
) -> None:
    assert error_segments(a, b) == segments


OPERATIONS = st.lists(st.sampled_from("CCSD"), max_size=20)


@settings(deadline=None)
@given(OPERATIONS, st.data())
def test_segments_hold_every_error(a: list[str], data: st.DataObject) -> None:
    b = data.draw(st.lists(st.sampled_from("CCSD"), min_size=len(a), max_size=len(a)))
    segments = error_segments("".join(a), "".join(b))
    assert sum(errors for errors, _ in segments) == sum(letter != "C" for letter in a)
    assert sum(errors for _, errors in segments) == sum(letter != "C" for letter in b)
    assert all(one or other for one, other in segments)


def test_segments_that_do_not_differ_have_no_z() -> None:
    assert matched_pairs([(1, 1), (2, 2)]).p == 1
    assert matched_pairs([(1, 0), (1, 0)]).z is None
    assert matched_pairs([]).p is None


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (5, 0, 2 / 32), (1, 9, 22 / 1024), (4, 4, 1.0), (0, 1, 1.0)],
)
def test_mcnemar_is_the_exact_binomial(only_a: int, only_b: int, p: float) -> None:
    right_a = [True] * only_a + [False] * only_b + [True, False]
    right_b = [False] * only_a + [True] * only_b + [True, False]
    result = mcnemar(right_a, right_b)
    assert (result.only_a_right, result.only_b_right) == (only_a, only_b)
    assert result.p == pytest.approx(p)


def test_the_paired_bootstrap_sees_what_two_intervals_cannot() -> None:
    generator = np.random.default_rng(3)
    lengths = [20] * 200
    errors_b = generator.binomial(20, generator.beta(1, 6, size=200))
    errors_a = errors_b + (generator.random(200) < 0.15)
    result = paired_bootstrap(errors_a.tolist(), lengths, errors_b.tolist(), lengths, unit="u")
    apart = [bootstrap_interval(e.tolist(), lengths, unit="u") for e in (errors_a, errors_b)]
    assert result is not None
    assert apart[0] is not None
    assert apart[1] is not None
    assert apart[0].low < apart[1].high
    assert 0 < result.low < result.difference < result.high
    assert result.p < 0.001
    assert result.detectable < detectable_difference(apart[0])


def test_a_small_paired_bootstrap_is_that_of_all_resamples() -> None:
    errors_a, errors_b, lengths = [3, 1, 1, 2], [1, 0, 2, 2], [5, 5, 8, 9]
    differences = [
        sum(errors_a[i] - errors_b[i] for i in drawn) / sum(lengths[i] for i in drawn)
        for drawn in itertools.product(range(4), repeat=4)
    ]
    result = paired_bootstrap(errors_a, lengths, errors_b, lengths, unit="utterance")
    assert result is not None
    assert result.difference == pytest.approx(100 * 2 / 27)
    assert result.p == pytest.approx(2 * np.mean(np.array(differences) <= 0), abs=0.02)
    assert result.standard_error == pytest.approx(100 * np.std(differences), rel=0.03)


def test_the_paired_bootstrap_of_a_system_with_itself_is_no_difference() -> None:
    result = paired_bootstrap([1, 2, 3], [5, 6, 7], [1, 2, 3], [5, 6, 7], unit="utterance")
    assert result is not None
    assert (result.difference, result.low, result.high, result.p) == (0, 0, 0, 1)


def test_p_values_are_uniform_where_nothing_differs() -> None:
    generator = np.random.default_rng(5)
    small = {"bootstrap": 0, "mapsswe": 0}
    for seed in range(300):
        errors_a, errors_b = generator.binomial(12, 0.15, size=(2, 80))
        paired = paired_bootstrap(
            errors_a.tolist(), [12] * 80, errors_b.tolist(), [12] * 80, unit="u",
            num_resamples=1000, seed=seed,
        )  # fmt: skip
        assert paired is not None
        small["bootstrap"] += paired.p < 0.05
        p = matched_pairs(list(zip(errors_a.tolist(), errors_b.tolist(), strict=True))).p
        assert p is not None
        small["mapsswe"] += p < 0.05
    assert all(0.02 <= count / 300 <= 0.09 for count in small.values())


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


def test_counts_add_up() -> None:
    assert ErrorCounts(1, 2, 3, 4) + ErrorCounts(10, 20, 30, 40) == ErrorCounts(11, 22, 33, 44)


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
