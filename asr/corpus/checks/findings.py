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
        """How bad it is."""
        return KINDS[self.kind].severity


@dataclass(frozen=True, slots=True)
class Kind:
    """Findings of one sort."""

    severity: Severity
    meaning: str
    """A line: what it is, and what to do."""


KINDS: Mapping[str, Kind] = {
    # An error is what training or scoring would stop at, or would learn or count as a lie.
    "malformed": Kind("error", "a line that is no utterance; correct it or leave it out"),
    "repeated-id": Kind("error", "an id that an earlier line has; give each its own"),
    "damaged-shard": Kind("error", "cannot be read to its end, or not as indexed; write it again"),
    "missing": Kind("error", "no such file; correct the path or leave the line out"),
    "unreadable": Kind("error", "cannot be decoded; fetch or convert the file again"),
    "truncated": Kind("error", "shorter than its header says; fetch the file again"),
    "past-end": Kind("error", "begins after the end of its file; correct offset or file"),
    "wrong-length": Kind("error", "far from the manifest's duration; the wrong file, or a cut one"),
    "not-finite": Kind("error", "holds NaN or infinite samples; make the file again"),
    "silent": Kind("error", "no sound, yet a transcript; record again or leave out"),
    "mixed-inputs": Kind("error", "audio and stored features in one corpus; keep one of them"),
    "no-text": Kind("error", "no transcript where others have one; write it or leave out"),
    "unknown-character": Kind(
        "error", "not in the token table; clean the text or extend the table"
    ),
    "infeasible": Kind("error", "text too long for the audio: CTC has no path; wrong text or cut"),
    "conflicting-text": Kind("error", "the same audio with different texts; one of them is wrong"),
    "leaked-audio": Kind("error", "the same audio in two manifests; take it out of one"),
    # A warning is what makes models worse or results misleading, and may be meant so.
    "duration": Kind("warning", "not as long as the manifest says; correct the manifest"),
    "header-length": Kind("warning", "not as long as its header says; write the file anew"),
    "short": Kind("warning", "too short to hold a word"),
    "clipped": Kind("warning", "overdriven: tops are cut flat; record with less gain"),
    "offset": Kind("warning", "samples are not centred on zero; filter below 20 Hz"),
    "quiet": Kind("warning", "very low level; check gain and microphone"),
    "padded": Kind("warning", "long digital silence at an end; trim it"),
    "channels": Kind("warning", "channels differ, and their average is used; choose one"),
    "low-rate": Kind("warning", "lower rate than the rest: it lacks what the others have"),
    "upsampled": Kind("warning", "nothing in the upper half of the spectrum: upsampled"),
    "empty-text": Kind("warning", "an empty transcript; meant for noise only"),
    "digits": Kind("warning", "digits where other texts spell numbers out"),
    "case": Kind("warning", "another use of capital letters than the rest"),
    "control-character": Kind("warning", "invisible or broken characters; remove them"),
    "markup": Kind("warning", "brackets or tags, which nobody says; remove or spell out"),
    "mixed-script": Kind("warning", "a word with letters of two scripts that look alike"),
    "speaking-rate": Kind("warning", "much more or less text for its length than others"),
    "wrong-transcript": Kind("warning", "the model hears something else; listen to it"),
    "duplicate": Kind("warning", "the same audio and text more than once"),
    "shared-speaker": Kind(
        "warning", "a speaker in two manifests: results look better than they are"
    ),
    "shared-recording": Kind("warning", "a recording in two manifests"),
    # A note is good to know.
    "cut-spectrum": Kind("note", "nothing above a frequency: lossy coding or a filter"),
    "other-rate": Kind("note", "a higher rate than most; it is resampled"),
    "long": Kind("note", "long for training; cut it if memory is short"),
    "spaces": Kind("note", "spaces at the ends, several, or not plain ones; reading mends it"),
    "not-nfc": Kind("note", "not Unicode NFC; reading mends it"),
    "shared-text": Kind("note", "a sentence in two manifests"),
    "no-speaker": Kind("note", "no speaker where others have one; intervals are then by utterance"),
    "orphan": Kind("note", "files beside those of the manifest that it does not name"),
}


def count_kinds(findings: Iterable[Finding]) -> dict[str, int]:
    """How often each kind occurs, the worst first."""
    counts = dict.fromkeys(KINDS, 0)
    for finding in findings:
        counts[finding.kind] += 1
    return {kind: count for kind, count in counts.items() if count}
