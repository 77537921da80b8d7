"""Speech that people correct and sentences that they read, over real sockets."""

import io
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.cli import main
from asr.corpus import Utterance, manifest, read_manifest
from asr.corpus.formats import import_corpus
from asr.errors import DataError
from tests.conftest import ROOT
from tests.server.conftest import Client, Serve
from tests.tones import RATE

Reviewing = Callable[..., Any]


@pytest.fixture
def todo(speech: list[Utterance], tmp_path: Path) -> Path:
    """Three whole files, and the second half of a fourth."""
    path = tmp_path / "todo.jsonl"
    with manifest.open_rows(path) as file:
        for utterance in speech[:4]:
            row = manifest.row_of(utterance, tmp_path)
            heard = {"pred_text": row.pop("text"), "words": [{"word": "la"}, 5]}
            if utterance is speech[3]:
                half = round(utterance.duration / 2, 3)
                row |= {"offset": half, "duration": round(utterance.duration - half, 3)}
            manifest.write_row(file, row | heard)
    return path


@pytest.fixture
def reviewing(tones: Any, serving: Serve, todo: Path) -> Reviewing:
    from asr.server.journal import Journal
    from asr.server.review import ReviewDesk, read_stretches

    @contextmanager
    def start() -> Iterator[Client]:
        journal = Journal(todo.with_name("reviewed.jsonl"))
        desk = ReviewDesk(read_stretches(todo), journal, tones.recognizer.tokens)
        try:
            with serving(tones, desks=[desk]) as client:
                yield client
        finally:
            journal.close()

    return start


def take(client: Client, page: str = "p") -> Any:
    return client.tell("/review/next", client=page).json["item"]


def decide(client: Client, item: Any, text: str, page: str = "p", **more: Any) -> Any:
    part = {"text": text, "start": item["start"], "end": item["end"]}
    values = {"decision": "text", "parts": [part]} | more
    return client.tell("/review/decide", client=page, number=item["number"], **values)


def test_corrections_become_a_manifest_that_training_takes(
    reviewing: Reviewing, todo: Path, speech: list[Utterance]
) -> None:
    with reviewing() as client:
        assert client.ask("/review").headers["content-type"].startswith("text/html")
        assert client.ask("/healthz").json["pages"] == ["review"]
        first = take(client)
        assert first["text"] == speech[0].text
        assert (first["start"], first["words"], first["decided"]) == (0, [], [])
        assert set(first["alphabet"]) >= set("lami")
        answer = decide(client, first, "  mi\n la\u0301 <b> ", name="Ada\x1b")
        assert answer.json == {"total": 4, "decided": 1, "skipped": 0, "unclear": 0, "others": 0}
        second = take(client)
        assert decide(client, second, second["text"]).status == 200
        decide(client, take(client), "", decision="unclear")
        decide(client, take(client), "", decision="skipped")
        assert client.tell("/review/next", client="p").json == {
            "item": None,
            "total": 4,
            "decided": 4,
            "skipped": 1,
            "unclear": 1,
            "others": 0,
        }
    path = todo.with_name("reviewed.jsonl")
    utterances = read_manifest(path)
    assert [utterance.text for utterance in utterances] == ["mi lá <b>", speech[1].text, None, None]
    assert [u.audio_filepath for u in utterances] == [u.audio_filepath for u in speech[:4]]
    notes: list[str] = []
    assert list(import_corpus(path, "auto", notes.append)) == utterances  # as asr init reads it
    assert not notes
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    decisions = [row["decision"] for row in rows]
    assert decisions == ["corrected", "confirmed", "unclear", "skipped"]
    assert rows[0]["before"] == speech[0].text
    assert rows[0]["reviewer"] == "Ada"
    assert rows[0]["when"].endswith("+00:00")
    assert "reviewer" not in rows[1]


def test_nobody_sees_the_stretch_of_another(reviewing: Reviewing) -> None:
    with reviewing() as client:
        mine, hers, theirs = (take(client, page) for page in "abc")
        assert len({mine["number"], hers["number"], theirs["number"]}) == 3
        assert take(client, "a") == mine  # a page that is loaded again
        refused = decide(client, hers, "la", page="a")
        assert (refused.status, refused.error["code"]) == (409, "taken")
        assert client.tell("/review/hold", client="a", number=hers["number"]).status == 409
        assert decide(client, mine, "la", page="a").json["others"] == 2
        last = take(client, "a")
        assert client.tell("/review/next", client="d").json["item"] is None
        assert decide(client, last, "la", page="a").status == 200


def test_a_stretch_that_a_page_leaves_is_free_again(
    reviewing: Reviewing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.server.review._HELD_SECONDS", 0.0)
    with reviewing() as client:
        assert take(client, "a") == take(client, "b")


def test_a_decision_can_be_asked_for_twice_and_changed_when_that_is_meant(
    reviewing: Reviewing, todo: Path
) -> None:
    path = todo.with_name("reviewed.jsonl")
    with reviewing() as client:
        item = take(client)
        for _ in range(2):  # the first answer did not arrive
            assert decide(client, item, "mi", name="Ada").status == 200
        refused = decide(client, item, "la", page="q")
        assert (refused.status, refused.error["code"]) == (409, "decided")
        assert "Ada has decided it" in refused.error["message"]
        again = client.tell("/review/open", client="p", number=item["number"]).json["item"]
        assert [part["text"] for part in again["decided"]] == ["mi"]
        assert decide(client, item, "la la", again=True).status == 200
    assert [utterance.text for utterance in read_manifest(path)] == ["la la"]
    with reviewing() as client:
        # As a server that was killed finds it.
        assert decide(client, item, "la la").status == 200
        assert take(client)["number"] == 1


def test_stretches_are_trimmed_and_split(
    reviewing: Reviewing, todo: Path, speech: list[Utterance]
) -> None:
    with reviewing() as client:
        for _ in range(3):
            decide(client, take(client), "la")
        item = take(client)
        bounds = item["audio"]
        half = speech[3].duration / 2
        assert bounds["start"] == pytest.approx(max(0.0, half - 1), abs=0.01)
        assert bounds["end"] == pytest.approx(speech[3].duration, abs=0.01)
        sound = client.ask(f"/review/audio/{item['number']}")
        samples, rate = soundfile.read(io.BytesIO(sound.body))
        assert rate == RATE
        whole = soundfile.read(speech[3].audio_filepath)[0]
        first = round(bounds["start"] * RATE)
        np.testing.assert_allclose(samples, whole[first : first + len(samples)], atol=1e-4)
        start, end = item["start"] - 0.2, item["end"]
        middle = round((start + end) / 2, 2)
        parts = [
            {"start": start, "end": middle, "text": "la"},
            {"start": middle, "end": end, "text": "mi"},
        ]
        for wrong in (
            [],
            [{"start": end, "end": start, "text": ""}],
            [{"start": start - 2, "end": end, "text": ""}],
            [{"start": start, "end": end + 2, "text": ""}],
            [{"start": start, "end": float("nan"), "text": ""}],
            [{"start": start, "end": end, "text": 5}],
            [{"start": start, "end": end, "text": "a" * 20_000}],
            ["la"],
        ):
            assert decide(client, item, "", parts=wrong).status == 400, wrong
        assert decide(client, item, "", parts=parts).status == 200
        assert decide(client, item, "", parts=parts, again=True).status == 200
    *_, first_part, second_part = read_manifest(todo.with_name("reviewed.jsonl"))
    assert (first_part.offset, second_part.offset) == pytest.approx((start, middle), abs=2e-3)
    assert first_part.duration + second_part.duration == pytest.approx(end - start, abs=2e-3)
    assert (first_part.text, second_part.text) == ("la", "mi")
    assert first_part.id != second_part.id


def test_what_is_no_decision_is_refused(reviewing: Reviewing) -> None:
    with reviewing() as client:
        item = take(client)
        for path, values in {
            "next": {},
            "decide": {"client": "p", "number": 0, "decision": "burn"},
            "hold": {"client": "p", "number": -1},
            "open": {"client": "p", "number": True},
        }.items():
            answer = client.tell(f"/review/{path}", **values)
            assert answer.status == 400, path
            assert answer.error["message"]
        assert client.tell("/review/hold", client="p", number=10**9).status == 404
        assert client.ask("/review/audio/99").status == 404
        for body in (b"", b"[]", b"{", b'{"client": "\\ud800"}', b"[" * 100_000, b"\xff"):
            assert client.ask("/review/next", body).status == 400
        assert client.ask("/review/next", b" " * 2**21).status == 413
        assert client.ask("/record").status == 404
        assert client.ask("/static/../review/next").status in (404, 405)
        assert take(client) == item


def test_audio_that_is_gone_is_said_and_can_be_skipped(
    reviewing: Reviewing, todo: Path, tmp_path: Path
) -> None:
    lines = [{"id": str(n), "audio_filepath": name, "duration": 5.0} for n, name in enumerate("ab")]
    (tmp_path / "b").write_bytes(b"no audio")
    todo.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with reviewing() as client:
        item = take(client)
        assert "no such file" in item["problem"].lower()
        assert client.ask("/review/audio/0").status == 404
        assert decide(client, item, "", decision="skipped").status == 200
        assert "not audio" in take(client)["problem"]


def test_what_cannot_be_reviewed_is_said_in_a_line(tmp_path: Path) -> None:
    from asr.server.review import read_stretches

    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="nothing to review"):
        read_stretches(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="No such file"):
        read_stretches(tmp_path / "none.jsonl")


def test_sentences_are_recorded_by_several_people(
    tones: Any, serving: Serve, tmp_path: Path
) -> None:
    from asr.server.journal import Journal
    from asr.server.prompts import PromptDesk, read_prompts

    (tmp_path / "sentences.txt").write_text("la mi\n\nmi  mi\nla mi\n<b>la</b>\n", encoding="utf-8")
    journal = Journal(tmp_path / "reviewed.jsonl")
    sentences = read_prompts(tmp_path / "sentences.txt")
    desk = PromptDesk(sentences, journal, tones.recognizer.tokens)
    samples = (3000 * np.sin(np.arange(24_000) / 20)).astype(np.int16)
    sound = io.BytesIO()
    soundfile.write(sound, samples, 48_000, format="WAV", subtype="PCM_16")

    def keep(client: Client, number: int, name: str, take: str, body: bytes = b"") -> Any:
        query = f"client={name}&name={name}&number={number}&take={take}"
        return client.ask(f"/record/keep?{query}", body or sound.getvalue())

    with serving(tones, desks=[desk]) as client:
        mine = client.tell("/record/next", client="a", name="a").json
        assert mine["item"] == {"number": 0, "text": "la mi"}
        assert (mine["total"], mine["read"]) == (3, 0)
        # What one has before her is not another's first.
        assert client.tell("/record/next", client="b", name="b").json["item"]["number"] == 1
        for _ in range(2):
            reply = keep(client, 0, "a", "00000001")
            assert reply.status == 200
            assert (reply.json["read"], reply.json["recordings"]) == (1, 1)
        assert reply.json["item"]["number"] == 2
        skipped = client.tell("/record/skip", client="a", name="a", number=2).json
        assert skipped["item"]["number"] == 1
        assert keep(client, 1, "a", "00000002").json["item"] is None
        assert keep(client, 0, "b", "00000003").json["read"] == 1
        silent = io.BytesIO()
        soundfile.write(silent, 0 * samples, 48_000, format="WAV", subtype="PCM_16")
        for body in (b"no audio", sound.getvalue()[:2000], silent.getvalue()):
            assert keep(client, 1, "b", "00000004", body).status == 400
        assert keep(client, 1, "b", "../../x").status == 400
        assert keep(client, 7, "b", "00000005").status == 404
    journal.close()
    utterances = read_manifest(tmp_path / "reviewed.jsonl")
    assert [(u.text, u.speaker) for u in utterances] == [
        ("la mi", "a"),
        ("mi mi", "a"),
        ("la mi", "b"),
    ]
    for utterance in utterances:
        kept, rate = soundfile.read(utterance.audio_filepath, dtype="int16")
        assert rate == 48_000
        np.testing.assert_array_equal(kept, samples)
        assert utterance.duration == 0.5
    assert len(list((tmp_path / "recordings").iterdir())) == 3


def test_a_server_that_is_killed_has_lost_nothing(
    tone_run: Path, todo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over processes: decisions, `kill -9`, the same command, and a recipe out of it."""
    command = [sys.executable, "-m", "asr", "serve", str(tone_run / "model"), "--port", "0"]
    command += ["--review", str(todo), "--device", "cpu"]

    def ask(url: str, path: str, **values: Any) -> Any:
        body = json.dumps({"client": "p", **values}).encode()
        with urllib.request.urlopen(url + path, body, timeout=60) as answer:
            return json.load(answer)

    for count in range(1, 3):
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        try:
            assert server.stderr is not None
            lines = iter(server.stderr)
            url = next(line.split()[0] for line in lines if " serves " in line)
            assert next(lines).startswith(f"{url}review writes ")
            item = ask(url, "review/next")["item"]
            assert item["number"] == count - 1
            part = {key: item[key] for key in ("text", "start", "end")}
            decision = {"number": item["number"], "decision": "text", "parts": [part]}
            assert ask(url, "review/decide", **decision)["decided"] == count
        finally:
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
            server.stderr.close()  # type: ignore[union-attr]
    path = todo.with_name("reviewed.jsonl")
    assert len(read_manifest(path)) == 2
    assert main(["data", "stats", str(path)]) == 0
    assert "2" in capsys.readouterr().out


def test_reviewed_is_for_review(tone_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tone_run / "model"), "--reviewed", "x.jsonl"]) == 2
    assert "--reviewed takes what" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "content", "cause"),
    [
        ("--review", "", "there is nothing to review in it"),
        ("--prompts", "\n", "no sentences in it"),
    ],
)
def test_a_bad_file_is_found_before_a_model_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, content: str, cause: str
) -> None:
    """The model would be found missing otherwise."""
    pytest.importorskip("uvicorn")
    path = tmp_path / "todo.jsonl"
    path.write_text(content)
    assert main(["serve", str(tmp_path / "none"), option, str(path)]) == 2
    assert cause in capsys.readouterr().err
    assert not (tmp_path / "reviewed.jsonl").exists()
