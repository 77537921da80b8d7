"""What is odd about transcripts, seen alone and among those of their corpus."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from asr.corpus.checks.findings import Finding
from asr.corpus.manifest import Utterance

MIN_TEXTS = 20
"""Transcripts that it takes to say what is usual."""
MAX_ODD = 0.05
"""Share of transcripts up to which a habit is odd; above, it is the corpus' own way."""

_MARKUP = re.compile(r"[<>\[\]{}]|&(?:#\d+|[a-z]+);")
_SCRIPTS = ("LATIN", "GREEK", "CYRILLIC")  # have letters that look alike
_ODD_CATEGORIES = ("Cc", "Cf", "Co", "Cs", "Cn")  # control, format, private use, unassigned
# Marks that some scripts are written with: joiners, and the signs of direction.
_ALLOWED = frozenset("\u200c\u200d\u200e\u200f\u061c")
_WHITE = "\t\n\v\f\r"  # a matter of spaces
_BROKEN = "\ufffd"  # stands for what could not be decoded

LetterCase = str
"""`upper`, `lower`, `mixed`, or `none` for a text without capital or small letters."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The transcripts of a manifest."""

    manifest: str
    utterances: Sequence[Utterance]


def check_texts(texts: Texts) -> Iterator[Finding]:
    """Findings of all transcripts; a single one where no utterance has one."""
    utterances = [u for u in texts.utterances if u.text is not None]
    if not utterances:
        if texts.utterances:
            message = f"none of {len(texts.utterances):,} utterances has a transcript"
            yield Finding(kind="no-texts", message=message, manifest=texts.manifest)
        return
    for utterance in texts.utterances:
        if utterance.text is None:
            yield _finding(texts, utterance, "no-text", "no transcript")
        else:
            yield from _check_alone(texts, utterance, utterance.text)
    yield from _check_case(texts, utterances)
    yield from _check_digits(texts, utterances)


def check_characters(
    texts: Texts, count_unknown: Callable[[Sequence[str]], Counter[str]]
) -> Iterator[Finding]:
    """Characters without a token, or words without a pronunciation.

    Args:
        texts: to check.
        count_unknown: `TokenTable.count_unknown`.
    """
    total = count_unknown([u.text for u in texts.utterances if u.text])
    if not total:
        return
    shown = ", ".join(f"{_name(unit)} {n:,} times" for unit, n in total.most_common())
    yield Finding(
        kind="unknown-character", message=shown, manifest=texts.manifest, value=total.total()
    )
    for utterance in texts.utterances:
        unknown = count_unknown([utterance.text or ""])
        if unknown:
            message = f"{', '.join(map(_name, sorted(unknown)))} in {utterance.text!r}"
            yield _finding(texts, utterance, "unknown-character", message, unknown.total())


def _check_alone(texts: Texts, utterance: Utterance, text: str) -> Iterator[Finding]:
    if not text.strip():
        yield _finding(texts, utterance, "empty-text", "the transcript is empty")
        return
    odd = sorted({c for c in text if _is_odd(c)})
    if odd:
        named = ", ".join(map(_name, odd))
        yield _finding(texts, utterance, "control-character", f"{named} in {text!r}", len(odd))
    if _MARKUP.search(text):
        yield _finding(texts, utterance, "markup", repr(text))
    for word in text.split():
        scripts = {_script(c) for c in word if c.isalpha()} - {""}
        if len(scripts) > 1:
            message = f"{word!r} has letters of {' and '.join(sorted(scripts)).title()}"
            yield _finding(texts, utterance, "mixed-script", message)
            break
    if text != " ".join(text.split()):
        yield _finding(texts, utterance, "spaces", repr(text))
    if not unicodedata.is_normalized("NFC", text):
        yield _finding(texts, utterance, "not-nfc", repr(text))


def _check_case(texts: Texts, utterances: Sequence[Utterance]) -> Iterator[Finding]:
    cases = [_case_of(utterance.text or "") for utterance in utterances]
    counts = Counter(case for case in cases if case != "none")
    if counts.total() < MIN_TEXTS:
        return
    usual, _ = counts.most_common(1)[0]
    # A sentence of one letter, as "I", is in capitals and in mixed case at once.
    odd = [
        (utterance, case)
        for utterance, case in zip(utterances, cases, strict=True)
        if case not in ("none", usual)
        and not (usual == "mixed" and sum(map(str.isalpha, utterance.text or "")) <= 1)
    ]
    if len(odd) <= MAX_ODD * counts.total():
        for utterance, case in odd:
            message = f"{utterance.text!r} is in {case} case, others are in {usual} case"
            yield _finding(texts, utterance, "case", message)


def _check_digits(texts: Texts, utterances: Sequence[Utterance]) -> Iterator[Finding]:
    odd = [u for u in utterances if any(character.isdecimal() for character in u.text or "")]
    if len(utterances) >= MIN_TEXTS and len(odd) <= MAX_ODD * len(utterances):
        for utterance in odd:
            yield _finding(texts, utterance, "digits", repr(utterance.text))


def _case_of(text: str) -> LetterCase:
    upper = any(character.isupper() for character in text)
    lower = any(character.islower() for character in text)
    return "mixed" if upper and lower else "upper" if upper else "lower" if lower else "none"


def _is_odd(character: str) -> bool:
    if character in _ALLOWED or character in _WHITE:
        return False
    return character == _BROKEN or unicodedata.category(character) in _ODD_CATEGORIES


def _script(character: str) -> str:
    name = unicodedata.name(character, "").partition(" ")[0]
    return name if name in _SCRIPTS else ""


def _name(character: str) -> str:
    if len(character) > 1:  # a word, or a character of several code points
        return repr(character)
    shown = repr(character) if character.isprintable() else unicodedata.name(character, "")
    return f"{shown} (U+{ord(character):04X})".strip()


def _finding(
    texts: Texts, utterance: Utterance, kind: str, message: str, value: float | None = None
) -> Finding:
    return Finding(
        kind=kind, message=message, manifest=texts.manifest, utterance=utterance.id, value=value
    )
