"""Grammars of a few bytes that would take for ever, or all the memory."""

import time
from pathlib import Path

import pytest

from asr.decoding import grammar
from asr.decoding.grammar import read_grammar
from asr.errors import DataError

NESTED = "".join(f"<r{n}> = <r{n + 1}>;\n" for n in range(60_000)) + "<r60000> = end;\n"
DOUBLED = "".join(f"<d{n + 1}> = <d{n}> <d{n}>;\n" for n in range(60))
AMBIGUOUS = f"<w> = a | b; public <s> = <w>* a {' '.join(['<w>'] * 40)};"


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        pytest.param(f"public <s> = <r0>; {NESTED}", "rules more than 100 deep", id="nested"),
        pytest.param(f"public <s> = a <d60>; <d0> = b; {DOUBLED}", "100,000 states", id="doubled"),
        pytest.param(f"public <s> = a <d60>; <d0> = <NULL>; {DOUBLED}", "too amb", id="nothing"),
        pytest.param(AMBIGUOUS, "100,000 states|too ambiguous", id="ambiguous"),
    ],
)
def test_a_bomb_is_given_up(
    rules: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar, "_MOST_STEPS", 1_000_000)
    path = tmp_path / "x.jsgf"
    path.write_text(f"#JSGF V1.0; grammar g; {rules}")
    begin = time.process_time()
    with pytest.raises(DataError, match=rf"x\.jsgf.*({says})"):
        read_grammar(path)
    assert time.process_time() - begin < 20


def test_rules_may_be_a_hundred_deep(tmp_path: Path) -> None:
    path = tmp_path / "x.jsgf"
    rules = "".join(f"<r{n}> = <r{n + 1}>;\n" for n in range(99)) + "<r99> = end;\n"
    path.write_text(f"#JSGF V1.0; grammar g; public <s> = <r0>; {rules}")
    assert read_grammar(path).words == ("end",)
