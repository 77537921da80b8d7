"""Stretches of recordings that people marked: Audacity's labels, NIST's stm; what all marks share.

Each file of marks stands beside the recording that it describes, under the same name.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.audio import AudioInfo, inspect_audio
from asr.corpus.manifest import Utterance
from asr.corpus.recordings import Stretch, audio_beside, check_channel, measure
from asr.errors import DataError
from asr.files import open_atomic
from asr.folders import claim_names
from asr.progress import Report
from asr.text import Alternates, UniqueIds, alternates, nist, parse_seconds, quoted, read_lines

# As Audacity exports it; where the language has it so, with decimal commas.
_LABEL = re.compile(r"[0-9]+[.,][0-9]+\t[0-9]+[.,][0-9]+(?:\t|$)")
_BAND = "\\\t"  # begins a line with the frequencies of the label before it
_ALIGNED_TIERS = ("words", "word", "phones", "phonemes", "phone")  # of forced aligners


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkedStretch:
    """A stretch of a recording with a label."""

    tier: str
    """The row of marks that it is in; often the speaker's name."""
    begin: float
    """Seconds."""
    end: float
    """Seconds."""
    text: str
    line: int
    """Of its file."""


def read_audacity(path: Path, report: Report) -> Iterator[Utterance]:
    """The labels of an exported label track, or of all `.txt` in a folder and its folders.

    Raises:
        DataError: a malformed line, or no audio beside it; with file and line.
    """
    for file in annotation_files(path, ".txt"):
        yield from utterances_of(file, _audacity(file, report), audio_beside(file, str(file)))


def is_label_track(path: Path) -> bool:
    """Whether all of a text is labels as Audacity exports them: times with decimals, and tabs."""
    try:
        lines = [line for _, line in read_lines(path)]
    except DataError:
        return False
    labels = [line for line in lines if not line.startswith(_BAND)]
    return bool(labels) and all(map(_LABEL.match, labels))


def write_audacity(utterances: Iterable[Utterance], folder: Path, report: Report) -> None:
    """Write `<recording>.txt` for each recording, a label track.

    Raises:
        DataError: a text that is empty, or two recordings of one name.
    """
    del report
    recordings = group_by_recording(utterances)
    claim_names(folder, [f"{stem}.txt" for stem in recordings])
    for stem, stretches in recordings.items():
        with open_atomic(folder / f"{stem}.txt") as file:
            for stretch in stretches:
                utterance = stretch.utterance
                end = utterance.offset + utterance.duration
                file.write(f"{utterance.offset:.6f}\t{end:.6f}\t{utterance.text}\n")


def read_stm(path: Path, report: Report) -> Iterator[Utterance]:
    """The segments of a `.stm`, whose recordings are beside it.

    Of alternates the first is taken; both this and segments that are not scored are reported.

    Raises:
        DataError: a malformed line, a segment that occurs twice, no audio of a recording beside it,
            or one channel of several; with file and line.
    """
    audio: dict[str, tuple[Path, AudioInfo]] = {}
    num_ignored = num_alternates = 0
    for segment in nist.parse_stm(read_lines(path), path, alternates=True):
        where = f"{path}:{segment.line}"
        if segment.ignored:
            num_ignored += 1
            continue
        if segment.recording not in audio:
            recording = audio_beside(_beside(path, segment, where), where)
            try:
                audio[segment.recording] = recording, inspect_audio(recording)
            except DataError as error:
                raise DataError(f"{where}: {error}") from error
        recording, info = audio[segment.recording]
        check_channel({"A": 1, "B": 2}.get(segment.channel, 0), recording, info, where)
        text = segment.text
        if isinstance(text, Alternates):
            num_alternates += 1
            text = _first_wording(text)
        yield Utterance(
            id=segment.id,
            audio_filepath=recording,
            offset=segment.begin,
            duration=round(segment.end - segment.begin, 6),
            text=text,
            speaker=segment.speaker,
        )
    if num_ignored:
        report(f"{path}: {num_ignored} segments are not to be scored: left out")
    if num_alternates:
        report(f"{path}: {num_alternates} segments have alternates: the first of each is taken")


def write_stm(utterances: Iterable[Utterance], path: Path, report: Report) -> None:
    """Write a `.stm`; an utterance without speaker gets `unknown`.

    Raises:
        DataError: a speaker or recording's name with white space, or two recordings of one name.
    """
    del report
    with open_atomic(path) as file:
        for stem, stretches in sorted(group_by_recording(utterances, texts=False).items()):
            for stretch in stretches:
                utterance = stretch.utterance
                speaker = utterance.speaker or "unknown"
                if re.search(r"\s", f"{stem}{speaker}") or stem.startswith(";;"):
                    raise DataError(
                        f"utterance {utterance.id}: an stm cannot hold the recording {stem!r} of "
                        f"speaker {speaker!r}"
                    )
                end = utterance.offset + utterance.duration
                times = f"{utterance.offset:.6f} {end:.6f}"
                file.write(f"{stem} 1 {speaker} {times} {utterance.text or ''}".rstrip() + "\n")


def annotation_files(path: Path, suffix: str) -> list[Path]:
    """The file itself, or the files with a suffix in a folder and its folders.

    Raises:
        DataError: there are none.
    """
    if not path.is_dir():
        return [path]
    files = [p for p in sorted(path.rglob("*")) if p.suffix.lower() == suffix and p.is_file()]
    if not files:
        raise DataError(f"{path}: no {suffix} files in it or in its folders")
    return files


def utterances_of(file: Path, marks: Sequence[MarkedStretch], audio: Path) -> Iterator[Utterance]:
    """An utterance for each mark; ids are file, tier where there are several, begin and end in ms.

    Raises:
        DataError: two marks of one tier, begin and end.
    """
    several = len({mark.tier for mark in marks}) > 1
    ids = UniqueIds(file)
    for mark in marks:
        tier = f"-{mark.tier}" if several else ""
        begin, end = round(1000 * mark.begin), round(1000 * mark.end)
        utterance_id = f"{file.stem}{tier}-{begin:07d}-{end:07d}"
        ids.add(utterance_id, mark.line)
        yield Utterance(
            id=utterance_id,
            audio_filepath=audio,
            offset=mark.begin,
            duration=round(mark.end - mark.begin, 6),
            text=mark.text,
            speaker=_speaker_of(mark.tier),
        )


def group_by_recording(
    utterances: Iterable[Utterance], *, texts: bool = True
) -> dict[str, list[Stretch]]:
    """Utterances by the name of their recording, in order of time.

    Args:
        texts: whether each must have one.

    Raises:
        DataError: two recordings of one name, or an utterance without text.
    """
    paths: dict[str, Path] = {}
    recordings: dict[str, list[Stretch]] = {}
    for stretch in measure(utterances):
        utterance = stretch.utterance
        path = utterance.audio_filepath
        if paths.setdefault(path.stem, path) != path:
            raise DataError(f"{path} and {paths[path.stem]} have one name, and marks go by names")
        if texts and not utterance.text:
            raise DataError(f"utterance {utterance.id} has no text, and a mark without is no mark")
        recordings.setdefault(path.stem, []).append(stretch)
    for stretches in recordings.values():
        stretches.sort(key=lambda stretch: stretch.utterance.offset)
    return recordings


def group_by_speaker(stretches: Iterable[Stretch]) -> dict[str, list[Utterance]]:
    """The utterances of each speaker, in order of time; those without are of speaker ''."""
    speakers: dict[str, list[Utterance]] = {}
    for stretch in stretches:
        speakers.setdefault(stretch.utterance.speaker or "", []).append(stretch.utterance)
    return speakers


def _speaker_of(tier: str) -> str | None:
    """A tier's name is the speaker's; an aligner's are `words` or `speaker - words`."""
    speaker, _, kind = tier.rpartition(" - ")
    return (speaker if kind.lower() in _ALIGNED_TIERS else tier) or None


def choose_tiers(names: Sequence[str], tiers: Sequence[str], path: Path) -> None:
    """Check that the tiers asked for are there, and that none needs to be asked for.

    Raises:
        DataError: no such tier, or tiers of an aligner.
    """
    for tier in tiers:
        if tier not in names:
            raise DataError(f"{path}: no tier {tier!r}; there are {', '.join(map(repr, names))}")
    aligned = [n for n in names if n.rpartition(" - ")[2].lower() in _ALIGNED_TIERS]
    if aligned and not tiers:
        raise DataError(
            f"{path}: tier {aligned[0]!r} is an alignment, not utterances; name those to read "
            f"with --tier, of {', '.join(map(repr, names))}"
        )


def _audacity(path: Path, report: Report) -> list[MarkedStretch]:
    marks = []
    num_bands = num_points = 0
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        begin_text, *rest = line.split("\t", maxsplit=2)
        if begin_text == "\\":
            num_bands += 1
            continue
        if len(rest) != 2:
            raise DataError(f"{where}: `begin<TAB>end<TAB>label` is expected: {quoted(line)}")
        begin, end = (parse_seconds(t.replace(",", "."), where) for t in (begin_text, rest[0]))
        text = rest[1].strip()
        if end < begin:
            raise DataError(f"{where}: the label ends at {rest[0]}, before it begins")
        if end == begin or not text:
            num_points += 1
            continue
        marks.append(MarkedStretch(tier="", begin=begin, end=end, text=text, line=number))
    if num_bands:
        report(f"{path}: {num_bands} frequency ranges of labels: not kept")
    if num_points:
        report(f"{path}: {num_points} labels without length or text: left out")
    return marks


def _beside(path: Path, segment: nist.StmSegment, where: str) -> Path:
    """What the recording would be called beside the `.stm`."""
    if "/" in segment.recording or segment.recording in (".", ".."):
        raise DataError(f"{where}: {segment.recording!r} is no name of a recording")
    return path.parent / f"{segment.recording}.stm"


def _first_wording(reference: Alternates) -> str:
    words = []
    skipped = 0  # depth of alternates that are not the first
    chosen: list[bool] = []  # whether the first wording of each open mark is over
    for part in reference.parts:
        if part is alternates.Delimiter.OPEN:
            chosen.append(False)
        elif part is alternates.Delimiter.CLOSE:
            skipped -= chosen.pop()
        elif part is alternates.Delimiter.OR:
            skipped += not chosen[-1]
            chosen[-1] = True
        elif not skipped:
            words.append(str(part))
    return " ".join(" ".join(words).split())
