import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.scoring import statistics
from asr.scoring.statistics import (
    bootstrap_interval,
    detectable_difference,
    error_segments,
    matched_pairs,
    mcnemar,
    paired_bootstrap,
    resampled_sums,
)


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


def test_what_is_not_asked_for_is_what_the_documents_say() -> None:
    errors, lengths = [*range(12)], [20] * 12
    asked = {"num_resamples": 10_000, "seed": 0, "confidence": 0.95}
    assert bootstrap_interval(errors, lengths, unit="u") == bootstrap_interval(
        errors, lengths, unit="u", **asked
    )
    pair = (errors, lengths, errors[::-1], lengths)
    assert paired_bootstrap(*pair, unit="u") == paired_bootstrap(*pair, unit="u", **asked)


def test_resamples_come_in_chunks_that_are_as_many_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "_CHUNK_VALUES", 13)
    counts = np.array([[1, 2, 3], [4, 5, 6]])
    chunks = [*resampled_sums(counts, num_resamples=10, seed=1)]
    assert [len(chunk) for chunk in chunks] == [4, 4, 2]
    monkeypatch.setattr(statistics, "_CHUNK_VALUES", 2)
    chunks = [*resampled_sums(counts, num_resamples=3, seed=1)]
    assert [len(chunk) for chunk in chunks] == [1, 1, 1]


def test_a_paired_interval_and_its_p_are_those_of_all_resamples_with_words() -> None:
    # Alternates leave a unit words in one system alone.
    errors_a, errors_b = [1, 0, 1, 3], [0, 1, 0, 1]
    lengths_a, lengths_b = [1, 2, 0, 8], [1, 0, 2, 9]
    drawn = [
        d
        for d in itertools.product(range(4), repeat=4)
        if sum(lengths_a[i] for i in d) and sum(lengths_b[i] for i in d)
    ]
    differences = [
        100 * sum(errors_a[i] for i in d) / sum(lengths_a[i] for i in d)
        - 100 * sum(errors_b[i] for i in d) / sum(lengths_b[i] for i in d)
        for d in drawn
    ]
    result = paired_bootstrap(
        errors_a, lengths_a, errors_b, lengths_b, unit="u", confidence=0.7, num_resamples=40_000
    )
    assert result is not None
    low, high = np.quantile(differences, [0.15, 0.85], method="inverted_cdf")
    assert (result.low, result.high) == pytest.approx((low, high))
    assert result.confidence == 0.7
    assert result.standard_error == pytest.approx(np.std(differences), rel=0.03)
    tail = min(np.mean(np.array(differences) <= 0), np.mean(np.array(differences) >= 0))
    assert result.p == pytest.approx(2 * tail, abs=0.01)


def test_p_counts_one_more_on_both_sides() -> None:
    result = paired_bootstrap([5, 5], [9, 9], [1, 1], [9, 9], unit="u", num_resamples=99)
    assert result is not None
    assert result.p == 2 / 100


@pytest.mark.parametrize(
    ("lengths_a", "lengths_b", "speaks"),
    [([1, 1], [1, 1], True), ([1, 1], [1, 0], False), ([1, 0], [1, 1], False)],
)
def test_two_units_with_words_in_both_systems_say_something(
    lengths_a: list[int], lengths_b: list[int], speaks: bool
) -> None:
    result = paired_bootstrap([1, 0], lengths_a, [0, 0], lengths_b, unit="u")
    assert (result is not None) is speaks


def test_the_smallest_difference_is_shown_in_four_of_five_cases() -> None:
    # 1.960 standard errors for 5 % significance, 0.842 for 80 % power.
    paired = paired_bootstrap([3, 1, 2], [9, 8, 7], [1, 1, 2], [9, 8, 7], unit="u")
    interval = bootstrap_interval([3, 1, 2], [9, 8, 7], unit="u")
    assert paired is not None
    assert interval is not None
    assert paired.detectable == pytest.approx(2.802 * paired.standard_error)
    assert detectable_difference(interval) == pytest.approx(
        2.802 * 2**0.5 * interval.standard_error
    )
