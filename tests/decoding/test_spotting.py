"""Against a brute force over all paths of short random posteriors."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asr.decoding.spotting import Keyword, Spotter, read_keywords
from asr.errors import DataError
from asr.text.tokens import BLANK, TokenTable

SPACED = TokenTable((BLANK, " ", "a", "b"))
DENSE = TokenTable((BLANK, "a", "b", "c"))
MARKED = TokenTable((BLANK, "▁a", "▁b", "b"))


def random_log_probs(rng: np.random.Generator, steps: int, tokens: int) -> NDArray[np.float32]:
    logits = rng.normal(0, 2, (steps, tokens))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def emissions(path: Sequence[int]) -> list[tuple[int, int, int]]:
    """Token, first and last step of each that a path writes."""
    written: list[tuple[int, int, int]] = []
    for step, token in enumerate(path):
        if step and path[step - 1] == token:
            if token:
                written[-1] = (token, written[-1][1], step)
        elif token:
            written.append((token, step, step))
    return written


def ends_of(
    path: Sequence[int], spelling: Sequence[int], table: TokenTable, pause: int
) -> list[tuple[int, int, int]]:
    """Where a path has the keyword: the step in which that is known, its first and last step."""
    is_bound = [
        symbol == " " or (" " not in table.symbols and symbol.startswith("▁"))
        for symbol in table.symbols
    ]
    dense = not any(is_bound)
    written = emissions(path)
    found = []
    for place in range(len(written) - len(spelling) + 1):
        part = written[place : place + len(spelling)]
        if [token for token, _, _ in part] != list(spelling):
            continue
        first, last = part[0][1], part[-1][2]
        if " " in table.symbols and place:
            token, _, before = written[place - 1]
            if table.symbols[token] != " " and first - before - 1 < pause:
                continue
        if dense:
            found.append((part[-1][1], first, part[-1][1]))
            continue
        after = written[place + len(spelling)] if place + len(spelling) < len(written) else None
        known = min(last + pause, len(path))
        if after is None or after[1] > known:
            found.append((known, first, last))
        elif is_bound[after[0]]:
            found.append((after[1], first, last))
        elif after[1] == known and path[known] == 0:
            found.append((known, first, last))
    return found


@pytest.mark.parametrize("pause", [1, 2, 3])
@pytest.mark.parametrize(
    ("table", "spellings"),
    [
        (SPACED, [(2,), (2, 3), (3, 3), (2, 1, 3)]),
        (DENSE, [(1,), (1, 2), (2, 2), (1, 2, 1)]),
        (MARKED, [(1,), (1, 3), (2, 3), (1, 2)]),
    ],
    ids=["spaces", "no bounds", "marks"],
)
def test_probabilities_are_those_of_all_paths(
    table: TokenTable, spellings: list[tuple[int, ...]], pause: int
) -> None:
    rng, steps = np.random.default_rng(pause), 6
    log_probs = random_log_probs(rng, steps, len(table))
    keywords = [Keyword(text=str(s), spellings=(s,)) for s in spellings]
    keywords.append(Keyword(text="either", spellings=(spellings[0], spellings[2])))
    spotter = Spotter(keywords, table, [0.0] * len(keywords), pause)
    expected = np.zeros((steps + 1, len(keywords), 3))
    for path in itertools.product(range(len(table)), repeat=steps):
        probability = np.exp(log_probs[range(steps), path].sum(dtype=np.float64))
        for number, keyword in enumerate(keywords):
            for spelling in keyword.spellings:
                for known, first, last in ends_of(path, spelling, table, pause):
                    expected[known, number] += probability * np.array([1, first, last])
    listening = spotter.listen()
    state = (listening._cells, listening._left, listening._before)
    over = np.concatenate(
        [spotter.advance(log_probs, *state, 0), spotter.rest(listening._cells)[None]]
    )
    np.testing.assert_allclose(over, expected, rtol=1e-4, atol=1e-6)
    assert expected[:, :, 0].max() > 0.01


def test_portions_change_nothing() -> None:
    rng = np.random.default_rng(4)
    log_probs = random_log_probs(rng, 300, len(SPACED))
    keywords = [Keyword(text="ab", spellings=((2, 3),)), Keyword(text="b", spellings=((3,),))]
    spotter = Spotter(keywords, SPACED, [1e-4, 1e-3], 3)
    whole = spotter.spot(log_probs)
    assert len(whole) > 10
    listening, hits = spotter.listen(), []
    for part in np.split(log_probs, sorted(rng.integers(0, 300, 40).tolist())):
        hits += listening.accept(part)
    hits += listening.finish()
    assert sorted(hits, key=lambda hit: (hit.start, hit.keyword)) == whole


def spoken(text: str, table: TokenTable, *, certainty: float = 0.9) -> NDArray[np.float32]:
    """A token every fourth step, of which the network is so sure, and blanks between."""
    rows = np.full((4 * len(text) + 4, len(table)), (1 - certainty) / (len(table) - 1))
    rows[:, 0] = certainty
    for place, character in enumerate(text):
        row = rows[4 * place + 2]
        row[0], row[table.symbols.index(character)] = row[-1], certainty
        row[row == row.min()] = (1 - certainty) / (len(table) - 1)
    return np.log(rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def test_hits_are_where_a_word_stands_by_itself(tmp_path: Path) -> None:
    table = TokenTable((BLANK, " ", *"abcdeghilnprstu"))
    path = tmp_path / "keywords.txt"
    path.write_text("# of lights\nRed\n\ntu  rn\nred\nli\n".replace("# of lights\n", ""))
    keywords = read_keywords(path, table)
    assert [keyword.text for keyword in keywords] == ["Red", "tu rn", "red", "li"]
    spotter = Spotter(keywords, table, [0.5] * 4, 5)
    hits = spotter.spot(spoken("red shared redder red li tu rn li", table, certainty=0.999))
    found = [(keywords[hit.keyword].text, round(hit.start), round(hit.end)) for hit in hits]
    # A token is said in its third step of four.
    expected = [
        ("Red", 0),
        ("red", 0),
        ("Red", 18),
        ("red", 18),
        ("li", 22),
        ("tu rn", 25),
        ("li", 31),
    ]
    lengths = {"Red": 3, "red": 3, "li": 2, "tu rn": 5}
    assert found == [
        (text, 4 * place + 2, 4 * (place + lengths[text] - 1) + 3) for text, place in expected
    ]
    assert all(0.9 < hit.score <= 1 for hit in hits)


def test_what_cannot_be_spelled_is_said_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "keywords.txt"
    path.write_text("ab\n\nzwölf b\n", encoding="utf-8")
    message = r"keywords\.txt:3: 'zwölf b' cannot be spelled with the model's tokens: .*'z'"
    with pytest.raises(DataError, match=message) as caught:
        read_keywords(path, SPACED)
    assert "transcripts" not in str(caught.value)  # keywords are none
    with pytest.raises(DataError, match=r"dev set: .*; clean the transcripts or train on them"):
        SPACED.check(["zwölf b"], "dev set")
    path.write_text("\n")
    with pytest.raises(DataError, match="there is no keyword in it"):
        read_keywords(path, SPACED)
    phones = TokenTable((BLANK, "A", "B"), pronunciations={"ab": [(1, 2), (2,)], "b": [(2,)]})
    path.write_text("ab b\n")
    (keyword,) = read_keywords(path, phones)
    assert keyword.spellings == ((1, 2, 2), (2, 2))
    path.write_text("ab c\n")
    with pytest.raises(DataError, match=r":1: 'ab c' cannot be spelled .* without a pronunciation"):
        read_keywords(path, phones)
