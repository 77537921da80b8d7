"""What can be wrong with a corpus: kinds of findings, how bad each is, and what to do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that was noticed, of an utterance or of a whole manifest."""

    kind: str
    """A key of `KINDS`."""
    message: str
    manifest: str
    utterance: str | None = None
    """Its id; none where the finding is of the manifest, or of a line that is no utterance."""
    line: int | None = None
    """The number of such a line, from 1."""
    value: float | None = None
    """The number that was measured, in the unit that the message names."""

    @property
    def severity(self) -> Severity:
        """How bad the finding is."""
        return KINDS[self.kind].severity


@dataclass(frozen=True, slots=True)
class FindingKind:
    """Findings of one sort."""

    severity: Severity
    meaning: str
    """A line: what it is, and what to do."""


KINDS: Mapping[str, FindingKind] = {
    # An error is what training or scoring would stop at, or would learn or count as a lie.
    "malformed": FindingKind("error", "a line that is no utterance; correct it or leave it out"),
    "repeated-id": FindingKind("error", "an id that an earlier line has; give each its own"),
    "damaged-shard": FindingKind(
        "error", "cannot be read to its end, or not as indexed; write it again"
    ),
    "missing": FindingKind("error", "no such file; correct the path or leave the line out"),
    "unreadable": FindingKind("error", "cannot be decoded; fetch or convert the file again"),
    "truncated": FindingKind("error", "shorter than its header says; fetch the file again"),
    "past-end": FindingKind("error", "begins after the end of its file; correct offset or file"),
    "wrong-length": FindingKind(
        "error", "far from the manifest's duration; the wrong file, or a cut one"
    ),
    "not-finite": FindingKind("error", "holds NaN or infinite samples; make the file again"),
    "silent": FindingKind(
        "error", "no sound, and no transcript that is empty; record again or leave out"
    ),
    "mixed-inputs": FindingKind(
        "error", "audio and stored features in one corpus; keep one of them"
    ),
    "no-text": FindingKind("error", "no transcript where others have one; write it or leave out"),
    "unknown-character": FindingKind(
        "error", "not in the token table; clean the text or extend the table"
    ),
    "infeasible": FindingKind(
        "error", "text too long for the audio: CTC has no path; wrong text or cut"
    ),
    "conflicting-text": FindingKind(
        "error", "the same audio with different texts; one of them is wrong"
    ),
    "leaked-audio": FindingKind("error", "the same audio in two manifests; take it out of one"),
    # A warning is what makes models worse or results misleading, and may be meant so.
    "duration": FindingKind("warning", "not as long as the manifest says; correct the manifest"),
    "header-length": FindingKind("warning", "not as long as its header says; write the file anew"),
    "short": FindingKind("warning", "too short to hold a word"),
    "clipped": FindingKind("warning", "overdriven: tops are cut flat; record with less gain"),
    "offset": FindingKind("warning", "samples are not centred on zero; filter below 20 Hz"),
    "quiet": FindingKind("warning", "very low level; check gain and microphone"),
    "padded": FindingKind("warning", "long digital silence at an end; trim it"),
    "channels": FindingKind("warning", "channels differ, and their average is used; choose one"),
    "low-rate": FindingKind("warning", "lower rate than the rest: it lacks what the others have"),
    "upsampled": FindingKind("warning", "nothing in the upper half of the spectrum: upsampled"),
    "no-texts": FindingKind(
        "warning", "no transcript at all, which training and scoring need; write them first"
    ),
    "empty-text": FindingKind("warning", "an empty transcript; meant for noise only"),
    "digits": FindingKind("warning", "digits where other texts spell numbers out"),
    "case": FindingKind("warning", "another use of capital letters than the rest"),
    "control-character": FindingKind("warning", "invisible or broken characters; remove them"),
    "markup": FindingKind("warning", "brackets or tags, which nobody says; remove or spell out"),
    "mixed-script": FindingKind("warning", "a word with letters of two scripts that look alike"),
    "speaking-rate": FindingKind("warning", "much more or less text for its length than others"),
    "wrong-transcript": FindingKind("warning", "the model hears something else; listen to it"),
    "duplicate": FindingKind("warning", "the same audio and text more than once"),
    "shared-speaker": FindingKind(
        "warning", "a speaker in two manifests: results look better than they are"
    ),
    "shared-recording": FindingKind("warning", "a recording in two manifests"),
    # A note is good to know.
    "cut-spectrum": FindingKind("note", "nothing above a frequency: lossy coding or a filter"),
    "other-rate": FindingKind("note", "a higher rate than most; it is resampled"),
    "long": FindingKind("note", "long for training; cut it if memory is short"),
    "spaces": FindingKind(
        "note", "spaces at the ends, several, or not plain ones; reading mends it"
    ),
    "not-nfc": FindingKind("note", "not Unicode NFC; reading mends it"),
    "shared-text": FindingKind("note", "a sentence in two manifests"),
    "no-speaker": FindingKind(
        "note", "no speaker where others have one; intervals are then by utterance"
    ),
    "orphan": FindingKind("note", "files beside those of the manifest that it does not name"),
}


def count_kinds(findings: Iterable[Finding]) -> dict[str, int]:
    """How often each kind occurs, the worst first."""
    counts = dict.fromkeys(KINDS, 0)
    for finding in findings:
        counts[finding.kind] += 1
    return {kind: count for kind, count in counts.items() if count}
