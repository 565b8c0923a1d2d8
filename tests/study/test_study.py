"""A study: a grid of tiny models, restarted, compared in pairs."""

import csv
import json
import lzma
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from strict_latex import read_latex

from rmbench.cli.main import run

Make = Callable[..., Path]
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog"]


@pytest.fixture
def places(make_checkpoint: Make, tmp_path: Path) -> Path:
    """Two bases, pairs to train on and pairs to evaluate on, under one folder."""
    for seed, name in enumerate(("small", "other")):
        make_checkpoint("llama", head=False, seed=seed, folder=f"here/{name}")
    for part, start in (("train", 0), ("test", 1000)):
        rng = random.Random(start)
        rows = [
            {
                "id": f"{part}{k}",
                "prompt": f"What is {start + k}?",
                "chosen": " ".join(rng.choices(WORDS, k=5)) + (" Paris" if rng.random() < 0.8 else " 9"),
                "rejected": " ".join(rng.choices(WORDS, k=5)) + " 9 9",
            }
            for k in range(60)
        ]
        (tmp_path / "here" / f"{part}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return tmp_path / "here"


def study_file(tmp_path: Path, **changes: object) -> Path:
    task = {
        "name": "mine", "version": 1, "kinds": ["preference", "calibration"], "summary": "A task.",
        "source": "https://example.org", "license": "MIT", "data": {"reader": "pairs"}, "primary": "accuracy",
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(task))
    spec = {
        "name": "tiny",
        "summary": "A tiny study.",
        "bases": {"small": "{here}/small", "other": "{here}/other"},
        "data": [{"name": "capitals", "source": "{here}/train.jsonl"}],
        "methods": [
            {"name": "bradley-terry"},
            {"name": "confidence", "loss": "confidence-margin"},
            {"name": "thresholded", "loss": "confidence-margin", "options": {"threshold": "mean", "cap": 2}},
        ],
        "seeds": 2,
        "train": {
            "freeze_backbone": True,
            "epochs": 3,
            "batch_size": 8,
            "max_length": 64,
            "learning_rate": 0.01,
        },
        "evaluate": [{"task": str(tmp_path / "mine.yaml"), "data": "{here}/test.jsonl"}],
        "reference": "bradley-terry",
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**spec, **changes}))
    return path


def arguments(file: Path, places: Path) -> list[str]:
    folder = file.parent
    return ["study", str(file), "--place", f"here={places}", "--models-dir", str(folder / "runs"), "-q", "--device", "cpu",
            "--results", str(folder / "results"), "--out", str(folder / "out"), "--store", str(folder / "store")]  # fmt: skip


def test_a_grid_is_trained_evaluated_and_compared_and_nothing_is_done_twice(
    places: Path, tmp_path: Path
) -> None:
    file = study_file(tmp_path)
    assert run(arguments(file, places)) == 0
    models = sorted(p.name for p in (tmp_path / "runs" / "tiny").iterdir())
    assert len(models) == 2 * 3 * 2
    assert models[0] == "other.capitals.bradley-terry.0"
    assert not list((tmp_path / "runs").rglob("model.safetensors")), "heads alone are kept"
    files = {
        p: p.stat().st_mtime_ns for d in ("runs", "results") for p in (tmp_path / d).rglob("*") if p.is_file()
    }
    names = ["study.md", "study.csv", "capitals.deciles.svg", "capitals.deciles.png", "capitals.margins.svg",
             "capitals.training.svg"]  # fmt: skip
    tables = [(tmp_path / "out" / name).read_bytes() for name in names]
    assert run(arguments(file, places)) == 0
    assert {p: p.stat().st_mtime_ns for p in files} == files
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == tables
    assert str(tmp_path) not in tables[0].decode()


@pytest.mark.long
def test_a_base_may_be_trained_in_its_own_way_and_figures_are_linked(places: Path, tmp_path: Path) -> None:
    bases = {
        "small": "{here}/small",
        "whole": {"path": "{here}/other", "train": {"freeze_backbone": False, "epochs": 1}},
    }
    methods = [{"name": "bradley-terry"}, {"name": "confidence-margin"}]
    packed = tmp_path / "records.jsonl.xz"
    study = study_file(tmp_path, bases=bases, methods=methods)
    assert run([*arguments(study, places), "--records", str(packed)]) == 0
    assert str(tmp_path) not in lzma.decompress(packed.read_bytes()).decode(), "no folder of this machine"
    weights = {p.parent.name for p in (tmp_path / "runs" / "tiny").rglob("model.safetensors")}
    assert weights == {f"whole.capitals.{m['name']}.{seed}" for m in methods for seed in (0, 1)}
    written = json.loads(next((tmp_path / "runs" / "tiny").glob("whole*/rmbench.json")).read_text())
    assert written["identity"]["settings"]["epochs"] == 1
    page = (tmp_path / "out" / "study.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", page.partition("## Figures")[2])
    assert "capitals.margins.svg" in links
    assert set(links) == {p.name for p in (tmp_path / "out").iterdir() if p.suffix in (".svg", ".png")}


def test_numbers_are_means_over_seeds_and_differences_are_paired(places: Path, tmp_path: Path) -> None:
    assert run(arguments(study_file(tmp_path), places)) == 0
    with (tmp_path / "out" / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    records = [json.loads(p.read_text()) for p in (tmp_path / "results").glob("*/*/*.json")]

    def values(base: str, method: str, metric: str) -> list[float]:
        named = {r["model"]: r["metrics"] for r in records}
        return [named[f"{base}.capitals.{method}.{seed}"][metric]["value"] for seed in (0, 1)]

    for base in ("small", "other"):
        for method in ("bradley-terry", "confidence", "thresholded"):
            (row,) = [r for r in rows if (r["base"], r["method"], r["metric"]) == (base, method, "accuracy")]
            assert float(row["mean"]) == pytest.approx(np.mean(values(base, method, "accuracy")), abs=1e-5)
            assert float(row["sd_over_seeds"]) == pytest.approx(
                np.std(values(base, method, "accuracy"), ddof=1), abs=1e-5
            )
            if method == "bradley-terry":
                assert row["difference"] == ""
            else:
                expected = np.mean(values(base, method, "nll")) - np.mean(
                    values(base, "bradley-terry", "nll")
                )
                (nll,) = [r for r in rows if (r["base"], r["method"], r["metric"]) == (base, method, "nll")]
                assert float(nll["difference"]) == pytest.approx(expected, abs=1e-5)
                assert float(nll["low"]) <= float(nll["difference"]) <= float(nll["high"])
    losses = {m: np.mean(values("small", m, "margin_mean")) for m in ("bradley-terry", "confidence")}
    assert losses["confidence"] > losses["bradley-terry"], "a margin in the loss widens margins"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"refrence": "x"}, "Did you mean 'reference'"),
        ({"reference": "bradley"}, "Did you mean 'bradley-terry'"),
        ({"seeds": 0}, "whole number from 1"),
        ({"train": {"epoch": 1}}, "Did you mean 'epochs'"),
        ({"train": {"batch_size": 1}}, "expected a whole number from 2"),
        ({"bases": {"b": "{there}/small"}}, "say --place there=PATH"),
        ({"bases": {"b": "{here.x}/small"}}, "no path with {places}"),
        ({"bases": {"b": {"path": "x", "train": {"epoch": 1}}}}, "Did you mean 'epochs'"),
        ({"bases": {"b": {"pth": "x"}}}, "Did you mean 'path'"),
        ({"bases": {"b": {"path": "x", "train": {"eval_limit": 9}}}}, "the same for all bases"),
        ({"methods": []}, "expected a list"),
        ({"methods": [{"name": "bradley-terry"}, {"name": "x", "loss": "confidence-margn"}]}, "Did you mean 'confidence-margin'"),
        ({"evaluate": [{"task": "preferense"}]}, "Did you mean 'preference'"),
        ({"versus": [["thresholded"]]}, "expected a pair [METHOD, OTHER]"),
        ({"versus": [["thresholded", "confidense"]]}, "Did you mean 'confidence'"),
        ({"batch_sizes": [1]}, "expected a whole number from 2"),
        ({"data": [{"name": "a", "source": "x", "part": "0.5"}]}, "LOW:HIGH"),
        ({"data": [{"name": "a", "source": "x", "like": "preferense"}]}, "Did you mean 'preference'"),
        ({"train": {"precision": "bf16"}}, "Did you mean 'bfloat16'"),
        ({"data": [{"name": "a", "source": "x"}, {"name": "a", "source": "y"}]}, "the same name"),
    ],
)  # fmt: skip
def test_a_wrong_study_stops_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], said: str
) -> None:
    file = study_file(tmp_path, **changes)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "test.jsonl").write_text('{"prompt": "Q", "chosen": "a", "rejected": "b"}\n')
    capsys.readouterr()
    assert run(arguments(file, tmp_path / "here")) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_a_head_has_the_rewards_of_the_folder_that_train_makes(places: Path, tmp_path: Path) -> None:
    assert run(arguments(study_file(tmp_path), places)) == 0
    folder = tmp_path / "plain-model"
    train = f"train --base {places / 'small'} --data {places / 'train.jsonl'} --out {folder} --freeze-backbone --seed 1"
    how = "--epochs 3 --batch-size 8 --max-length 64 --learning-rate 0.01 --device cpu -q"
    assert run([*train.split(), *how.split()]) == 0
    what = f"eval -m {folder} -M name=plain -M max_length=64 -t {tmp_path / 'mine.yaml'}"
    more = f"--data {places / 'test.jsonl'} --results {tmp_path / 'plain'} --store {tmp_path / 's'} -q --device cpu"
    assert run([*what.split(), *more.split()]) == 0
    (plain,) = [json.loads(p.read_text()) for p in (tmp_path / "plain").rglob("*.json")]
    cell = tmp_path / "results" / "small.capitals.confidence.1"
    (shared,) = [json.loads(p.read_text()) for p in cell.rglob("*.json")]
    for name in ("accuracy", "nll", "margin_mean"):
        assert shared["metrics"][name]["value"] == pytest.approx(plain["metrics"][name]["value"], abs=1e-5)
    assert shared["counts"]["trained_on"] == plain["counts"]["trained_on"]


@pytest.mark.long
def test_parts_split_by_prompt_and_share_none(places: Path, tmp_path: Path) -> None:
    from rmbench.study.run import pairs_of
    from rmbench.study.spec import load_study
    from rmbench.tasks.spec import load_task

    data = [{"name": "capitals", "source": ["{here}/train.jsonl", "{here}/test.jsonl"], "part": "0:0.5"}]
    file = study_file(
        tmp_path,
        data=data,
        evaluate=[{"task": "mine.yaml", "data": "{here}/test.jsonl", "part": "0.5:1"}],
    )
    assert run(arguments(file, places)) == 0
    spec = load_study(file, {"here": str(places)})
    assert load_task(spec.evaluate[0].task).name == "mine"
    pairs = pairs_of(spec.data[0], 0, None, offline=True)
    assert 30 < len(pairs.train) + len(pairs.held_out) < 90, "about half of 120"
    records = [json.loads(p.read_text()) for p in (tmp_path / "results").rglob("*.json")]
    for record in records:
        assert record["counts"]["trained_on"]["exact"] == 0
        assert 10 < record["counts"]["items"] < 50


@pytest.mark.long
def test_batch_sizes_are_watched_and_records_go_into_one_file(places: Path, tmp_path: Path) -> None:
    file = study_file(tmp_path, bases={"small": "{here}/small"}, batch_sizes=[4, 16])
    packed = tmp_path / "records.jsonl.xz"
    assert run([*arguments(file, places), "--records", str(packed)]) == 0
    page = (tmp_path / "out" / "study.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| small | capitals | ")]
    watched = {int(r[2]): [float(v.strip(" |")) for v in r[3:]] for r in rows if len(r) == 9}
    assert set(watched) == {4, 16}
    assert watched[4][0] > watched[16][0], "more steps of fewer pairs"
    assert watched[4][2] > watched[16][2], "the mean of fewer pairs jumps more"
    assert (tmp_path / "out" / "batch-size.svg").is_file()
    records = [json.loads(line) for line in lzma.decompress(packed.read_bytes()).splitlines()]
    stored = [json.loads(p.read_text()) for p in (tmp_path / "results").rglob("*.json")]
    assert sorted(r["model"] for r in records) == sorted(r["model"] for r in stored)
    assert len(records) == 3 * 2
    assert {r["provenance"]["data"] for r in records} == {"test.jsonl"}, "no folder of this machine"


def test_two_methods_are_compared_with_each_other(places: Path, tmp_path: Path) -> None:
    changes = {"bases": {"small": "{here}/small"}, "versus": [["thresholded", "confidence"]]}
    assert run(arguments(study_file(tmp_path, **changes), places)) == 0
    with (tmp_path / "out" / "study.csv").open() as file:
        means = {(r["method"], r["metric"]): float(r["mean"]) for r in csv.DictReader(file)}
    page = (tmp_path / "out" / "study.md").read_text().partition("## thresholded against confidence\n")[2]
    head, _, row = page.strip().splitlines()[:3]
    columns = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    told = float(re.findall(r"[-+]\d\.\d+", columns["nll"])[0])
    assert told == pytest.approx(means["thresholded", "nll"] - means["confidence", "nll"], abs=6e-4)
    tables = {t.label: t for t in read_latex((tmp_path / "out" / "study.tex").read_text(encoding="utf-8"))}
    versus = tables["study-tiny-thresholded-against-confidence"]
    assert float(re.findall(r"[-+]\d\.\d+", versus.rows[1][versus.rows[0].index("nll")])[0]) == told
    assert [row[:3] for row in tables["study-tiny-nll"].rows[1:]] == [row[:3] for row in versus.rows[1:]]
    bold = (tmp_path / "out" / "study.md").read_text().count("**") // 2 - 2  # two stand in the legend
    assert sum(r"\mathbf" in cell for t in tables.values() for row in t.rows for cell in row) == bold


def test_the_interval_of_a_difference_covers_prompts_and_seeds() -> None:
    from rmbench.stats import mean
    from rmbench.study.tables import compare_over_seeds

    rng = np.random.default_rng(0)
    held, alone = 0, 0
    truth = 0.1
    for _ in range(600):
        prompts = rng.normal(0, 1, 60)
        quirk = rng.normal(0, 0.3, 60)
        a, b = [], []
        for _ in range(5):
            noise = rng.normal(0, 0.15, 2)  # what a seed does to a whole model
            own = rng.normal(0, 0.2, (2, 60))
            a.append({"m": mean(prompts + truth + quirk + noise[0] + own[0], np.arange(60), 60)})
            b.append({"m": mean(prompts + noise[1] + own[1], np.arange(60), 60)})
        found = compare_over_seeds([(x["m"], y["m"]) for x, y in zip(a, b, strict=True)])
        assert found is not None
        low, high = found.difference.ci95 or (0, 0)
        held += low <= truth <= high
        by_prompt = [x["m"].value - y["m"].value for x, y in zip(a, b, strict=True)]
        alone += abs(np.mean(by_prompt) - truth) <= 2 * 0.3 / np.sqrt(60)
    assert 0.93 <= held / 600 <= 0.98
    assert alone / 600 < 0.9, "prompts alone would be too narrow"
