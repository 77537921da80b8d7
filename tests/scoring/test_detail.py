from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.scoring.detail import safe_id, write_files
from asr.scoring.errors import score
from asr.scoring.transcripts import read_transcripts
from tests.scoring.test_report import FILES, SCORE, report_of

TEXT = st.lists(st.text("aé'<&\"", min_size=1), max_size=4).map(" ".join)


def test_the_files_of_detail_are_as_kaldi_writes_them(tmp_path: Path) -> None:
    write_files(report_of(SCORE), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, ".asr-files.json"}
    assert (tmp_path / "per_utt").read_text().splitlines()[:8] == [
        "s-1 ref a b c",
        "s-1 hyp a x c",
        "s-1 op  C S C",
        "s-1 #csid 2 1 0 0",
        "s-2 ref a b *** ***",
        "s-2 hyp a b y   y",
        "s-2 op  C C I   I",
        "s-2 #csid 2 0 2 0",
    ]
    speakers = [line.split() for line in (tmp_path / "per_spk").read_text().splitlines()]
    assert speakers[0] == ["SPEAKER", "id", "#SENT", "#WORD", "Corr", "Sub", "Ins", "Del", "Err",
                           "S.Err"]  # fmt: skip
    assert speakers[1] == ["s", "raw", "2", "5", "4", "1", "2", "0", "3", "2"]
    assert speakers[2] == ["s", "sys", "2", "5", "80.00", "20.00", "40.00", "0.00", "60.00",
                           "100.00"]  # fmt: skip
    assert speakers[-2] == ["SUM", "raw", "5", "8", "5", "1", "2", "2", "5", "3"]
    assert (tmp_path / "ops").read_text().splitlines() == [
        "correct a a 3", "correct b b 1", "correct c c 1", "substitution b x 1",
        "insertion *** y 2", "deletion d *** 1", "deletion e *** 1",
    ]  # fmt: skip
    alignments = (tmp_path / "alignments.txt").read_text()
    assert "s-1:\ta (b->x) c\n" in alignments
    assert "s-2:\ta b (*->y) (*->y)\n" in alignments
    assert "t-3:\t(d->*) (e->*) [no hypothesis]\n" in alignments


@given(st.dictionaries(st.text("ab (%)\u00a0é<", min_size=1), st.tuples(TEXT, TEXT), min_size=1))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_trn_files_give_the_same_score_again(
    tmp_path: Path, pairs: dict[str, tuple[str, str]]
) -> None:
    scored = score({i: r for i, (r, _) in pairs.items()}, {i: h for i, (_, h) in pairs.items()})
    write_files(report_of(scored), tmp_path)
    references = read_transcripts(tmp_path / "ref.trn", "reference").texts
    said = read_transcripts(tmp_path / "hyp.trn", "hypothesis").texts
    assert list(references) == [safe_id(utterance_id) for utterance_id in pairs]
    again = score(references, {i: str(text) for i, text in said.items()})
    assert [u.words for u in again.utterances] == [u.words for u in scored.utterances]


def test_columns_are_as_wide_as_their_widest_word(tmp_path: Path) -> None:
    speakers = {"u": "a longer name", "v": "b"}
    scored = score({"u": "a bbb", "v": "d"}, {"u": "aaaa b", "v": "d"}, speakers=speakers)
    write_files(report_of(scored), tmp_path)
    assert (tmp_path / "per_utt").read_text().splitlines()[:3] == [
        "u ref a    bbb", "u hyp aaaa b", "u op  S    S",
    ]  # fmt: skip
    lines = (tmp_path / "per_spk").read_text().splitlines()
    assert len({*map(len, lines)}) == 1
    assert lines[1].startswith("a%20longer%20name raw ")
    assert lines[-1].split() == [
        "SUM", "sys", "2", "3", "33.33", "66.67", "0.00", "0.00", "66.67", "50.00",
    ]  # fmt: skip
