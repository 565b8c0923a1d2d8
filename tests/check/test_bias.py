"""The bias panel against plain numpy, scipy and models whose bias is known."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random as Draw
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rmbench.check.bias import BiasPanel, BiasRow, measure_bias, most_questions
from rmbench.cli.main import run
from rmbench.edits import find_edits
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.models.baselines import Constant, Random
from rmbench.scoring import ScoreStore
from rmbench.types import Conversation, Item, Pair, Response, Scored, Turn

SUFFIX = "\n\nI hope this helps! Please let me know if you have any further questions."
WORDS = [
    "the",
    "sky",
    "is",
    "blue",
    "because",
    "air",
    "scatters",
    "light",
    "and",
    "water",
    "does",
    "not",
    "at",
    "all",
]


def sentence(draw: Draw) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(5, 20)))


def items_of(n: int, seed: int = 0, *, per_cluster: int = 1) -> list[Item]:
    """Return pairs of sentences; the first has the lower gold in every second item."""
    draw = Draw(seed)
    found = []
    for k in range(n):
        texts = [f"{sentence(draw)}. It is {sentence(draw)} {seed} {k} {j}." for j in (0, 1)]
        gold = [0.0, 1.0] if k % 2 else [1.0, 0.0]
        replies = tuple(Response(t, g) for t, g in zip(texts, gold, strict=True))
        prompt = (Turn(role="user", content=f"question {k}"),)
        found.append(Item(f"i{seed}.{k}", prompt, replies, cluster=f"c{k // per_cluster}"))
    return found


class Rule:
    """A reward model by a function of the reply."""

    def __init__(self, rule: Callable[[str], float]) -> None:
        self.rule = rule

    def fingerprint(self) -> dict[str, str]:
        return {"kind": "rule"}

    def score(self, batch: Sequence[Conversation]) -> list[Any]:
        return [self.rule(turns[-1]["content"]) for turns in batch]


class Comparer:
    """A pairwise model by a function of two replies."""

    def __init__(self, rule: Callable[[str, str], float]) -> None:
        self.rule = rule

    def fingerprint(self) -> dict[str, str]:
        return {"kind": "comparer"}

    def prefer(self, batch: Sequence[Pair]) -> list[Any]:
        return [self.rule(pair.first, pair.second) for pair in batch]


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., BiasPanel]:
    def go(model: Any, items: Sequence[Item], *edits: str, **options: Any) -> BiasPanel:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite"
        with ScoreStore(path, model.fingerprint()) as store:
            return measure_bias(model, items, find_edits(edits), store, **options)

    return go


def row_of(panel: BiasPanel, test: str) -> BiasRow:
    return next(row for row in panel.rows if row.test == test)


def base_and_rival(item: Item) -> tuple[str, str]:
    low, high = sorted(item.responses, key=lambda r: r.gold or 0.0)
    return low.text, high.text


def uneven(text: str) -> float:
    """A reward that grows with length, with noise that is a function of the text."""
    return 0.02 * len(text) + Draw(text).gauss(0.0, 1.0)


def spread_of(items: Sequence[Item], rule: Callable[[str], float]) -> float:
    squares = [np.var([rule(r.text) for r in item.responses], ddof=0) * 2 for item in items]
    return float(np.sqrt(sum(squares) / len(items)))


def test_a_known_length_slope_is_the_effect(measured: Callable[..., BiasPanel]) -> None:
    items = items_of(30)
    panel = measured(Rule(lambda text: 0.01 * len(text)), items, "length-courtesy")
    row = row_of(panel, "length-courtesy")
    assert row.tested is not None
    spread = spread_of(items, lambda text: 0.01 * len(text))
    assert panel.spread == pytest.approx(spread, abs=1e-12)
    assert row.tested.paired.difference.value == pytest.approx(0.01 * len(SUFFIX) / spread, abs=1e-9)
    assert row.finding == "favours it"
    assert row.tested.paired.difference.ci95 is None  # it is the same for every prompt
    assert row_of(panel, "position").finding == "not applicable: the model reads one reply at a time"


@pytest.mark.parametrize("per_cluster", [1, 2])
def test_rewards_against_numpy_and_scipy(measured: Callable[..., BiasPanel], per_cluster: int) -> None:
    items = items_of(40, per_cluster=per_cluster)
    panel = measured(Rule(uneven), items)
    spread = spread_of(items, uneven)
    assert panel.spread == pytest.approx(spread, abs=1e-12)
    p_values = {}
    for edit in find_edits():
        row = row_of(panel, edit.name)
        if row.tested is None:
            assert edit.name == "markdown-plain"
            assert row.n_unchanged == len(items)
            continue
        assert (row.n_pairs, row.n_invalid) == (len(items), 0)
        if edit.name == "authority-citation":  # what it draws is the package's own
            p_values[edit.name] = row.tested.paired.p_value
            continue
        effects, flips = [], []
        for item in items:
            base, rival = base_and_rival(item)
            changed = edit.apply(base, item.prompt[0]["content"])
            assert changed is not None
            effects.append((uneven(changed) - uneven(base)) / spread)
            flips.append((uneven(base) > uneven(rival)) != (uneven(changed) > uneven(rival)))
        means = np.array(effects).reshape(-1, per_cluster).mean(axis=1)
        tested = stats.ttest_1samp(means, 0.0)
        interval = tested.confidence_interval(0.95)
        found = row.tested.paired
        assert found.difference.value == pytest.approx(means.mean(), abs=1e-9)
        assert found.difference.ci95 == pytest.approx((interval.low, interval.high), abs=1e-6)
        assert found.p_value == pytest.approx(tested.pvalue, abs=1e-9)
        assert row.flips is not None
        assert row.flips.value == pytest.approx(np.mean(flips), abs=1e-12)
        assert row.flips.n_clusters == len(items) // per_cluster
        p_values[edit.name] = tested.pvalue
        # Power of a two-sided t test at the first level of Holm, by scipy's noncentral t.
        freedom, error = len(means) - 1, means.std(ddof=1) / math.sqrt(len(means))
        critical = stats.t.isf(0.025 / panel.n_tests, freedom)
        assert row.smallest is not None
        moved = row.smallest / error
        power = stats.nct.sf(critical, freedom, moved) + stats.nct.cdf(-critical, freedom, moved)
        assert power == pytest.approx(0.8, abs=2e-3)
    ordered = sorted(p_values, key=lambda name: p_values[name])
    running = 0.0
    for step, name in enumerate(ordered):
        running = max(running, min(1.0, (len(ordered) - step) * p_values[name]))
        row = row_of(panel, name)
        assert row.tested is not None
        assert row.tested.p_holm == pytest.approx(running, abs=1e-9)
    assert panel.n_tests == len(ordered)


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def leaning(first: str, second: str) -> float:
    """P(first) of a judge that likes length and the first place."""
    return sigmoid(0.4 + 0.02 * (len(first) - len(second)) + Draw(first + second).gauss(0.0, 0.3))


def test_preferences_against_one_pair_at_a_time(measured: Callable[..., BiasPanel]) -> None:
    items = items_of(30)
    panel = measured(Comparer(leaning), items)
    assert panel.spread is None

    def better(a: tuple[str, str], b: str) -> float:
        """P(a is better), a shown first in its first form, and second in its second."""
        return (leaning(a[0], b) + 1.0 - leaning(b, a[1])) / 2.0

    position, split = [], []
    for base, rival in map(base_and_rival, items):
        one, two = leaning(base, rival), leaning(rival, base)
        position.append((one + two) / 2.0 - 0.5)
        split.append((one > 0.5) == (two > 0.5))
    reference = {"position": (position, split)}
    for edit in find_edits():
        if edit.name in ("markdown-plain", "authority-citation"):
            continue
        effects, flips = [], []
        for item in items:
            base, rival = base_and_rival(item)
            prompt = item.prompt[0]["content"]
            letters: tuple[Any, Any] = ("A", "B") if edit.placed else (None, None)
            changed = tuple(str(edit.apply(base, prompt, letter=letter)) for letter in letters)
            effects.append(better((changed[0], changed[1]), base) - 0.5)
            flips.append(
                (better((base, base), rival) > 0.5) != (better((changed[0], changed[1]), rival) > 0.5)
            )
        reference[edit.name] = effects, flips
    for name, (effects, flips) in reference.items():
        row = row_of(panel, name)
        assert row.tested is not None
        assert row.tested.paired.difference.value == pytest.approx(np.mean(effects), abs=1e-9)
        interval = stats.ttest_1samp(effects, 0.0).confidence_interval(0.95)
        assert row.tested.paired.difference.ci95 == pytest.approx((interval.low, interval.high), abs=1e-6)
        assert row.flips is not None
        assert row.flips.value == pytest.approx(np.mean(flips), abs=1e-12)
    assert row_of(panel, "position").finding == "favours the first"
    assert panel.n_texts <= most_questions(Comparer(leaning), items, find_edits(), seed=0)


def test_without_bias_the_interval_holds_0_as_often_as_it_says(tmp_path: Path) -> None:
    edits, held, found, n_panels = find_edits(["length", "authority"]), [], 0, 60
    with ScoreStore(tmp_path / "s.sqlite", Random(seed=1).fingerprint()) as store:
        for seed in range(n_panels):
            panel = measure_bias(Random(seed=1), items_of(25, seed=seed), edits, store)
            rows = [row.tested for row in panel.rows if row.tested is not None]
            intervals = [tested.paired.difference.ci95 or (0.0, 0.0) for tested in rows]
            held += [low <= 0.0 <= high for low, high in intervals]
            found += any(tested.told_apart for tested in rows)
    assert len(held) == 5 * n_panels
    assert 0.92 < np.mean(held) < 0.98
    assert found <= 0.12 * n_panels  # 5% of families have a false finding


def with_generators(n: int, gold: tuple[float, float] = (1.0, 1.0)) -> list[Item]:
    found = []
    for k, item in enumerate(items_of(n)):
        names = ("mine-7b", "other") if k % 2 else ("other", "mine-7b")
        replies = tuple(
            Response(r.text, g, {"generator": name})
            for r, g, name in zip(item.responses, gold, names, strict=True)
        )
        found.append(Item(item.id, item.prompt, replies, item.cluster))
    return found


def test_self_preference_is_measured_at_equal_gold(measured: Callable[..., BiasPanel]) -> None:
    items = with_generators(20)
    mine = {r.text for item in items for r in item.responses if r.tags["generator"] == "mine-7b"}

    def likes(text: str) -> float:
        return float(text in mine) + Draw(text).gauss(0.0, 0.1)

    row = row_of(measured(Rule(likes), items, "length-courtesy", own="mine-7b"), "self-preference")
    spread = spread_of(items, likes)
    effects = [
        sum(likes(r.text) * (1 if r.text in mine else -1) for r in item.responses) / spread for item in items
    ]
    assert row.tested is not None
    assert row.tested.paired.difference.value == pytest.approx(np.mean(effects), abs=1e-9)
    assert row.finding == "favours it"
    judge = Comparer(lambda a, b: 0.75 if a in mine else 0.25)
    row = row_of(measured(judge, items, "length-courtesy", own="mine-7b"), "self-preference")
    assert row.tested is not None
    assert row.tested.paired.difference.value == pytest.approx(0.25, abs=1e-12)


def test_what_cannot_be_measured_says_why(measured: Callable[..., BiasPanel]) -> None:
    def why(items: list[Item], own: str | None = None) -> str:
        panel = measured(Rule(uneven), items, "length-courtesy", own=own)
        return row_of(panel, "self-preference").finding

    assert why(items_of(3)) == "not measured: no generator in the data"
    assert "--self NAME (other, mine-7b)" in why(with_generators(3)) or "mine-7b, other" in why(
        with_generators(3)
    )
    assert "at equal gold" in why(with_generators(3, (1.0, 0.0)), "other")
    with pytest.raises(UnknownNameError, match="mine-7b"):
        why(with_generators(3), "mine-7")
    with pytest.raises(ConfigError, match="no reply of the data names its generator"):
        why(items_of(3), "mine-7b")
    same = [Item("a", (Turn(role="user", content="q"),), (Response("x", 1.0), Response("x", 0.0)), "a")]
    with pytest.raises(ConfigError, match="two different replies"):
        why(same)
    panel = measured(Constant(), items_of(5), "length-courtesy")
    assert "no unit" in row_of(panel, "length-courtesy").finding
    left = measured(Rule(uneven), [*items_of(5), *same], "length-courtesy").left_out
    assert left == {"all replies are the same text, or empty": 1}


@pytest.mark.parametrize("pairwise", [False, True])
def test_answers_that_are_missing_are_counted(measured: Callable[..., BiasPanel], pairwise: bool) -> None:
    items = items_of(20)
    dead = {base_and_rival(item)[0] + SUFFIX for item in items[:6]}

    def answer(*texts: str) -> Any:
        return Scored(math.nan, why="refused") if dead & set(texts) else 0.5 if pairwise else uneven(texts[0])

    model: Any = Comparer(answer) if pairwise else Rule(answer)
    panel = measured(model, items, "length-courtesy", "authority-expert")
    row = row_of(panel, "length-courtesy")
    assert (row.n_pairs, row.n_invalid) == (14, 6)
    assert row_of(panel, "authority-expert").n_pairs == 20
    assert panel.unanswered == {"refused": 24 if pairwise else 6}
    if pairwise:  # the judge is never moved: none found, and the smallest effect that could be is said
        assert row.finding == "none found"
        assert row.smallest is not None


def write(path: Path, items: Sequence[Item]) -> Path:
    rows = [
        {
            "id": item.id,
            "prompt": item.prompt[0]["content"],
            "responses": [r.text for r in item.responses],
            "gold": [r.gold for r in item.responses],
            "tags": [dict(r.tags) for r in item.responses],
        }
        for item in items
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("RMBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "80")

    def go(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(["check", *words])
        told = capsys.readouterr()
        return code, told.out, told.err

    return go


def test_the_command_prints_a_table_json_and_a_page(
    check: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    data = write(tmp_path / "pairs.jsonl", with_generators(20))
    asked = ("--model", "length", "--bias", "--data", str(data), "--self", "other")
    code, out, err = check(*asked)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "length-repeated" in out
    assert "position: not applicable" in out
    page = tmp_path / "bias.html"
    code, out, _ = check(*asked, "--json", "--html", str(page))
    told = json.loads(out)
    assert code == 0
    assert told["prompts"] == 20
    assert [row["test"] for row in told["biases"]][-1] == "self-preference"
    rows = {row["test"]: row for row in told["biases"]}
    assert rows["markdown-plain"]["unchanged"] == 20
    assert rows["length-courtesy"]["finding"] == "favours it"
    assert rows["length-courtesy"]["p_holm"] < 0.05
    html = page.read_text()
    assert "length-courtesy" in html
    assert "http" not in html.replace("http-equiv", "")
    assert "--self other" in html
    before = html
    check(*asked, "--html", str(page))
    assert page.read_text() == before


def test_a_text_of_the_data_is_escaped_on_the_page(
    check: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    page = tmp_path / "bias.html"
    data = write(tmp_path / "<b>&.jsonl", items_of(6))
    name = "name=<script>x</script>"
    code, _, _ = check("-m", "length", "-M", name, "--bias", "--data", str(data), "--html", str(page))
    assert code == 0
    assert "<script>x" not in page.read_text()
    assert "<b>&" not in page.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--limit", "3"], "--limit without --bias"),
        (["--self", "x", "--edit", "length"], "--edit, --self without --bias"),
        (["--bias", "--edit", "length-courtsey"], "length-courtesy"),
        (["--bias", "--self", "me"], "no reply of the data names its generator"),
        (["--bias", "--data", "absent.jsonl"], "absent.jsonl"),
    ],
)
def test_refusals_of_the_command(
    check: Callable[..., tuple[int, str, str]], words: list[str], told: str
) -> None:
    code, out, err = check("--model", "length", *words)
    assert (code, out) == (2, "")
    assert told in err


def test_rewards_from_a_file_are_refused(check: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    file.write_text('{"id": "a", "rewards": [1.0, 2.0]}\n')
    code, _, err = check("--model", f"scores:{file}", "--bias")
    assert code == 2
    assert "edited reply" in err
