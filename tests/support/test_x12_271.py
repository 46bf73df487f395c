"""The 271 in AdvancedMD's JSON holds each segment where its loop is."""

from __future__ import annotations

from covergate.vendors.vsee.segments import LoopLevel, segments
from tests.support.x12_271 import advancedmd, benefit_loops

DEPENDENT = """\
ST*271*0001
HL*1**20*1
NM1*PR*2*SAMPLE PAYER
HL*2*1*21*1
NM1*1P*2*SAMPLE CLINIC
HL*3*2*22*1
NM1*IL*1*SAMPLE*JOHN
HL*4*3*23*0
NM1*03*1*SAMPLE*JANE
DTP*346*D8*20260101
EB*1**30
MSG*ONE
MSG*TWO
EB*U**88^MH
LS*2120
NM1*VN*2*SAMPLE DRUGS
PER*IC**TE*5105550100
LE*2120
SE*18*0001""".splitlines()


def test_every_segment_is_found_at_its_level_and_in_its_loop() -> None:
    found = segments(advancedmd(DEPENDENT), "")
    about = {segment.text("03"): segment.level for segment in found if segment.name == "NM1" and segment.loop is None}
    assert about == {
        "SAMPLE PAYER": LoopLevel.PAYER,
        "SAMPLE CLINIC": LoopLevel.PROVIDER,
        "SAMPLE": LoopLevel.DEPENDENT,
    }
    loops: dict[str, list[str]] = {}
    for segment in found:
        if segment.loop is not None:
            loops.setdefault(segment.loop, []).append(segment.name)
    assert sorted(loops.values()) == [["EB", "MSG", "MSG"], ["EB", "NM1", "PER"]]
    assert [text.value for segment in found for text in segment.all("01") if segment.name == "MSG"] == ["ONE", "TWO"]
    assert [segment.text("01") for segment in found if segment.name == "DTP" and segment.loop is None] == ["346"]


def test_benefit_loops_end_with_the_next_and_with_the_trailer() -> None:
    assert benefit_loops(DEPENDENT) == [DEPENDENT[10:13], DEPENDENT[13:18]]
