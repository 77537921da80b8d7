import base64
import re
from pathlib import Path

from asr.training.history import CURVES, find_best
from asr.training.page import write_training_report
from tests.training.test_screen import history

SAMPLES = [
    {"id": "a", "reference": "no yes", "hypothesis": "no <b>"},
    {"id": "b", "reference": "yes", "hypothesis": "yes yes"},
]


def page_of(folder: Path) -> str:
    origin = {"dev_wer": 5.0, "dev_cer": 2.0, "epoch": 3, "seconds": 61, "utterances": 1200,
              "encoder_size": 7}  # fmt: skip
    path = folder / "training.html"
    write_training_report(
        path, history(6), SAMPLES, ["it is <too> slow"], origin, {"training": {"epochs": 6}}
    )
    return path.read_text(encoding="utf-8")


def test_differences_of_dev_utterances_are_marked_and_all_text_is_escaped(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert "<span>ref</span>no <del>yes</del></dd>" in page
    assert "<span>hyp</span>no <ins>&lt;b&gt;</ins></dd>" in page
    assert page.count("<ins>yes</ins>") == 1
    assert "it is &lt;too&gt; slow" in page
    assert "epochs: 6" in page


def test_the_page_loads_nothing_and_draws_every_curve(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    pictures = re.findall(r'alt="([^"]+) by epoch" src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert [label for label, _ in pictures] == [curve.label for curve in CURVES]
    assert all(b"</svg>" in base64.b64decode(content) for _, content in pictures)


def test_results_and_columns_are_said_in_words_and_units(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    for part in (
        "5.00 % dev WER at epoch 3 of 6", "Result Dev WER 5.00 %", "Training time 1 min 01 s",
        "Model encoder size 7", "Data Training utterances 1,200", "dev loss (nats a token)",
        "gradient layer1",
    ):  # fmt: skip
        assert part in words
    assert not re.search(r">[a-z]+_[a-z_]+<", page.partition("<details>")[0])


def test_the_best_epoch_is_the_first_of_those_with_the_fewest_errors(tmp_path: Path) -> None:
    rows = history(6)
    assert find_best(rows) == rows[2]
    assert find_best([{"epoch": 1, "loss": 3.0}]) is None
    assert find_best([*rows, {**rows[2], "epoch": 7}]) == rows[2]
    (best,) = re.findall(r"<tr class=best><td>(\d)</td>", page_of(tmp_path))
    assert best == "3"
