from typing import Any

import numpy as np
import pytest

from asr.scoring.breakdown import (
    most_common,
    operation_counts,
    spread,
    tables,
    word_counts,
    worst_first,
)
from asr.scoring.errors import ErrorCounts, score
from tests.scoring.test_report import REFERENCES, SCORE


def test_groups_add_up_to_the_whole() -> None:
    columns = {
        utterance_id: {"duration": number * 1.7, "set": "even" if number % 2 else "odd"}
        for number, utterance_id in enumerate(REFERENCES)
    }
    found = {table.column: table for table in tables(SCORE, columns)}
    assert set(found) == {"speaker", "duration", "set", "place"}
    for name, table in found.items():
        whole = sum((group.words for group in table.groups), ErrorCounts())
        assert whole == SCORE.words, name
    speakers = {group.name: group for group in found["speaker"].groups}
    assert speakers["s"].words == ErrorCounts(1, 0, 2, 5)
    assert (speakers["t"].num_utterances, speakers["t"].num_wrong) == (3, 1)
    assert spread(found["speaker"]) == pytest.approx(
        {
            "mean": (60 + 200 / 3) / 2,
            "sd": (200 / 3 - 60) / np.sqrt(2),
            "median": (60 + 200 / 3) / 2,
        }
    )


def test_the_place_of_an_insertion_is_that_of_the_word_after_it() -> None:
    scored = score({"u": "a b c d e"}, {"u": "a b x c d e y"})
    (place,) = tables(scored, {})
    assert [group.words.errors for group in place.groups] == [0, 0, 1, 0, 1]
    assert [group.words.insertions for group in place.groups] == [0, 0, 1, 0, 1]
    assert [group.words.reference_length for group in place.groups] == [1, 1, 1, 1, 1]


def test_a_column_that_does_not_divide_the_test_set_gives_no_table() -> None:
    columns = {utterance_id: {"lang": "en", "hash": utterance_id} for utterance_id in REFERENCES}
    many = {f"u{number}": "a" for number in range(30)}
    assert "lang" not in {table.column for table in tables(SCORE, columns)}
    names = {name: {"hash": name} for name in many}
    assert "hash" not in {table.column for table in tables(score(many, many), names)}


def test_words_and_confusions_are_counted() -> None:
    operations = operation_counts(SCORE)
    assert most_common(operations, "S") == [("b", "x", 1)]
    assert most_common(operations, "I") == [("*", "y", 2)]
    assert most_common(operations, "D") == [("d", "*", 1), ("e", "*", 1)]
    b = next(word for word in word_counts(operations) if word.word == "b")
    assert (b.correct, b.errors, b.num_reference, b.num_hypothesis) == (1, 1, 2, 1)
    assert [u.id for u in worst_first(SCORE.utterances)][:3] == ["s-2", "t-3", "s-1"]


def sizes(column: str, columns: dict[str, dict[str, Any]], *ids: str) -> dict[str, int]:
    """Groups by a column, and how many utterances each has; `ids` have none."""
    texts = dict.fromkeys([*columns, *ids], "a")
    chosen = [table for table in tables(score(texts, texts), columns) if table.column == column]
    return {group.name: group.num_utterances for table in chosen for group in table.groups}


def test_a_duration_on_an_edge_belongs_below_it() -> None:
    seconds = [0.5, 1, 1.5, 2, 5, 10, 11, 20, 30, 30.1, 99]
    columns = {f"u{number}": {"duration": each} for number, each in enumerate(seconds)}
    assert sizes("duration", columns, "x") == {
        "up to 1 s": 2, "1 to 2 s": 2, "2 to 5 s": 1, "5 to 10 s": 1, "10 to 20 s": 2,
        "20 to 30 s": 1, "over 30 s": 2, "(unknown)": 1,
    }  # fmt: skip


def test_only_columns_with_a_few_names_or_whole_numbers_divide_a_test_set() -> None:
    columns: dict[str, dict[str, Any]] = {
        "u": {"room": 1, "flag": True, "snr": 1.5, "tags": ["x"], "offset": 1, "speaker": "s"},
        "v": {"room": 2, "flag": False, "snr": 2.5, "tags": ["y"], "offset": 2, "speaker": "t"},
        "w": {"room": 2},
    }
    texts = dict.fromkeys(columns, "a")
    assert [table.column for table in tables(score(texts, texts), columns)] == [
        "flag", "room", "place",
    ]  # fmt: skip
    assert sizes("flag", columns) == {"True": 1, "False": 1, "(none)": 1}


@pytest.mark.parametrize(("count", "divides"), [(1, False), (2, True), (20, True), (21, False)])
def test_a_column_divides_by_two_to_twenty_values(count: int, divides: bool) -> None:
    columns = {f"u{number}": {"room": f"r{number % count}"} for number in range(42)}
    assert bool(sizes("room", columns)) is divides


def test_places_are_fifths_of_the_reference() -> None:
    text = "a b c d e f g h i j k l"
    (place,) = tables(score({"u": text, "v": ""}, {"u": text, "v": "x"}), {})
    assert [group.words.reference_length for group in place.groups] == [3, 2, 3, 2, 2]
    assert [group.num_utterances for group in place.groups] == [2] * 5
    assert [group.num_wrong for group in place.groups] == [0] * 5
    (place,) = tables(score({"u": text, "v": text}, {"u": "x" + text, "v": "x y" + text[3:]}), {})
    assert [group.num_wrong for group in place.groups] == [2, 0, 0, 0, 0]
    assert tables(score({"v": ""}, {"v": "x"}), {}) == []


def test_most_errors_come_first_then_the_alphabet() -> None:
    scored = score(
        {"u": "a b c d", "v": "a b", "w": "a b c", "x": "a"},
        {"u": "a b d d", "v": "b b", "w": "a c c", "x": "a"},
    )
    operations = operation_counts(scored)
    assert most_common(operations, "S") == [("a", "b", 1), ("b", "c", 1), ("c", "d", 1)]
    equal = {("S", "b", "x"): 1, ("S", "a", "z"): 1, ("S", "a", "y"): 1, ("S", "c", "a"): 2}
    assert most_common(equal, "S") == [("c", "a", 2), ("a", "y", 1), ("a", "z", 1), ("b", "x", 1)]
    assert most_common(operations, "S", 2) == [("a", "b", 1), ("b", "c", 1)]
    assert [(w.word, w.errors) for w in word_counts(operations)] == [
        ("b", 2), ("c", 2), ("a", 1), ("d", 1),
    ]  # fmt: skip
    assert [u.id for u in worst_first(scored.utterances)] == ["v", "w", "u", "x"]


def test_the_spread_is_of_speakers_with_words() -> None:
    texts = {"u": "a b", "v": "a b", "w": ""}
    speakers = {"u": "s", "v": "t", "w": "x"}
    said = {"u": "a", "v": "a b", "w": ""}
    (table, _) = tables(score(texts, said, speakers=speakers), {})
    assert spread(table) == pytest.approx({"mean": 25, "sd": 50 / np.sqrt(2), "median": 25})
    (alone, _) = tables(score({"u": "a b"}, {"u": "a"}, speakers={"u": "s"}), {})
    assert spread(alone) is None
