import base64
import hashlib
import re

import jinja2
import pytest

from asr import page

ORIGIN = {
    "program": "0.1.0 (7a66be0416)",
    "seed": 1,
    "data": "123456",
    "utterances": 2520,
    "parameters": 702141,
    "dev_wer": 0.5556,
    "seconds": 186.0,
}
IN_WORDS = {
    "Result": [("Dev WER", "0.56 %"), ("Training time", "3 min 06 s")],
    "Model": [("Parameters", "702,141"), ("Seed", "1"), ("Program", "0.1.0 (7a66be0416)")],
    "Data": [("Training utterances", "2,520"), ("Training fingerprint", "123456")],
}


def test_where_a_model_comes_from_is_said_in_words_and_units() -> None:
    assert page.describe_origin(ORIGIN) == IN_WORDS
    # A report has all values as texts.
    assert page.describe_origin({key: str(value) for key, value in ORIGIN.items()}) == IN_WORDS


def test_what_has_no_words_of_its_own_is_shown_as_it_is() -> None:
    facts = page.describe_origin({"teacher_name": "<b>", "dev_wer": "n/a", "seconds": "inf"})
    assert facts["Model"] == [("teacher name", "<b>")]
    assert facts["Result"] == [("Dev WER", "n/a"), ("Training time", "inf")]


BARS = page.Bars(
    title="<i>", counts=(0, 0), names=("a", "b"), marks=("1", "2", "3"), caption="<script>"
)


def check_page(**values: object) -> str:
    return page.render_template("check.html", "<title>", numbers=[], kinds=[], **values)


def test_a_template_escapes_and_has_no_holes() -> None:
    text = check_page(histograms=[BARS])
    assert "<title>&lt;title&gt;</title>" in text
    assert 'aria-label="Histogram: &lt;i&gt;"' in text
    assert "<script" not in text
    with pytest.raises(jinja2.UndefinedError, match="histograms"):
        check_page()


def test_a_page_runs_the_script_it_brings_and_no_other() -> None:
    assert "script-src" not in check_page(histograms=[])
    text = check_page(histograms=[], script="score.js")
    (script,) = re.findall("<script>(.*)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search('Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].endswith(f"; script-src 'sha256-{digest}'")
    assert policy[1].startswith("default-src 'none'; ")


def test_every_bar_has_its_height_and_counts_stand_where_each_is_marked() -> None:
    each = page.Bars(
        title="t", counts=(1, 4, 0), names=("a", "b", "c"), marks=("x", "y", "z"), caption="c"
    )
    text = check_page(histograms=[each, BARS])
    assert re.findall(r"height:([\d.]+)px", text) == ["25.0", "100.0", "0.0", "0.0", "0.0"]
    assert re.findall(r"<b>(\d*)</b>", text) == ["1", "4", ""]
    assert re.findall(r'<i title="([^"]*)"', text)[:3] == ["a: 1", "b: 4", "c: 0"]
