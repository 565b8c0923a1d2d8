"""Judge packs: recorded answers of the real format are read as they should be, and broken ones are not."""

import math

import pytest

from rmbench.models.judge.answer import read
from rmbench.models.judge.pack import Case, Pack, packs
from rmbench.models.judge.reply import NoAnswerError, Reply

CASES = [(name, k) for name, pack in packs().items() for k in range(len(pack.cases))]


def reply_to(case: Case) -> Reply:
    first = [(token, math.log(p)) for token, p in case.tokens.items()]
    return Reply(case.says, "", case.finish, first)


def read_case(pack: Pack, case: Case) -> tuple[float, ...]:
    return read(pack.answer, pack.asks, pack.thinking, reply_to(case), case.n)


@pytest.mark.parametrize(("name", "k"), CASES)
def test_a_recorded_answer_is_read_as_its_pack_says(name: str, k: int) -> None:
    pack, case = packs()[name], packs()[name].cases[k]
    if case.reads is None:
        with pytest.raises(NoAnswerError) as caught:
            read_case(pack, case)
        assert caught.value.reason == case.why
    else:
        assert read_case(pack, case) == pytest.approx(case.reads, abs=1e-6)


@pytest.mark.parametrize("name", packs())
def test_a_pack_has_three_cases_one_of_them_broken_and_says_where_it_is_from(name: str) -> None:
    pack = packs()[name]
    assert [case.reads is None for case in pack.cases].count(True) == 1
    assert len(pack.cases) == 3
    assert all((pack.about, pack.source, pack.licence, pack.verified))
    assert pack.messages or pack.licence == "not quoted"
