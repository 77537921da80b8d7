import lzma
from pathlib import Path

import pytest

from asr.config import Config, parse_settings
from asr.errors import DataError
from asr.lm.arpa import read_arpa
from asr.recipe import Work, model_stages

TEXT = "".join(f"{line}\n" for line in ("a b c", "b c a b", "c a d", "a b e", "b c a") * 3)


def estimate_lm(folder: Path, lm: dict[str, object]) -> list[str]:
    """What stage `lm` says; it writes lm/lm.arpa.gz."""
    path = folder / "big.txt.xz"
    path.write_bytes(lzma.compress(TEXT.encode()))
    config = parse_settings({"lm": {"text": str(path), "order": 3, **lm}}, Config, "test")
    messages: list[str] = []
    stage = next(stage for stage in model_stages("manifests") if stage.name == "lm")
    stage.run(Work(folder=folder, config=config, report=messages.append))
    return messages


def test_the_language_model_of_a_big_text_has_the_size_asked_for(tmp_path: Path) -> None:
    estimate_lm(tmp_path, {"vocabulary": 3})
    whole = read_arpa(tmp_path / "lm/lm.arpa.gz")
    assert whole.words == ("<unk>", "<s>", "</s>", "a", "b", "c")
    most = len(whole.orders[0]) + 5
    messages = estimate_lm(tmp_path, {"vocabulary": 3, "max_ngrams": most})
    orders = [len(ngrams) for ngrams in read_arpa(tmp_path / "lm/lm.arpa.gz").orders]
    assert most - 3 <= sum(orders) <= most < sum(map(len, whole.orders))
    assert messages == [f"15 sentences; n-grams by order: {', '.join(map(str, orders))}"]


def test_fewer_ngrams_than_words_name_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lm\.max_ngrams: 2 n-grams are fewer than the 8 words"):
        estimate_lm(tmp_path, {"max_ngrams": 2})
