"""Scores the cases of NIST's SCTK with this scorer and compares with what sclite gave.

    python tools/sctk.py DIR

`DIR` is a checkout of SCTK, or its folder `src/sclite/testdata`. Nothing is fetched, run or written
there: `tsclite.sh` is read for the cases, `base` for what sclite counted. What needs more than this
scorer does (fragments, optional words, characters, inferred words, times of references, other
encodings than UTF-8) is named and left out. Exit code 1 if counts differ.
"""

import argparse
import re
import shlex
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from asr import scoring  # noqa: E402
from asr.errors import AsrError  # noqa: E402

PLAIN = ("-r", "-h", "-i", "-o", "-O", "-f", "-n", "-e")  # reading, writing, and UTF-8
READ = ("trn", "stm", "ctm")
Counts = tuple[int, int, int, int]
"""Correct, substitutions, deletions, insertions."""


@dataclass(frozen=True)
class Case:
    """What sclite was run with."""

    name: str
    options: dict[str, list[str]]

    @property
    def left_out(self) -> str | None:
        """Why this scorer does not do it."""
        more = sorted(self.options.keys() - set(PLAIN))
        if more:
            return f"needs {', '.join(more)}"
        if "-r" not in self.options or "-h" not in self.options:
            return "has no files of its own"
        if self.options.get("-e", ["utf-8"])[0] != "utf-8":
            return f"encoding {self.options['-e'][0]}"
        kinds = [self.kind(side) for side in ("-r", "-h")]
        if kinds[0] == "ctm" or not set(kinds) <= set(READ):
            return f"{kinds[0]} against {kinds[1]}"
        return None

    def kind(self, side: str) -> str:
        """The format of the references or the hypotheses."""
        return (*self.options[side], "trn")[1]


def read_cases(script: str) -> Iterator[Case]:
    """The calls of sclite in a script."""
    script = script.replace("\\\n", " ")
    loop = re.compile(r"^for (\w+) in ([^;\n]*);\s*do\n(.*?)^done", re.MULTILINE | re.DOTALL)
    variables = {"SCLFLAGS": "", "DATA": ".", "OUT": "out"}
    for line in loop.sub(_unrolled, script).splitlines():
        line = line.strip()
        assigned = re.fullmatch(r"(\w+)=([\w$.-]+)", line)
        if assigned:
            variables[assigned[1]] = _filled(assigned[2], variables)
        elif line.startswith(("doit ", "$scliteCom ", "$exe_dir/")) and "-r " in line:
            words = shlex.split(_filled(line, variables))
            given = shlex.split(words[3]) if words[0] == "doit" else words[1:]
            yield Case(variables.get("TEST", "?"), _options(given))


def _unrolled(loop: "re.Match[str]") -> str:
    bodies = []
    for number, value in enumerate(loop[2].split(), start=1):
        body = _filled(loop[3], {loop[1]: value, "n": str(number)})
        bodies.append("\n".join(line.strip() for line in body.splitlines()))
    return "\n".join(bodies)


def _filled(text: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: variables.get(m[1] or m[2], m[0]), text)


def _options(words: list[str]) -> dict[str, list[str]]:
    options: dict[str, list[str]] = {}
    last = ""
    for word in words:
        if re.match(r"\d?>|<", word):
            break  # where output goes
        if word.startswith("-"):
            last = word
            options[last] = []
        elif last:
            options[last].append(word)
    return options


def sclites_counts(base: Path, name: str) -> dict[str, Counts] | None:
    """By utterance of its alignments (`.pra`), or in all (`.raw`); None if neither is there."""
    detail, totals = base / f"{name}.pra", base / f"{name}.raw"
    counts: dict[str, Counts] = {}
    if detail.is_file():
        text = detail.read_text("utf-8", "replace")
        for found in re.finditer(
            r"^id: \((.*)\)\n"
            r"(?:(?:Labels|File|Channel|Ref times|Hyp times): .*\n)*"  # of segments with times
            r"Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)",
            text,
            re.MULTILINE,
        ):
            counts[found[1].lower()] = (int(found[2]), int(found[3]), int(found[4]), int(found[5]))
        return counts
    if totals.is_file():
        text = totals.read_text("utf-8", "replace")
        row = re.search(r"^ *\| *Sum[^|]*\|[^|]*\|((?: *\d+){4})", text, re.MULTILINE)
        if row:
            correct, wrong, deleted, inserted = map(int, row[1].split())
            return {"": (correct, wrong, deleted, inserted)}
    return None


def our_counts(case: Case, data: Path) -> dict[str, Counts]:
    """By the ids that sclite gives utterances; case is ignored, as sclite does."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for side, stem in (("-r", "reference"), ("-h", "hypothesis")):
            paths.append(Path(folder, f"{stem}.{case.kind(side)}"))
            shutil.copyfile(data / case.options[side][0], paths[-1])
        pair = scoring.read_pair(*paths)
        scored = scoring.score(pair.references.texts, pair.hypotheses, normalizer=str.lower)
    turns: Counter[str] = Counter()
    counts: dict[str, Counts] = {}
    for utterance in scored.utterances:
        name = utterance.id
        if case.kind("-r") == "stm":
            speaker = pair.references.speakers[name]
            name = f"{speaker}-{turns[speaker]:03d}"
            turns[speaker] += 1
        words = utterance.words
        correct = words.reference_length - words.substitutions - words.deletions
        row = (correct, words.substitutions, words.deletions, words.insertions)
        counts[name.lower()] = row
    return counts


def compare(case: Case, data: Path) -> str:
    """What became of a case, in a line."""
    if case.left_out:
        return f"left out: {case.left_out}"
    expected = sclites_counts(data / "base", case.name)
    if expected is None:
        return "left out: base has no counts of it"
    try:
        ours = our_counts(case, data)
    except (AsrError, OSError) as error:
        return f"left out: {' '.join(str(error).split())}"
    if "" in expected:
        sums = zip(*ours.values(), strict=True)
        correct, wrong, deleted, inserted = (sum(column) for column in sums)
        ours = {"": (correct, wrong, deleted, inserted)}
    names = expected.keys() | ours.keys()
    split = [name for name in names if expected.get(name) != ours.get(name)]
    different = [name for name in split if _errors(expected.get(name)) != _errors(ours.get(name))]
    if not different:
        return (
            f"agrees: {len(expected)} sums of errors, {len(expected) - len(split)} of their parts"
        )
    rows = [f"{name}: {expected.get(name)} there, {ours.get(name)} here" for name in different]
    return f"differs in {len(different)} of {len(expected)}: {'; '.join(sorted(rows)[:5])}"


def _errors(counts: Counts | None) -> int | None:
    """Their sum: alignments with as few may divide it differently."""
    return None if counts is None else sum(counts[1:])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    data = next(
        (f for f in (folder, folder / "src/sclite/testdata") if (f / "tsclite.sh").is_file()), None
    )
    if data is None:
        parser.error(f"{folder}: no tsclite.sh in it, nor in its src/sclite/testdata")
    results: Counter[str] = Counter()
    for case in read_cases((data / "tsclite.sh").read_text("utf-8", "replace")):
        result = compare(case, data)
        results[result.partition(" ")[0].rstrip(":")] += 1
        print(f"{case.name}: {result}")
    agreeing, different = results["agrees"], results["differs"]
    print(f"{agreeing} agree, {different} differ, {results['left']} left out")
    return bool(different) or not agreeing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
