import functools
import itertools
import random
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DataError
from asr.scoring.errors import (
    ErrorCounts,
    Score,
    count_errors,
    kaldi_lines,
    score,
    word_error_interval,
)
from asr.text.alternates import (
    Alternates,
    Delimiter,
    choose_wording,
    choose_wordings,
    parse_alternates,
)

WORDS = st.lists(st.sampled_from(["a", "b", "c", "dd"]), max_size=9)
TEXTS = WORDS.map(" ".join)
TEST_SETS = st.dictionaries(st.text("uvw", min_size=1), st.tuples(TEXTS, TEXTS), min_size=1)


def fewest_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    @functools.cache
    def cost(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(
            cost(i - 1, j) + 1,
            cost(i, j - 1) + 1,
            cost(i - 1, j - 1) + (reference[i - 1] != hypothesis[j - 1]),
        )

    return cost(len(reference), len(hypothesis))


def wordings(parts: Sequence[str | Delimiter]) -> list[list[str]]:
    """Every wording, written out; for alternates inside alternates, too."""

    def sequence(position: int) -> tuple[list[list[str]], int]:
        found: list[list[str]] = [[]]
        while position < len(parts) and parts[position] not in (Delimiter.OR, Delimiter.CLOSE):
            part = parts[position]
            if part is Delimiter.OPEN:
                choices: list[list[str]] = []
                while parts[position] is not Delimiter.CLOSE:
                    choice, position = sequence(position + 1)
                    choices += choice
                position += 1
            else:
                choices = [str(part).split()]
                position += 1
            found = [one + other for one, other in itertools.product(found, choices)]
        return found, position

    return sequence(0)[0]


def score_pairs(pairs: dict[str, tuple[str, str]]) -> Score:
    return score({i: r for i, (r, _) in pairs.items()}, {i: h for i, (_, h) in pairs.items()})


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [("", "", 0), ("kitten", "sitting", 3), ("ab", "ba", 2), ("", "abc", 3)],
)
def test_the_reference_edit_distance_is_right(reference: str, hypothesis: str, errors: int) -> None:
    assert fewest_errors(reference, hypothesis) == errors


@settings(deadline=None)
@given(WORDS, WORDS)
def test_errors_are_the_fewest_possible(reference: list[str], hypothesis: list[str]) -> None:
    counts = count_errors(reference, hypothesis)
    assert counts.errors == fewest_errors(reference, hypothesis)
    assert counts.reference_length == len(reference)
    assert counts.reference_length + counts.insertions - counts.deletions == len(hypothesis)


@settings(deadline=None)
@given(WORDS, WORDS)
def test_swapping_the_sides_swaps_insertions_and_deletions(
    one: list[str], other: list[str]
) -> None:
    forth, back = count_errors(one, other), count_errors(other, one)
    assert forth.errors == back.errors
    assert forth.insertions - forth.deletions == back.deletions - back.insertions


@settings(deadline=None)
@given(TEST_SETS)
def test_counts_of_utterances_add_up_to_those_of_the_whole(
    pairs: dict[str, tuple[str, str]],
) -> None:
    scored = score_pairs(pairs)
    assert scored.words.errors == sum(
        fewest_errors(r.split(), h.split()) for r, h in pairs.values()
    )
    assert scored.characters.errors == sum(fewest_errors(r, h) for r, h in pairs.values())
    assert scored.num_wrong == sum(r.split() != h.split() for r, h in pairs.values())


@settings(deadline=None)
@given(TEST_SETS)
def test_a_score_of_references_against_themselves_is_nothing(
    pairs: dict[str, tuple[str, str]],
) -> None:
    references = {utterance_id: reference for utterance_id, (reference, _) in pairs.items()}
    scored = score(references, references)
    assert scored.words.errors == scored.characters.errors == scored.num_wrong == 0


@settings(deadline=None)
@given(TEST_SETS)
def test_pairs_spell_out_both_sides(pairs: dict[str, tuple[str, str]]) -> None:
    for utterance in score_pairs(pairs).utterances:
        rows = list(utterance.pairs())
        assert [r for _, r, _ in rows if r is not None] == utterance.reference.split()
        assert [h for _, _, h in rows if h is not None] == (utterance.hypothesis or "").split()
        assert all((letter == "C") == (r == h) for letter, r, h in rows)


@settings(deadline=None)
@given(TEST_SETS, st.data())
def test_removing_a_hypothesis_makes_deletions_of_its_references_words(
    pairs: dict[str, tuple[str, str]], data: st.DataObject
) -> None:
    removed = data.draw(st.sampled_from(sorted(pairs)))
    references = {utterance_id: reference for utterance_id, (reference, _) in pairs.items()}
    hypotheses = {utterance_id: said for utterance_id, (_, said) in pairs.items()}
    before = score(references, hypotheses)
    after = score(references, {i: said for i, said in hypotheses.items() if i != removed})
    counts = count_errors(references[removed].split(), hypotheses[removed].split())
    num_words = len(references[removed].split())
    assert after.missing == (removed,)
    assert after.words.deletions == before.words.deletions - counts.deletions + num_words
    assert after.words.insertions == before.words.insertions - counts.insertions
    assert after.words.substitutions == before.words.substitutions - counts.substitutions
    assert after.words.reference_length == before.words.reference_length


def test_an_empty_hypothesis_is_a_hypothesis() -> None:
    scored = score({"u": "a b"}, {"u": ""})
    assert scored.missing == ()
    assert scored.words == ErrorCounts(0, 2, 0, 2)


def test_empty_references_are_counted_apart_and_in_the_whole() -> None:
    scored = score({"u": "a b", "e": " ", "f": ""}, {"u": "a b", "e": "x y z", "f": ""})
    assert scored.words == ErrorCounts(0, 0, 3, 2)
    assert scored.words.rate == 150
    assert scored.num_empty == 2
    assert scored.empty == ErrorCounts(0, 0, 3, 0)


def test_a_rate_over_nothing_is_none_and_printed_as_kaldi_does() -> None:
    scored = score({"u": ""}, {"u": "x"})
    assert scored.words.rate is None
    assert kaldi_lines(scored)[0] == "%WER nan [ 1 / 0, 1 ins, 0 del, 0 sub ]"


def test_a_rate_is_not_clipped() -> None:
    scored = score({"u": "a"}, {"u": " ".join("x" * 50)})
    assert scored.words.rate == 5000


def test_kaldis_lines_are_verbatim() -> None:
    scored = score({"u": "a b c", "v": "d"}, {"u": "a x c y"})
    lines = kaldi_lines(scored)
    assert lines[0] == "%WER 75.00 [ 3 / 4, 1 ins, 1 del, 1 sub ] [PARTIAL]"
    assert lines[1] == "%SER 100.00 [ 2 / 2 ]"
    assert re.fullmatch(
        r"WER 75\.00 % \[\d+\.\d\d, \d+\.\d\d\] \(95 %, bootstrap by utterance, 2 utterances\)",
        lines[2],
    )
    assert lines[3] == "Scored 2 sentences, 1 not present in hyp."
    assert lines[4] == "%CER 66.67 [ 4 / 6, 2 ins, 1 del, 1 sub ]"


def test_an_extra_hypothesis_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"1 hypothesis \(v\) without a reference"):
        score({"u": "a"}, {"u": "a", "v": "b"})


def test_an_extra_hypothesis_is_left_out_by_permission() -> None:
    scored = score({"u": "a"}, {"u": "a", "v": "b"}, allow_extra=True)
    assert scored.extra == ("v",)
    assert scored.words.errors == 0


def test_no_references_are_refused() -> None:
    with pytest.raises(DataError, match="no references"):
        score({}, {})


def test_speakers_are_resampled_where_all_are_known() -> None:
    texts = {"a": "x y", "b": "x y", "c": "x y"}
    some = score(texts, texts, speakers={"a": "s", "b": "t"})
    every = score(texts, texts, speakers={"a": "s", "b": "t", "c": "t"})
    assert not some.by_speaker
    assert "bootstrap by speaker, 2 speakers" in kaldi_lines(every)[2]


def test_the_normalizer_is_applied_to_both_sides_and_to_alternates() -> None:
    reference = parse_alternates("X { Y / Z }", "here")
    scored = score({"u": reference}, {"u": "x Z"}, normalizer=str.lower)
    assert scored.utterances[0].reference == "x z"
    assert scored.words.errors == 0


def test_long_and_lopsided_utterances_are_scored() -> None:
    generator = random.Random(1)
    reference = [generator.choice("abcdefgh") for _ in range(20_000)]
    hypothesis = [word for word in reference if generator.random() > 0.1]
    assert count_errors(reference, hypothesis).errors == len(reference) - len(hypothesis)
    assert count_errors(reference[:400], reference * 1).insertions == 19_600


@pytest.mark.parametrize(
    ("text", "hypothesis", "chosen"),
    [
        pytest.param("{ a / b }", "b", "b", id="the wording that was said"),
        pytest.param("x { a / @ } y", "x y", "x y", id="nothing"),
        pytest.param("x { a b / c } y", "x c y", "x c y", id="of different lengths"),
        pytest.param("{ a / { b / c } d }", "c d", "c d", id="alternates within alternates"),
        pytest.param("{ a / b }", "z", "a", id="the first of equal ones"),
        pytest.param("{ a / b / a c }", "a c", "a c", id="the longest that was said"),
        pytest.param("{ x / a y }", "a", "a y", id="as many errors but more words right"),
    ],
)
def test_the_nearest_wording_is_chosen(text: str, hypothesis: str, chosen: str) -> None:
    reference = parse_alternates(text, "here")
    assert isinstance(reference, Alternates)
    assert choose_wording(reference, hypothesis.split(), "u") == chosen.split()


ALTERNATES = st.recursive(
    st.sampled_from(["a", "b", "c", "@", "a b"]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(" ".join)
        | st.lists(inner, min_size=2, max_size=3).map(lambda ways: f"{{ {' / '.join(ways)} }}")
    ),
    max_leaves=7,
)


@settings(deadline=None)
@given(ALTERNATES, WORDS)
def test_no_wording_has_fewer_errors_than_the_chosen_one(text: str, hypothesis: list[str]) -> None:
    reference = parse_alternates(text, "here")
    if isinstance(reference, str):
        return
    chosen = choose_wording(reference, hypothesis, "u")
    every = wordings(reference.parts)
    assert chosen in every
    assert fewest_errors(chosen, hypothesis) == min(fewest_errors(w, hypothesis) for w in every)


@settings(deadline=None, max_examples=60)
@given(ALTERNATES, ALTERNATES)
def test_no_pair_of_wordings_has_fewer_errors_than_the_chosen_one(text: str, said: str) -> None:
    reference, hypothesis = (parse_alternates(side, "here") for side in (text, said))
    if isinstance(hypothesis, str):
        return
    chosen = choose_wordings(reference, hypothesis, "u")
    parts = (reference,) if isinstance(reference, str) else reference.parts
    pairs = [(w, h) for w in wordings(parts) for h in wordings(hypothesis.parts)]
    assert chosen in pairs
    assert fewest_errors(*chosen) == min(fewest_errors(w, h) for w, h in pairs)


# Left: a reference; right: what is scored against the hypothesis, as sclite 2.4.11 showed for each.
@pytest.mark.parametrize(
    ("text", "hypothesis", "chosen"),
    [
        ("{the / this} is the tea", "this is the tea", "this is the tea"),
        ("{ the/this } is", "this is", "this is"),
        ("{ fi /@ } is", "is", "is"),
        ("{ a / b }y is", "b y is", "b y is"),
        ("{ a/{b/c} d } x", "c d x", "c d x"),
    ],
)
def test_marks_need_no_white_space(text: str, hypothesis: str, chosen: str) -> None:
    reference = parse_alternates(text, "here")
    assert isinstance(reference, Alternates)
    assert choose_wording(reference, hypothesis.split(), "u") == chosen.split()


def test_what_is_said_outside_of_braces_is_read_as_sclite_reads_it() -> None:
    assert parse_alternates("a / @ b", "here") == "a / b"
    assert parse_alternates("and/or we", "here") == "and/or we"
    assert parse_alternates("word;tag is ;", "here") == "word is ;"
    assert parse_alternates(r"b\;b;one\;tag;two c", "here") == "b;b c"


def test_a_long_word_without_braces_takes_no_time() -> None:
    begin = time.process_time()
    assert parse_alternates("a" * 200_000, "here") == "a" * 200_000
    assert time.process_time() - begin < 2


def test_a_brace_inside_of_a_word_is_refused() -> None:
    with pytest.raises(DataError, match=r"here: a brace inside of the word 'x\{'"):
        parse_alternates("x{ a / b } is", "here")


@pytest.mark.parametrize("text", ["{ a / b", "a }", "} {"])
def test_braces_that_do_not_match_are_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"^here: "):
        parse_alternates(text, "here")


def test_alternates_too_long_to_choose_are_refused_by_name() -> None:
    reference = parse_alternates("{ a / b } " * 6000, "here")
    with pytest.raises(DataError, match=r"utterance u: .* split it"):
        score({"u": reference}, {"u": "a " * 6000})


def run_sclite(references: dict[str, str], hypotheses: dict[str, str], folder: Path) -> str:
    program = [shutil.which("sclite")] if shutil.which("sclite") else ["sctk", "sclite"]
    for name, texts in (("ref", references), ("hyp", hypotheses)):
        lines = [f"{text} ({utterance_id})\n" for utterance_id, text in texts.items()]
        (folder / f"{name}.trn").write_text("".join(lines), encoding="utf-8")
    command = [*program, "-s", "-i", "rm", "-o", "pralign", "stdout"]
    files = ["-r", str(folder / "ref.trn"), "trn", "-h", str(folder / "hyp.trn"), "trn"]
    return subprocess.run(
        [str(part) for part in (*command, *files)], check=True, capture_output=True, text=True
    ).stdout


def sclite_errors(listing: str) -> dict[str, tuple[int, int]]:
    """Errors and cost in sclite's weights (4 a substitution, 3 any other), by utterance."""
    found = re.findall(
        r"id: \((.*?)\)\n(?:.*\n)*?Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", listing
    )
    return {
        utterance_id: (int(s) + int(d) + int(i), 4 * int(s) + 3 * (int(d) + int(i)))
        for utterance_id, _, s, d, i in found
    }


@pytest.mark.skipif(
    not (shutil.which("sclite") or shutil.which("sctk")), reason="sclite is not installed"
)
def test_errors_are_sclites_wherever_its_weights_find_the_fewest(tmp_path: Path) -> None:
    generator = random.Random(7)
    pairs = {}
    for number in range(1000):
        reference = [generator.choice("abcde") for _ in range(generator.randint(1, 12))]
        said = [w if generator.random() > 0.3 else generator.choice("abcde") for w in reference]
        said = [w for w in said if generator.random() > 0.2]
        for _ in range(generator.randint(0, 3)):
            said.insert(generator.randint(0, len(said)), generator.choice("abcde"))
        pairs[f"spk-{number:04d}"] = (" ".join(reference), " ".join(said))
    ours = {utterance.id: utterance for utterance in score_pairs(pairs).utterances}
    theirs = sclite_errors(
        run_sclite(
            {i: r for i, (r, _) in pairs.items()}, {i: h for i, (_, h) in pairs.items()}, tmp_path
        )
    )
    assert theirs.keys() == pairs.keys()
    different = [i for i, (errors, _) in theirs.items() if errors != ours[i].words.errors]
    for utterance_id in different:
        # sclite pays 4 for a substitution and 3 for the rest: it may take more, cheaper errors.
        words = ours[utterance_id].words
        errors, cost = theirs[utterance_id]
        assert errors > words.errors
        assert cost <= 4 * words.substitutions + 3 * (words.deletions + words.insertions)
    assert 0 < len(different) < 10


def test_speakers_are_the_units_of_a_scores_interval() -> None:
    texts = {f"u{number}": "a b c d" for number in range(12)}
    said = {name: "a b c x" if number % 3 else "a" for number, name in enumerate(texts)}
    speakers = {name: f"s{number % 4}" for number, name in enumerate(texts)}
    interval = word_error_interval(score(texts, said, speakers=speakers))
    assert interval is not None
    assert (interval.unit, interval.num_units) == ("speaker", 4)


def test_counts_add_up() -> None:
    assert ErrorCounts(1, 2, 3, 4) + ErrorCounts(10, 20, 30, 40) == ErrorCounts(11, 22, 33, 44)


@pytest.mark.parametrize(("count", "named"), [(5, "u3, u4)"), (6, "u3, u4 and 1 more)")])
def test_an_error_names_five_ids(count: int, named: str) -> None:
    said = {f"u{number}": "" for number in range(count)}
    with pytest.raises(DataError, match=rf"{count} hypotheses \(u0, .*{re.escape(named)}"):
        score({"a": ""}, said)


def test_a_score_has_speakers_if_two_or_more_are_known_of_all() -> None:
    texts = {"u": "a", "v": "b"}
    assert score(texts, texts, speakers={"u": "s", "v": "t"}).by_speaker
    assert not score(texts, texts, speakers={"u": "s", "v": "s"}).by_speaker
    assert not score(texts, texts, speakers={"u": "s"}).by_speaker
