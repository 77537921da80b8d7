"""The page's files: what they hold, and what they do not."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.server.conftest import Client

FOLDER = ROOT / "asr" / "assets" / "serve"
PARTS = sorted(FOLDER.iterdir())


def test_the_page_and_its_parts_are_there_and_small(client: Client) -> None:
    page = client.ask("/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    total = 0
    names = set(re.findall(r'"/static/([\w.]+)"', page.body.decode()))
    for path in PARTS:
        names |= set(re.findall(r'"(?:\./|/static/)([\w.]+)"', path.read_text(encoding="utf-8")))
    assert names >= {"page.css", "serve.css", "main.js", "recorder.js", "transcript.js"}
    types = {"css": "text/css", "js": "text/javascript"}
    for name in names:
        answer = client.ask(f"/static/{name}")
        assert answer.status == 200, name
        assert answer.headers["content-type"].startswith(types[name.rpartition(".")[2]])
        total += len(answer.body)
    assert total + len(page.body) < 100_000


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.name)
def test_nothing_is_fetched_from_elsewhere_and_no_text_becomes_html(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[\w.:]+", text)) <= {"http://127.0.0.1:8080"}
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in text
    assert not re.search(r"<style|style=|\son\w+=|<script(?! type=\"module\" src=)", text)


@pytest.mark.parametrize("path", ["main.py", "..%2fpage.css", "../page.css", "%2e%2e/x", ""])
def test_no_other_file_is_served(client: Client, path: str) -> None:
    assert client.ask(f"/static/{path}").status == 404
