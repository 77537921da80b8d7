"""Examine a corpus: read all of it, and say what is wrong."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from asr.corpus.checks.findings import SEVERITIES, Finding
from asr.corpus.checks.measures import FeatureMeasures, FileMeasures
from asr.corpus.checks.overlap import check_corpus
from asr.corpus.checks.shards import is_sharded, measure_shards
from asr.corpus.checks.sound import Case, check_audio
from asr.corpus.checks.store import FileRequest, Outcome, Store, measure_files
from asr.corpus.checks.texts import Texts, check_characters, check_texts
from asr.corpus.manifest import (
    BadLine,
    Utterance,
    moved_row,
    open_rows,
    read_good_and_bad,
    write_row,
)
from asr.corpus.recordings import is_there
from asr.corpus.stored_features import is_feature_path
from asr.errors import DataError
from asr.files import open_atomic
from asr.progress import track

CountUnknown = Callable[[Sequence[str]], Counter[str]]
"""`TokenTable.count_unknown`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """All that was found out about a corpus."""

    manifests: tuple[str, ...]
    """Or shards."""
    cases: tuple[Case, ...]
    """Utterances in the order of the manifests."""
    findings: tuple[Finding, ...]
    """Errors first; in the order of the manifests."""

    @property
    def num_errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.severity == "error" for finding in self.findings)


def examine(
    manifests: Sequence[Path],
    *,
    jobs: int = 1,
    store_path: Path | None = None,
    count_unknown: CountUnknown | None = None,
) -> Examination:
    """Read every file of the manifests once, and check audio, texts and what they share.

    Args:
        manifests: that of training first; or shards, as `is_sharded` knows them.
        jobs: files read at once.
        store_path: keeps measures, so that files that have not changed are not read again.
        count_unknown: of the token table that texts must fit.

    Raises:
        DataError: a manifest cannot be read, or nothing in it is an utterance.
    """
    sharded = [path for path in manifests if is_sharded(path)]
    utterances: dict[str, list[Utterance]] = {}
    by_manifest: dict[str, list[Case]] = {str(path): [] for path in manifests}
    findings: list[Finding] = []
    for path in manifests:
        if path not in sharded:
            utterances[str(path)], bad = _read(path)
            findings += bad
    with Store(store_path) if store_path is not None else nullcontext() as store:
        for case in _measured(utterances, jobs, store):
            by_manifest[case.manifest].append(case)
        for path in sharded:
            shards = measure_shards(path, jobs, store)
            findings += shards.findings
            for utterance, result in zip(shards.utterances, shards.results, strict=True):
                by_manifest[str(path)].append(_case(str(path), utterance, result))
    cases = [case for part in by_manifest.values() for case in part]
    findings += check_audio(cases)
    for name, part in by_manifest.items():
        texts = Texts(name, [case.utterance for case in part])
        findings += check_texts(texts)
        if count_unknown is not None:
            findings += check_characters(texts, count_unknown)
    findings += check_corpus(cases)
    return Examination(
        manifests=tuple(by_manifest), cases=tuple(cases), findings=sort_findings(findings)
    )


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings: errors first, otherwise in their order."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Cure:
    """What `write_cure` left out of a manifest and corrected in it."""

    num_kept: int
    left_out: Mapping[str | int, tuple[str, ...]]
    """Kinds of errors by utterance id, or by the number of a line that is no utterance."""
    num_durations: int
    """Durations that were not given, or not right, and are now those of the audio."""


def write_cure(examination: Examination, manifest: Path, output: Path) -> Cure:
    """Write the manifest without the utterances and lines in error, with measured durations.

    Beside it, `<output>.left_out.tsv` says what was left out and why.
    """
    name = str(manifest)
    errors: dict[str | int, list[Finding]] = defaultdict(list)
    durations: dict[str, float] = {}
    for finding in examination.findings:
        key = finding.line if finding.utterance is None else finding.utterance
        if finding.manifest != name or key is None:
            continue
        if finding.severity == "error":
            errors[key].append(finding)
        if finding.kind == "duration" and finding.utterance and finding.value is not None:
            durations[finding.utterance] = finding.value
    for case in examination.cases:
        if case.manifest == name and case.audio is not None and not case.utterance.duration:
            durations[case.utterance.id] = case.audio.seconds
    num_kept = num_durations = 0
    with open_rows(output) as file:
        for entry in read_good_and_bad(manifest):
            if isinstance(entry, BadLine) or entry.utterance.id in errors:
                continue
            utterance_id = entry.utterance.id
            row = moved_row(entry, output.parent)
            if utterance_id in durations:
                row["duration"] = round(durations[utterance_id], 6)
                num_durations += 1
            write_row(file, row)
            num_kept += 1
    with open_atomic(output.with_name(f"{output.name}.left_out.tsv")) as file:
        file.write("id\tkind\tmessage\n")
        for key, findings in errors.items():
            label = key if isinstance(key, str) else f"line {key}"
            for finding in findings:
                cells = (label, finding.kind, finding.message)
                file.write("\t".join(" ".join(cell.split()) for cell in cells) + "\n")
    return Cure(
        num_kept=num_kept,
        left_out={key: _kinds(findings) for key, findings in errors.items()},
        num_durations=num_durations,
    )


def _kinds(findings: Iterable[Finding]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(finding.kind for finding in findings))


def _read(manifest: Path) -> tuple[list[Utterance], list[Finding]]:
    """The utterances of a manifest, and what is wrong with its other lines."""
    utterances: list[Utterance] = []
    bad: list[Finding] = []
    for line in read_good_and_bad(manifest):
        if isinstance(line, BadLine):
            finding = Finding(
                kind=line.kind, message=line.reason, manifest=str(manifest), line=line.number
            )
            bad.append(finding)
        else:
            utterances.append(line.utterance)
    if bad and not utterances:
        raise DataError(f"{manifest}:{bad[0].line}: {bad[0].message}")
    return utterances, bad


def _measured(
    utterances: Mapping[str, Sequence[Utterance]], jobs: int, store: Store | None
) -> Iterator[Case]:
    """A case for each utterance; a file is decoded once, however many lie in it."""
    stretches: dict[Path, dict[tuple[float, float], int]] = defaultdict(dict)
    counts: Counter[Path] = Counter()
    for part in utterances.values():
        for utterance in part:
            places = stretches[utterance.audio_filepath]
            places.setdefault((utterance.offset, utterance.duration), len(places))
            counts[utterance.audio_filepath] += 1
    requests = [FileRequest(path, tuple(places)) for path, places in stretches.items()]
    results: dict[Path, Outcome] = {}
    measured = track(
        measure_files(requests, jobs, store), total=len(requests), label="reading", unit="files"
    )
    for request, result in zip(requests, measured, strict=True):
        results[request.path] = result
    for name, part in utterances.items():
        for utterance in part:
            path = utterance.audio_filepath
            place = stretches[path][utterance.offset, utterance.duration]
            result = results[path]
            case = _case(name, utterance, result, place, alone=counts[path] == 1)
            if isinstance(result, str) and not is_feature_path(path) and not is_there(path):
                case = replace(case, error=case.finding("missing", result))
            yield case


def _case(
    name: str, utterance: Utterance, result: Outcome, place: int = 0, *, alone: bool = True
) -> Case:
    case = Case(manifest=name, utterance=utterance, has_file_alone=alone)
    if isinstance(result, FeatureMeasures):
        return replace(case, features=result)
    if isinstance(result, FileMeasures):
        return replace(case, file=result, audio=result.stretches[place])
    kind = "truncated" if "truncated:" in result else "unreadable"
    return replace(case, error=case.finding(kind, result))
