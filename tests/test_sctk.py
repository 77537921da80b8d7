"""The tool that compares this scorer with sclite, on a folder like SCTK's."""

from pathlib import Path

import pytest

from tools import sctk

SCRIPT = """\
doit(){
   testid="$1"
}
TEST=test1
doit $TEST \\
        "Transcripts" \\
        "${SCLFLAGS} -r $DATA/a.ref -h $DATA/a.hyp -i wsj -o all -O $OUT -f 0 -n $TEST" \\
        "" \\
        ""
TN=2
TEST=test$TN
$scliteCom ${SCLFLAGS} -r $DATA/a.ref -h $DATA/a.hyp -i spu_id -o all -n $TEST -F -D \\
\t1> $OUT/$TEST.out 2> $OUT/$TEST.err
n=1
for hyp in a.ctm b.ctm ; do
    TEST=test16_$n
    doit $TEST "Words with times - $hyp" "-r $DATA/a.stm stm -h $DATA/$hyp ctm -o all -n $TEST"
    n=`expr $n + 1`
done
"""
ROW = "id: ({})\nScores: (#C #S #D #I) {} {} {} {}\nREF:\n\n"
SEGMENT = ROW.replace("\n", "\nLabels: <o>\nFile: r\nChannel: a\n", 1)
FILES = {
    "tsclite.sh": SCRIPT,
    "a.ref": "One { two / @ } three (s_1)\nfour (s_2)\n",
    "a.hyp": "one three (s_1)\nfive (s_2)\n",
    "a.stm": "R A Ann 0 2 one two\nR A Ben 2 4 three\nR A Ann 5 6 four\n",
    "a.ctm": "r a 0.1 0.2 ONE\nr a 1.0 0.2 two\nr a 4.5 0.2 extra\nr a 5.1 0.2 four\n",
    "b.ctm": "r a 0.1 0.2 ONE\n",
    "base/test1.pra": ROW.format("s_1", 2, 0, 0, 0) + ROW.format("s_2", 0, 1, 0, 0),
    "base/test16_1.pra": SEGMENT.format("ann-000", 2, 0, 0, 0)
    + SEGMENT.format("ben-000", 0, 0, 1, 0)
    + SEGMENT.format("ann-001", 1, 0, 0, 1),
    "base/test16_2.raw": " | Sum    |    3      4 |    1      0      3      0      3      3 |\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    data = tmp_path / "src/sclite/testdata"
    for name, content in FILES.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(content)
    return tmp_path


def test_cases_are_compared_with_what_sclite_counted(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sctk.main([str(checkout)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "test1: agrees: 2 sums of errors, 2 of their parts",
        "test2: left out: needs -D, -F",
        "test16_1: agrees: 3 sums of errors, 3 of their parts",
        "test16_2: agrees: 1 sums of errors, 1 of their parts",
        "3 agree, 0 differ, 1 left out",
    ]


def test_a_difference_is_shown(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = checkout / "src/sclite/testdata/base/test1.pra"
    base.write_text(base.read_text().replace("0 1 0 0", "1 0 0 0"))
    assert sctk.main([str(checkout / "src/sclite/testdata")]) == 1
    expected = "test1: differs in 1 of 2: s_2: (1, 0, 0, 0) there, (0, 1, 0, 0) here"
    assert expected in capsys.readouterr().out
