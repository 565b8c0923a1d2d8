"""Bits of a real score store are flipped: the right reward, a recount or a StoreError, never a wrong reward."""

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rmbench.errors import StoreError
from rmbench.scoring import ScoreStore, open_store, score_items
from rmbench.types import Conversation, Item, Response, Scored

FINGERPRINT = {"kind": "counting", "version": "1"}
N_ITEMS, N_RESPONSES = 150, 4
SHORT, LONG = 40, 500


class Counting:
    """Rewards that depend on the text alone, with tokens and cuts; counts what it is asked."""

    def __init__(self) -> None:
        self.n_asked = 0

    def fingerprint(self) -> dict[str, str]:
        return FINGERPRINT

    def score(self, batch: Sequence[Conversation]) -> list[Scored]:
        self.n_asked += len(batch)
        return [_reward(turns[-1]["content"]) for turns in batch]


def _reward(text: str) -> Scored:
    rng = random.Random(text)
    reward = rng.choice([rng.gauss(0, 3), float(rng.randint(-3, 3)), rng.gauss(0, 1e-6)]) + 0.0
    return Scored(reward, rng.randint(0, 900), rng.random() < 0.2)


def _items() -> list[Item]:
    return [
        Item(
            id=f"i{n}",
            prompt=({"role": "user", "content": f"question {n}"},),
            responses=tuple(Response(text=f"answer {n} {k}", gold=float(k)) for k in range(N_RESPONSES)),
            gold_kind="graded",
            cluster=f"c{n}",
        )
        for n in range(N_ITEMS)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store with all rewards: once closed, and once as a killed process leaves it."""
    folder = tmp_path_factory.mktemp("whole")
    with open_store(folder, FINGERPRINT) as store:
        for n, item in enumerate(_items()):
            score_items(Counting(), [item], store)
            if n == N_ITEMS // 2:
                other = sqlite3.connect(store.path)
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                other.close()
        killed = folder / "killed"
        killed.mkdir()
        for path in folder.glob("*.sqlite*"):
            shutil.copy(path, killed)
    return folder


def _flipped(whole: Path, folder: Path, rng: random.Random) -> Iterator[tuple[Path, str]]:
    """Yield folders with copies of the store, each with one bit flipped, and in which file."""
    number = 0
    while True:
        source = whole / "killed" if rng.random() < 0.25 else whole
        copy = folder / str(number)
        shutil.copytree(source, copy, ignore=lambda *_: ["killed"])
        target = rng.choice(sorted(copy.glob("*.sqlite*")))
        raw = bytearray(target.read_bytes())
        # A third in the first pages, where the header, the schema and the fingerprint are.
        place = rng.randrange(len(raw) if rng.random() < 0.66 else min(len(raw), 12_288))
        raw[place] ^= 1 << rng.randrange(8)
        target.write_bytes(raw)
        yield copy, f"{target.name.rpartition('.')[2]} byte {place}"
        shutil.rmtree(copy)
        number += 1


def _outcome(folder: Path, rewards: list[tuple[float, ...]], where: str) -> str:
    model = Counting()
    try:
        with open_store(folder, FINGERPRINT) as store:
            scoring = score_items(model, _items(), store)
            n_damaged = store.n_damaged
    except StoreError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    assert list(scoring.rewards) == rewards, f"a wrong reward after a flip in {where}"
    expected = [_reward(r.text) for item in _items() for r in item.responses]
    assert scoring.n_truncated == sum(bool(s.truncated) for s in expected), where
    assert n_damaged <= model.n_asked == scoring.n_computed
    return "computed again" if model.n_asked else "as stored"


def _campaign(whole: Path, folder: Path, n_flips: int, seed: int) -> Counter[str]:
    rewards = [tuple(_reward(r.text).reward for r in item.responses) for item in _items()]
    found = Counter[str]()
    flips = _flipped(whole, folder, random.Random(seed))
    for _, (copy, where) in zip(range(n_flips), flips, strict=False):
        outcome = _outcome(copy, rewards, where)
        found[outcome] += 1
        if outcome == "computed again":  # and what was put into a damaged file is not wrong either
            found[f"then {_outcome(copy, rewards, where)}"] += 1
    flips.close()
    return found


@pytest.mark.parametrize(
    ("n_flips", "seed"), [(SHORT, 1), pytest.param(LONG, 2, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_a_flipped_bit_never_changes_a_reward(
    whole: Path, tmp_path: Path, n_flips: int, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _campaign(whole, tmp_path, n_flips, seed)
    assert sum(n for what, n in found.items() if not what.startswith("then")) == n_flips
    assert found["computed again"] > n_flips // 10  # the flips do hit rewards
    assert found["refused"]
    parts = ", ".join(f"{what} {n}" for what, n in sorted(found.items()))
    with capsys.disabled():
        print(f"\nscore store, {n_flips} flipped bits: 0 wrong rewards; {parts}")


def test_without_checksums_the_campaign_would_find_wrong_rewards(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rmbench.scoring.rows.is_whole", lambda *_: True)
    with pytest.raises(AssertionError, match="a wrong reward"):
        _campaign(whole, tmp_path, 10 * SHORT, 1)


def test_the_store_of_the_campaign_has_all_rewards(whole: Path) -> None:
    (path,) = whole.glob("*.sqlite")
    with ScoreStore(path, FINGERPRINT) as store:
        assert len(store) == N_ITEMS * N_RESPONSES
