"""NeMo's JSON-lines manifests: the keys of ours; ids are optional, and texts may be in files."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from asr.corpus.manifest import (
    Utterance,
    id_of_path,
    read_rows,
    seconds_value,
    text_value,
    write_manifest,
)
from asr.corpus.recordings import audio_seconds
from asr.errors import DataError, printable
from asr.progress import Report
from asr.text import UniqueIds, read_lines

_KEYS = frozenset(("id", "audio_filepath", "duration", "text", "speaker", "offset"))
_OTHER_KEYS = frozenset(("text_filepath", "pred_text", "audio_filename"))
_CERTAINTIES = frozenset(("score", "doubtful", "confidence"))
# Of what people decide by `asr serve --review` and `--prompts`.
_DECISIONS = frozenset(
    (
        "decision",
        "before",
        "before_offset",
        "before_duration",
        "when",
        "reviewer",
        "stretch",
        "part",
    )
)


def read_nemo(path: Path, report: Report) -> Iterator[Utterance]:
    """The utterances of a manifest; one without `id` is named by its audio, and begin and end.

    A duration that is null is measured, and `audio_filename` stands for `audio_filepath`.

    Raises:
        DataError: a malformed line, a missing key, a `text_filepath` that cannot be read, or two
            lines for the same stretch of audio; with file and line.
    """
    ids = UniqueIds(path)
    unknown: Counter[str] = Counter()
    for number, row in read_rows(path):
        where = f"{path}:{number}"
        key = "audio_filepath" if "audio_filepath" in row else "audio_filename"
        audio = text_value(row, key, where)
        if not audio:
            raise DataError(f"{where}: key audio_filepath is missing")
        unknown.update(
            row.keys()
            - _KEYS
            - _OTHER_KEYS
            - (_CERTAINTIES if "id" in row else frozenset())
            - (_DECISIONS if "decision" in row else frozenset())
        )
        offset = seconds_value(row, "offset", where, default=0.0)
        if row.get("duration") is None and "duration" in row:
            duration = audio_seconds(path.parent / audio, where) - offset
            if duration <= 0:
                raise DataError(f"{where}: the audio ends before offset {offset:g}")
        else:
            duration = seconds_value(row, "duration", where)
        name = id_of_path(audio)
        if row.get("offset") is not None:
            name += f"-{round(1000 * offset):07d}-{round(1000 * (offset + duration)):07d}"
        utterance_id = text_value(row, "id", where) or name
        ids.add(utterance_id, number)
        yield Utterance(
            id=utterance_id,
            audio_filepath=path.parent / audio,
            duration=duration,
            offset=offset,
            text=_text(row, path, where),
            speaker=_speaker(row, where),
        )
    report_unknown(unknown, path, report)


def read_certainties(path: Path) -> dict[str, dict[str, Any]]:
    """By id, what `asr align --segment` and `asr data label` say of how sure they are of a text.

    Keys of a line of the manifest: `score`, `doubtful`, `confidence`.

    Raises:
        DataError: a malformed line.
    """
    lines = (
        (row.get("id"), {k: row[k] for k in row if k in _CERTAINTIES}) for _, row in read_rows(path)
    )
    return {name: stated for name, stated in lines if isinstance(name, str) and stated}


def write_nemo(utterances: Iterable[Utterance], path: Path, report: Report) -> None:
    """Write a manifest."""
    del report
    write_manifest(utterances, path)


def report_unknown(unknown: Counter[str], path: Path, report: Report) -> None:
    """Say which keys or columns, in how many lines, have no place in an utterance."""
    if unknown:
        counts = ", ".join(f"{key} ({count})" for key, count in sorted(unknown.items()))
        report(f"{path}: not kept, as utterances have no such field: {counts}")


def _speaker(row: Mapping[str, Any], where: str) -> str | None:
    """A name, or a number, which stands for itself."""
    value = row.get("speaker")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_value(row, "speaker", where)


def _text(row: Mapping[str, Any], path: Path, where: str) -> str | None:
    text = text_value(row, "text", where)
    text_path = text_value(row, "text_filepath", where)
    if text is not None or text_path is None:
        return text
    # A manifest may come from anyone, and a text is printed and written: no file of the reader's.
    if not (path.parent / text_path).resolve().is_relative_to(path.parent.resolve()):
        raise DataError(
            f"{where}: text_filepath {printable(text_path)} is not below the manifest's folder; "
            "copy the manifest to a folder that holds the texts too"
        )
    try:
        return " ".join(line.strip() for _, line in read_lines(path.parent / text_path))
    except (DataError, ValueError) as error:
        raise DataError(f"{where}: text_filepath {error}") from error
