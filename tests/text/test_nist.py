import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from asr.scoring.errors import score
from asr.scoring.transcripts import read_pair

PROGRAM = [shutil.which("sclite")] if shutil.which("sclite") else ["sctk", "sclite"]


def hypotheses(folder: Path, segments: str, words: str, **options: str) -> list[str]:
    folder.joinpath("r.stm").write_text(segments)
    folder.joinpath("h.ctm").write_text(words)
    pair = read_pair(folder / "r.stm", folder / "h.ctm", **options)  # type: ignore[arg-type]
    return [str(text) for text in pair.hypotheses.values()]


# What belongs to which was seen in sclite 2.10's alignments.
WORDS = "F A .5 .2 a\nF A 1 .2 b\nF A 3.5 .2 d\nF A 4.1 .2 c\nF A 5.2 .2 e\nF A 8.2 .2 f\n"


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        pytest.param("F A s 0 5 x\nF A t 3 6 x\nF A s 8 9 x\n", ["a b d c", "e", "f"], id="ends"),
        pytest.param(
            "F A s 0 7 x\nF A t 3 5 x\nF A s 8 9 x\n", ["a b d c e", "", "f"], id="within"
        ),
        pytest.param("F A s 0 5 x\nF A t 0 3 x\n", ["a b d c", "e f"], id="longer first"),
        pytest.param("F A t 0 3 x\nF A s 0 5 x\n", ["a b", "d c e f"], id="shorter first"),
    ],
)
def test_a_word_in_two_segments_is_the_first_ones(
    segments: str, said: list[str], tmp_path: Path
) -> None:
    assert hypotheses(tmp_path, segments, WORDS) == said
    notes = read_pair(tmp_path / "r.stm", tmp_path / "h.ctm").notes
    assert len(notes) == 1
    assert re.match(r"1 segments begin before .* \(first: .*r.stm:2\)", notes[0])


def test_a_short_word_inside_of_a_long_one_stays_with_it(tmp_path: Path) -> None:
    segments = "F A s 0 3 x\nF A t 3 9 x\n"
    assert hypotheses(tmp_path, segments, "F A 2 4 a\nF A 2.5 .1 b\n") == ["", "a b"]


def test_the_nearest_segment_may_be_one_that_another_was_inside_of(tmp_path: Path) -> None:
    segments = "F A s 0 7 x\nF A t 3 5 x\nF A s 9 10 x\n"
    assert hypotheses(tmp_path, segments, "F A 7.2 .2 a\n", gaps="nearest") == ["a", "", ""]
    assert hypotheses(tmp_path, segments, "F A 8.6 .2 a\n", gaps="nearest") == ["", "", "a"]


def test_a_middle_on_a_segments_end_falls_as_in_sclite(tmp_path: Path) -> None:
    """7.3 in 32 bits is a little more, and 4.5 is itself."""
    segments = "F A s 0 7.30 x\nF A s 7.30 9 x\n"
    assert hypotheses(tmp_path, segments, "F A 7.25 0.10 a\n") == ["a", ""]
    segments = "F A s 0 4.50 x\nF A s 4.50 9 x\n"
    assert hypotheses(tmp_path, segments, "F A 4.45 0.10 a\n") == ["", "a"]


@pytest.mark.skipif(
    not (shutil.which("sclite") or shutil.which("sctk")), reason="sclite is not installed"
)
def test_segments_have_the_errors_that_sclite_counts(tmp_path: Path) -> None:
    generator = random.Random(5)
    segments, words = [], []
    for number in range(200):
        name, begin, before = f"r{number:03d}", 0.0, 0.0
        for _ in range(generator.randint(1, 5)):
            begin = max(before + 0.01, round(begin + generator.choice([-1.1, -0.4, 0, 0, 0.3]), 2))
            end, before = round(begin + generator.choice([0.5, 1, 2, 4]), 2), begin
            text = " ".join(generator.choices("abcd", k=generator.randint(0, 5)))
            segments.append(f"{name} A {name} {begin:.2f} {end:.2f} {text}\n")
            begin = end
        time = 0.0
        while time < end + 1:
            time += generator.choice([0.05, 0.2, 0.5, 1])
            length = generator.choice([0.05, 0.1, 0.3])
            words.append(f"{name} A {time:.2f} {length:.2f} {generator.choice('abcd')}\n")
            time += length
    (tmp_path / "r.stm").write_text("".join(segments))
    (tmp_path / "h.ctm").write_text("".join(words))
    files = ["-r", tmp_path / "r.stm", "stm", "-h", tmp_path / "h.ctm", "ctm"]
    listing = subprocess.run(
        [str(part) for part in (*PROGRAM, *files, "-o", "pralign", "stdout")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.findall(r"^Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)$", listing, re.MULTILINE)
    theirs = [tuple(map(int, row)) for row in found]
    pair = read_pair(tmp_path / "r.stm", tmp_path / "h.ctm")
    ours = [
        utterance.words for utterance in score(pair.references.texts, pair.hypotheses).utterances
    ]
    assert len(theirs) == len(ours) == len(segments)
    for (_, *wrong), words_of in zip(theirs, ours, strict=True):
        # sclite pays 4 for a substitution and 3 for the rest: it may take more, cheaper errors.
        substituted, *others = wrong
        assert words_of.errors <= sum(wrong)
        assert words_of.errors == sum(wrong) or 4 * substituted + 3 * sum(others) <= (
            4 * words_of.substitutions + 3 * (words_of.deletions + words_of.insertions)
        )
