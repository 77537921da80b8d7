"""An examination as text and as JSON."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from asr.corpus.checks.examination import Cure, Examination
from asr.corpus.checks.findings import KINDS, SEVERITIES, Finding, count_kinds

_SCHEMA_VERSION = 1

_NUM_SHOWN = 3  # findings of a kind in the text


def text_lines(examination: Examination, num_shown: int = _NUM_SHOWN) -> Iterator[str]:
    """Kinds of findings with counts and examples, the worst first, then a line that sums up."""
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for finding in examination.findings:
        by_kind[finding.kind].append(finding)
    for kind in count_kinds(examination.findings):
        findings = by_kind[kind]
        yield f"{KINDS[kind].severity:<8} {kind}: {KINDS[kind].meaning}"
        for finding in findings[:num_shown]:
            yield f"         {place(finding, examination.manifests)}: {finding.message}"
        if len(findings) > num_shown:
            yield f"         ... {len(findings):,} in all"
    yield sum_up(examination)


def place(finding: Finding, manifests: Sequence[str]) -> str:
    """The utterance, line or manifest; utterance and manifest where there are several manifests."""
    if finding.line is not None:
        return f"{finding.manifest}:{finding.line}"
    if finding.utterance is None:
        return finding.manifest
    return f"{finding.manifest}: {finding.utterance}" if len(manifests) > 1 else finding.utterance


def sum_up(examination: Examination) -> str:
    """Utterances, hours and numbers of findings."""
    seconds = sum(case.seconds for case in examination.cases)
    counts = severity_counts(examination)
    findings = ", ".join(f"{number:,} {severity}s" for severity, number in counts.items())
    return f"{len(examination.cases):,} utterances, {seconds / 3600:.3f} hours: {findings}"


def severity_counts(examination: Examination) -> dict[str, int]:
    """Numbers of errors, warnings and notes."""
    return {
        severity: sum(finding.severity == severity for finding in examination.findings)
        for severity in SEVERITIES
    }


def cure_lines(cure: Cure, output: str) -> Iterator[str]:
    """What `--fix` did."""
    yield f"{output}: {cure.num_kept:,} utterances kept, {len(cure.left_out):,} left out"
    reasons: dict[str, int] = {}
    for kinds in cure.left_out.values():
        for kind in kinds:
            reasons[kind] = reasons.get(kind, 0) + 1
    for kind, number in reasons.items():
        yield f"         {number:,} for {kind}: {KINDS[kind].meaning}"
    if cure.num_durations:
        yield f"         {cure.num_durations:,} durations are now those of the audio"
    if cure.left_out:
        yield f"         which, and why: {output}.left_out.tsv"


def report_row(examination: Examination) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "schema_version": _SCHEMA_VERSION,
        "manifests": list(examination.manifests),
        "utterances": len(examination.cases),
        "seconds": round(sum(case.seconds for case in examination.cases), 3),
        **severity_counts(examination),
        "kinds": {
            kind: {"severity": KINDS[kind].severity, "meaning": KINDS[kind].meaning, "count": n}
            for kind, n in count_kinds(examination.findings).items()
        },
        "findings": [finding_row(finding) for finding in examination.findings],
    }


def finding_row(finding: Finding) -> Mapping[str, Any]:
    """A finding, for JSON."""
    return {
        "severity": finding.severity,
        "kind": finding.kind,
        "manifest": finding.manifest,
        "utterance": finding.utterance,
        "line": finding.line,
        "message": finding.message,
        "value": finding.value,
    }
