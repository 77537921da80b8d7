"""What utterances and manifests have in common that they should not: audio, speakers, texts."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from asr.corpus.checks.findings import Finding
from asr.corpus.checks.sound import Case

_SENTENCE_WORDS = 4  # shorter texts, as digits and commands, are said again and again
_NUM_NAMED = 5


def check_corpus(cases: Sequence[Case]) -> Iterator[Finding]:
    """Find duplicates, what several manifests share, and files that nobody names."""
    yield from _check_copies(cases)
    yield from _check_speakers(cases)
    yield from _check_shared(cases)
    yield from _check_orphans(cases)


def _check_copies(cases: Sequence[Case]) -> Iterator[Finding]:
    same: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.digest is not None:
            same[case.digest].append(case)
    for copies in same.values():
        first, last = copies[0], copies[-1]
        for case in copies:
            # The manifest named first is that of training, and gives way.
            if case.manifest != last.manifest:
                message = f"also {last.utterance.id} of {last.manifest}"
                yield case.finding("leaked-audio", message)
            other = next((c for c in (first, last) if _plain(c) != _plain(case)), None)
            if other is not None:
                message = (
                    f"{case.utterance.text!r}, but {other.utterance.text!r} as "
                    f"{other.utterance.id} of {other.manifest}"
                )
                yield case.finding("conflicting-text", message)
            elif case is not first and case.manifest == first.manifest:
                yield case.finding("duplicate", f"as {first.utterance.id}")


def _check_speakers(cases: Sequence[Case]) -> Iterator[Finding]:
    for manifest, part in _by_manifest(cases).items():
        without = [case.utterance.id for case in part if case.utterance.speaker is None]
        if 0 < len(without) < len(part):
            message = f"{len(without):,} of {len(part):,} utterances: {_some(without)}"
            yield Finding(kind="no-speaker", message=message, manifest=manifest, value=len(without))


def _check_shared(cases: Sequence[Case]) -> Iterator[Finding]:
    """Speakers, recordings and sentences in two manifests, a finding for each two."""
    manifests = _by_manifest(cases)
    names = list(manifests)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            for kind, noun, keys in (
                ("shared-speaker", "speakers", _speakers),
                ("shared-recording", "recordings", _recordings),
                ("shared-text", "sentences", _sentences),
            ):
                counts, others = keys(manifests[first]), keys(manifests[second])
                shared = sorted(counts.keys() & others.keys())
                if shared:
                    num = sum(counts[key] for key in shared)
                    message = (
                        f"{len(shared):,} {noun} are also in {second}, in {num:,} of "
                        f"{len(manifests[first]):,} utterances here: {_some(shared)}"
                    )
                    yield Finding(kind=kind, message=message, manifest=first, value=len(shared))


def _check_orphans(cases: Sequence[Case]) -> Iterator[Finding]:
    """Files of the same suffixes in the folders of the audio."""
    named = {case.utterance.audio_filepath.absolute() for case in cases if case.features is None}
    suffixes = {path.suffix for path in named} - {""}
    orphans: list[Path] = []
    for folder in sorted({path.parent for path in named}):
        if folder.is_dir():
            orphans += sorted(
                path
                for path in folder.iterdir()
                if path.suffix in suffixes and path not in named and path.is_file()
            )
    if orphans:
        message = f"{len(orphans):,} files in their folders: {_some([str(p) for p in orphans])}"
        manifest = ", ".join(_by_manifest(cases))
        yield Finding(kind="orphan", message=message, manifest=manifest, value=len(orphans))


def _by_manifest(cases: Iterable[Case]) -> Mapping[str, list[Case]]:
    manifests: dict[str, list[Case]] = {}
    for case in cases:
        manifests.setdefault(case.manifest, []).append(case)
    return manifests


def _speakers(cases: Iterable[Case]) -> dict[str, int]:
    return _counted(case.utterance.speaker for case in cases)


def _recordings(cases: Iterable[Case]) -> dict[str, int]:
    return _counted(str(case.utterance.audio_filepath.absolute()) for case in cases)


def _sentences(cases: Iterable[Case]) -> dict[str, int]:
    texts = map(_plain, cases)
    return _counted(text for text in texts if len(text.split()) >= _SENTENCE_WORDS)


def _counted(keys: Iterable[str | None]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for key in keys:
        if key is not None:
            counts[key] = counts.get(key, 0) + 1
    return counts


def _plain(case: Case) -> str:
    return " ".join((case.utterance.text or "").casefold().split())


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NUM_NAMED]) + ", ..." * (len(names) > _NUM_NAMED)
