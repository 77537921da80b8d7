import io
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli import main
from asr.corpus.checks import store as measurements
from asr.corpus.checks.examination import Examination, examine
from asr.corpus.checks.findings import KINDS
from asr.corpus.checks.page import make_histogram
from asr.corpus.manifest import Utterance, read_manifest, write_manifest
from asr.corpus.shards import write_shards
from tests import planted

# What else a fault shows in, rightly: by fault, kinds beside the one it stands for.
COMPANIONS = {
    "damaged flac": {"orphan"},
    "no file": {"orphan"},
    "text in a wav": {"orphan"},
    "offset after the end": {"orphan"},
    "features among audio": {"orphan"},
    "half the rate": {"speaking-rate", "cut-spectrum"},
    "test audio": {"shared-recording", "shared-text"},
    "test sentence": {"speaking-rate"},
    "same sound, other text": {"speaking-rate"},
    "far too long": {"speaking-rate"},
    "next to nothing": {"quiet"},
    "opposite channels": {"silent"},
}
OF_THE_MODEL = {"infeasible", "wrong-transcript", "unknown-character"}
OF_SHARDS = {"damaged-shard"}
OF_ALL = {"no-texts"}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "corpus"
    planted.make_corpus(folder).write()
    return folder


def load(clean: Path, folder: Path) -> planted.Corpus:
    """The clean corpus with its files in place, and a folder for those of a fault."""
    folder.mkdir(exist_ok=True)
    train, test = (read_manifest(clean / f"{name}.jsonl") for name in ("train", "test"))
    return planted.Corpus(folder, train, test)


def look(corpus: planted.Corpus, clean: Path) -> Examination:
    return examine(corpus.write(), jobs=2, store_path=clean.parent / "measures.jsonl")


def test_the_clean_corpus_has_no_findings(clean, tmp_path):
    assert look(load(clean, tmp_path), clean).findings == ()


@pytest.mark.parametrize("fault", planted.FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(fault, clean, tmp_path):
    corpus = load(clean, tmp_path)
    kind, plant = planted.FAULTS[fault]
    plant(corpus)
    findings = look(corpus, clean).findings
    kinds = {finding.kind for finding in findings}
    assert kind in kinds
    assert kinds <= {kind, "orphan"} | COMPANIONS.get(fault, set())
    # What is said of an utterance is said of the one that the fault was planted in.
    named = {finding.utterance for finding in findings if finding.kind == kind}
    others = {"train3"} if kind == "conflicting-text" else set()
    assert named <= {corpus.target.id, None} | others


def test_every_kind_of_finding_has_a_planted_fault():
    elsewhere = OF_THE_MODEL | OF_SHARDS | OF_ALL
    assert {kind for kind, _ in planted.FAULTS.values()} == KINDS.keys() - elsewhere


def test_all_faults_at_once_are_all_found(clean, tmp_path):
    corpus = load(clean, tmp_path)
    wanted = []
    # Those that need one another's absence are planted alone above.
    for place, (fault, (kind, plant)) in enumerate(planted.FAULTS.items(), start=4):
        if kind in ("mixed-inputs", "shared-recording", "orphan", "missing", "unreadable"):
            continue
        corpus.place = place
        plant(corpus)
        wanted.append((kind, corpus.target.id, fault))
    findings = {(finding.kind, finding.utterance) for finding in look(corpus, clean).findings}
    of_manifests = {"shared-speaker", "shared-text", "no-speaker", "malformed", "repeated-id"}
    lost = [
        fault
        for kind, utterance, fault in wanted
        if (kind, None if kind in of_manifests else utterance) not in findings
    ]
    assert lost == []


def run_check(*arguments: str | Path) -> int:
    return main(["data", "check", *map(str, arguments)])


def test_check_exits_with_1_on_errors_and_with_0_on_warnings(clean, tmp_path, capsys):
    corpus = load(clean, tmp_path)
    planted.FAULTS["soft"][1](corpus)
    train, _ = corpus.write()
    assert run_check(train) == 0
    printed = capsys.readouterr().out
    assert "warning  quiet" in printed
    assert "60 utterances" in printed
    planted.FAULTS["cut wav"][1](corpus)
    corpus.write()
    assert run_check(train, "--format", "json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["kinds"]["truncated"]["count"] == 1
    assert report["error"] == 1
    (finding,) = [f for f in report["findings"] if f["severity"] == "error"]
    assert finding["utterance"] == corpus.target.id
    assert "truncated: " in finding["message"]


def test_characters_without_a_token_are_errors_with_counts(clean, tmp_path, capsys):
    corpus = load(clean, tmp_path)
    corpus.change(text=f"{corpus.target.text} q\u00e9q")
    train, _ = corpus.write()
    letters = sorted({c for u in planted.make_corpus(tmp_path / "x").train for c in u.text or ""})
    symbols = ["<blank>", *("<space>" if c == " " else c for c in letters)]
    (tmp_path / "tokens.txt").write_text("\n".join(symbols) + "\n", encoding="utf-8")
    assert run_check(train, "--tokens", tmp_path / "tokens.txt") == 1
    printed = capsys.readouterr().out
    assert f"{corpus.target.id}: 'q' (U+0071), '\u00e9' (U+00E9) in" in printed
    assert "'q' (U+0071) 2 times, '\u00e9' (U+00E9) 1 times" in printed


def test_a_fixed_manifest_leaves_out_errors_and_says_why(clean, tmp_path, capsys):
    corpus = load(clean, tmp_path)
    planted.FAULTS["test audio"][1](corpus)
    leaked = corpus.target.id
    corpus.place = 20
    planted.FAULTS["zeros"][1](corpus)
    silent = corpus.target.id
    corpus.place = 21
    corpus.change(duration=0.0)
    corpus.place = 22
    corpus.change(duration=corpus.target.duration + 0.3)
    train, test = corpus.write()
    fixed = tmp_path / "sub" / "fixed.jsonl"
    assert run_check(train, test, "--fix", fixed) == 1
    kept = read_manifest(fixed)
    assert {u.id for u in read_manifest(train)} - {u.id for u in kept} == {leaked, silent}
    assert all(u.duration == pytest.approx(_seconds(u.audio_filepath), abs=1e-5) for u in kept)
    reasons = (tmp_path / "sub" / "fixed.jsonl.left_out.tsv").read_text(encoding="utf-8")
    assert sorted(line.split("\t")[:2] for line in reasons.splitlines()[1:]) == sorted(
        [[leaked, "leaked-audio"], [silent, "silent"]]
    )
    assert "58 utterances kept, 2 left out" in capsys.readouterr().out
    assert run_check(fixed, test) == 0


def test_lines_that_are_no_utterances_are_findings_with_line_and_key(clean, tmp_path, capsys):
    corpus = load(clean, tmp_path)
    corpus.place = 20
    planted.FAULTS["zeros"][1](corpus)
    first = corpus.train
    row = {"id": "x", "audio_filepath": str(first[0].audio_filepath), "duration": 1.0}
    corpus.bad_lines = [
        "",
        "[]",
        json.dumps({**row, "duration": None}),
        json.dumps({**row, "speaker": 7}),
        json.dumps({**row, "id": first[3].id}),
    ]
    train, test = corpus.write()
    # A recording whose line was cut off by a full disk.
    test.write_text(test.read_text(encoding="utf-8") + '{"id": "y", "audio', encoding="utf-8")
    report_path = tmp_path / "out" / "check.json"
    fixed = tmp_path / "fixed.jsonl"
    options = ["--output-dir", report_path.parent, "--format", "text,json,html", "--fix", fixed]
    assert run_check(train, test, *options) == 1
    shown = capsys.readouterr().out
    assert f"{train}:62: a JSON object is expected" in shown
    report = json.loads(report_path.read_text(encoding="utf-8"))
    assert report["utterances"] == 80
    lines = {
        (Path(f["manifest"]).name, f["line"]): f["message"]
        for f in report["findings"]
        if f["kind"] in ("malformed", "repeated-id")
    }
    assert lines.keys() == {
        *(("train.jsonl", number) for number in (62, 63, 64, 65)),
        ("test.jsonl", 21),
    }
    assert "key duration is missing" in lines["train.jsonl", 63]
    assert "speaker 7 is not text" in lines["train.jsonl", 64]
    assert f"id {first[3].id!r} stands in line 4 already" in lines["train.jsonl", 65]
    # The silent one among the readable lines is found as if nothing else were wrong.
    assert [f["utterance"] for f in report["findings"] if f["kind"] == "silent"] == ["train20"]
    assert {u.id for u in first} - {u.id for u in read_manifest(fixed)} == {"train20"}
    rows = (tmp_path / "fixed.jsonl.left_out.tsv").read_text(encoding="utf-8").splitlines()
    assert sorted(tuple(row.split("\t")[:2]) for row in rows[1:]) == [
        *(("line 62", "malformed"), ("line 63", "malformed"), ("line 64", "malformed")),
        *(("line 65", "repeated-id"), ("train20", "silent")),
    ]
    assert "59 utterances kept, 5 left out" in shown


def test_a_manifest_without_any_utterance_is_refused_with_its_first_line(tmp_path, capsys):
    path = tmp_path / "text"
    path.write_text("\nutt1 hello\nutt2 world\n")
    assert run_check(path) == 2
    assert capsys.readouterr().err.startswith(f"asr: {path}:2: not JSON: ")


def test_every_manifest_is_fixed_in_a_folder(clean, tmp_path, capsys):
    corpus = load(clean, tmp_path)
    planted.FAULTS["test audio"][1](corpus)
    leaked = corpus.target.id
    # The test set has faults of its own: a text lost, and a line that was typed.
    corpus.test[5] = replace(corpus.test[5], text=None)
    train, test = corpus.write()
    test.write_text(test.read_text(encoding="utf-8") + "typed\n", encoding="utf-8")
    assert run_check(train, test, "--fix", tmp_path / "fixed") == 1
    printed = capsys.readouterr().out
    assert "train.jsonl: 59 utterances kept, 1 left out" in printed
    assert "test.jsonl: 19 utterances kept, 2 left out" in printed
    fixed = [tmp_path / "fixed" / path.name for path in (train, test)]
    assert [{u.id for u in read_manifest(path)} for path in fixed] == [
        {u.id for u in corpus.train} - {leaked},
        {u.id for u in corpus.test} - {corpus.test[5].id},
    ]
    reasons = (tmp_path / "fixed" / "test.jsonl.left_out.tsv").read_text(encoding="utf-8")
    assert sorted(line.split("\t")[:2] for line in reasons.splitlines()[1:]) == [
        ["line 21", "malformed"],
        [corpus.test[5].id, "no-text"],
    ]
    # A folder that exists is one whatever its name; the cleaned manifests have no errors.
    (tmp_path / "v1.2").mkdir()
    assert run_check(*fixed, "--fix", tmp_path / "v1.2") == 0
    assert sorted(path.name for path in (tmp_path / "v1.2").iterdir()) == [
        *("test.jsonl", "test.jsonl.left_out.tsv", "train.jsonl", "train.jsonl.left_out.tsv")
    ]


def _seconds(path: Path) -> float:
    return float(soundfile.info(path).duration)


def test_files_that_have_not_changed_are_not_read_again(clean, tmp_path, monkeypatch):
    corpus = load(clean, tmp_path)
    corpus.save(corpus.sound())
    train, _ = corpus.write()
    store = tmp_path / "store.jsonl"
    first = examine([train], store_path=store)
    # A kill cut the last line off.
    store.write_bytes(store.read_bytes()[:-20])
    # Another content of the same size.
    changed = corpus.target.audio_filepath
    changed.write_bytes(bytes(changed.stat().st_size))
    read: list[Path] = []
    original = measurements.measure_file

    def noting(path: Path, stretches: object) -> object:
        read.append(path)
        return original(path, stretches)

    monkeypatch.setattr(measurements, "measure_file", noting)
    second = examine([train], store_path=store)
    assert set(read) == {changed, corpus.train[-1].audio_filepath}
    assert first.num_errors == 0
    assert [f.kind for f in second.findings if f.severity != "note"] == ["unreadable"]
    assert [case.audio for case in second.cases if not case.error] == [
        case.audio for case in first.cases if case.utterance.id != corpus.target.id
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--format", "html"], id="html without a folder"),
        pytest.param(["--format", "pdf"], id="a format that is none"),
        pytest.param(["--fix", "train.jsonl"], id="its own manifest"),
        pytest.param(["--fix", "."], id="the manifests' own folder"),
        pytest.param(["copy/train.jsonl", "--fix", "out"], id="two of one name"),
        pytest.param(["train.jsonl"], id="a manifest twice"),
        pytest.param(["other.jsonl"], id="a manifest that is not there"),
    ],
)
def test_wrong_usage_of_check_is_one_line_and_code_2(
    arguments, clean, tmp_path, capsys, monkeypatch
):
    for folder in (tmp_path, tmp_path / "copy"):
        load(clean, folder).write()
    monkeypatch.chdir(tmp_path)
    assert run_check("train.jsonl", *arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_long_recording_is_decoded_once_and_measured_by_stretches(tmp_path):
    random = np.random.default_rng(0)
    samples = np.concatenate(
        [planted.speech(2, random), np.zeros(32000), planted.speech(2, random)]
    )
    soundfile.write(tmp_path / "a.wav", samples, planted.RATE)
    utterances = [
        Utterance(id=name, audio_filepath=tmp_path / "a.wav", offset=o, duration=d, text="oh one")
        for name, o, d in (("first", 0.0, 2.0), ("silence", 2.5, 1.0), ("last", 4.0, 0.0))
    ]
    write_manifest(utterances, tmp_path / "m.jsonl")
    examination = examine([tmp_path / "m.jsonl"])
    assert [(f.kind, f.utterance) for f in examination.findings] == [("silent", "silence")]
    assert [case.seconds for case in examination.cases] == [2, 1, 2]


def test_shards_are_found_to_be_as_the_files_that_they_were_made_of(clean, tmp_path):
    corpus = load(clean, tmp_path)
    for place, fault in ((7, "overdriven"), (9, "capitals"), (11, "soft"), (13, "test audio")):
        corpus.place = place
        planted.FAULTS[fault][1](corpus)
    paths = corpus.write()
    store = tmp_path / "store.jsonl"
    from_files = examine(paths, store_path=clean.parent / "measures.jsonl")
    write_shards(corpus.train, tmp_path / "train", num_bytes=10**6)
    write_shards(corpus.test, tmp_path / "test", num_bytes=10**9)
    (tmp_path / "train.shards").write_text("train\n")
    shards = [tmp_path / "train.shards", tmp_path / "test" / "000000.tar"]
    from_shards = examine(shards, jobs=2, store_path=store)
    assert [case.audio for case in from_shards.cases] == [case.audio for case in from_files.cases]

    def said(examination: Examination) -> set[tuple[str, str | None]]:
        # The other copy is no file of its own there.
        kinds = {"shared-recording", "orphan"}
        return {(f.kind, f.utterance) for f in examination.findings if f.kind not in kinds}

    assert said(from_shards) == said(from_files)
    assert {"clipped", "case", "quiet", "leaked-audio"} <= {kind for kind, _ in said(from_shards)}
    # Measures are kept, as those of files are.
    assert examine(shards, store_path=store) == from_shards
    assert len(store.read_bytes().splitlines()) == planted.NUM_TRAIN + planted.NUM_TEST


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


def test_damage_in_a_shard_is_a_finding_and_all_else_is_read(clean, tmp_path, capsys):
    corpus = load(clean, tmp_path)
    shards = write_shards(corpus.train[:40], tmp_path / "shards", num_bytes=10**6)
    cut = tmp_path / "shards" / shards[0].name
    cut.write_bytes(cut.read_bytes()[:-20_000])
    index = tmp_path / "shards" / "shards.jsonl"
    lines = index.read_text().splitlines()
    last = json.loads(lines[-1])
    index.write_text("\n".join([*lines[:-1], json.dumps({**last, "utterances": 99})]) + "\n")
    sounds = [u.audio_filepath.read_bytes() for u in corpus.train[40:42]]
    write_tar(
        tmp_path / "more.tar",
        {
            "a.wav": sounds[0],
            "a.json": json.dumps({"id": corpus.train[39].id, "text": "oh"}).encode(),
            "b.wav": sounds[1][:9000],
            "b.json": b'{"id": "b", "text": "oh"}',
            "c.wav": b"no sound",
            "c.txt": b"oh",
        },
    )
    paths = [tmp_path / "shards", tmp_path / "more.tar"]
    options = ["--output-dir", tmp_path / "out", "--format", "html,json"]
    assert run_check(*paths, *options) == 1
    report = json.loads((tmp_path / "out" / "check.json").read_text(encoding="utf-8"))
    errors = [
        (f["kind"], f["utterance"], f["message"])
        for f in report["findings"]
        if f["severity"] == "error"
    ]
    more = tmp_path / "more.tar"
    assert [(kind, utterance) for kind, utterance, _ in errors] == [
        ("damaged-shard", None),
        ("damaged-shard", None),
        ("truncated", "b"),
        ("unreadable", "c"),
    ]
    messages = [message for _, _, message in errors]
    assert messages[0] == f"{cut}: ends early; it was not written to its end"
    assert messages[1].endswith(f"{last['utterances']} utterances, the index says 99")
    assert messages[2].startswith(f"{more}/b.wav: truncated: ")
    assert messages[3].startswith(f"{more}/c.wav: ")
    # Only what follows the damage is lost, and an id may come again in another manifest.
    assert 40 > report["utterances"] - 3 >= 40 - shards[0].num_utterances
    (tmp_path / "all.shards").write_text("shards\nmore.tar\n")
    capsys.readouterr()
    assert run_check(tmp_path / "all.shards", "--format", "json") == 1
    (again,) = [
        finding
        for finding in json.loads(capsys.readouterr().out)["findings"]
        if finding["kind"] == "repeated-id"
    ]
    assert again["message"].startswith(f"{more}/a.wav: id {corpus.train[39].id!r} is that of ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["shards", "--fix", "out"], "--fix: shards is no manifest", id="fix"),
        pytest.param([".", "train.jsonl"], "a folder without shards.jsonl", id="no index"),
        pytest.param(["none.tar"], "none.tar: No such file", id="no file"),
        pytest.param(["empty.shards"], "empty.shards: no shards in it", id="an empty list"),
        pytest.param(["empty.tar"], "empty.tar: there are no utterances", id="an empty tar"),
    ],
)
def test_what_cannot_be_done_with_shards_is_said(
    arguments, message, clean, tmp_path, capsys, monkeypatch
):
    corpus = load(clean, tmp_path)
    corpus.write()
    write_shards(corpus.test[:2], tmp_path / "shards", seconds=9)
    (tmp_path / "empty.shards").write_text("\n")
    write_tar(tmp_path / "empty.tar", {})
    monkeypatch.chdir(tmp_path)
    assert run_check(*arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["yesno", "an4"])
def test_real_corpora_have_no_errors_and_only_the_warnings_that_they_deserve(
    name, corpora, tmp_path
):
    from recipes.an4 import corpus as an4
    from recipes.yesno import corpus as yesno

    if name == "an4":
        an4.prepare(corpora / "an4", tmp_path, an4.Corpus())
    else:
        yesno.prepare(corpora / "yesno", tmp_path, yesno.Corpus())
    paths = [tmp_path / f"{split}.jsonl" for split in ("train", "dev", "test")]
    kinds = {f.kind: f.severity for f in examine(paths, jobs=2).findings}
    assert "error" not in kinds.values()
    warnings = {kind for kind, severity in kinds.items() if severity == "warning"}
    # One man said all of yesno.
    assert warnings == ({"shared-speaker"} if name == "yesno" else set())


def test_the_page_shows_every_kind_with_pictures_and_loads_nothing(clean, tmp_path):
    corpus = load(clean, tmp_path)
    corpus.change(text='<script>alert("x")</script>')
    corpus.place = 9
    planted.FAULTS["overdriven"][1](corpus)
    corpus.place = 11
    planted.FAULTS["nan"][1](corpus)
    train, test = corpus.write()
    run_check(train, test, "--format", "html,json", "--output-dir", tmp_path / "out")
    page = (tmp_path / "out" / "check.html").read_text(encoding="utf-8")
    report = json.loads((tmp_path / "out" / "check.json").read_text(encoding="utf-8"))
    assert {"markup", "clipped", "not-finite"} <= report["kinds"].keys()
    for kind, about in report["kinds"].items():
        assert f"{about['severity']} {kind}</b> {about['count']} " in page
    # Of the overdriven one there is a picture; of samples that are NaN there is none.
    assert page.count('src="data:image/png;base64,') == 1
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert set(re.findall(r'(?:src|href)="(?!data:)([^"#]*)', page)) == {"../planted0.wav"}
    assert page.count('aria-label="Histogram: ') == 4


def test_a_histogram_counts_every_value_once():
    values = np.random.default_rng(0).normal(3, 1, 5000)
    histogram = make_histogram("Duration", "s", [*values, 900.0])
    assert sum(histogram.counts) == 5001
    assert histogram.edges[-1] < 10
    inner = np.searchsorted(np.sort(values), histogram.edges[3:6])
    assert histogram.counts[3:5] == tuple(np.diff(inner))
    assert sum(make_histogram("Duration", "s", [2.0, 2.0]).counts) == 2
