"""Records of a task of one's own are compared, shown and listed where its files are not at hand."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rmbench.cli.main import run

pytestmark = pytest.mark.long

METRIC = '''\
import numpy as np
from rmbench.stats import mean

from rmbench import Measured, Metric, Params, register_kind


@register_kind(
    "own-worst-avoided",
    title="Worst avoided",
    params=Params,
    metrics=[Metric("own_worst_avoided", "share of prompts whose pick is not the worst", in_strata=True)],
)
def measure(panel, params):
    """Measure how often the response with the highest reward is not the one with the lowest gold."""
    ends = zip(panel.offsets[:-1], panel.offsets[1:], strict=True)
    avoided = [float(panel.gold[a:b][panel.rewards[a:b].argmax()] > panel.gold[a:b].min()) for a, b in ends]
    return Measured({"own_worst_avoided": mean(np.array(avoided), panel.cluster, panel.n_clusters, bounded=True)})
'''
TASK = """\
name: own-task
version: 1
kinds: ["own_metric.py:own-worst-avoided", preference]
summary: How often the pick is not the worst response.
source: written for this test
license: CC0-1.0
data: {reader: jsonl, path: embedded/test.jsonl.xz}
primary: own_worst_avoided
"""


def test_compare_report_power_and_records_work_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "own_metric.py").write_text(METRIC)
    (here / "own-task.yaml").write_text(TASK)
    models = ["length", "markdown", "builtin:linear"]
    named = [word for model in models for word in ("-m", model)]
    # In a process of its own: this one never hears of the task.
    command = [
        sys.executable,
        "-m",
        "rmbench",
        "eval",
        *named,
        "-t",
        "own-task.yaml",
        "-q",
        "--store",
        "store",
    ]
    subprocess.run(command, cwd=here, check=True, capture_output=True)
    shutil.move(here / "results", there / "results")
    monkeypatch.chdir(there)
    for several in (models[:2], models):
        assert run(["compare", *several, "--task", "own-task", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert {verdict["metric"] for verdict in found["verdicts"]} == {"own_worst_avoided"}
        assert all(verdict["p"] is not None for verdict in found["verdicts"])
    assert run(["report", *models[:2], "--task", "own-task", "--out", "page.html"]) == 0
    assert "own_worst_avoided" in (there / "page.html").read_text()
    assert run(["power", *models[:2], "--task", "own-task", "--metric", "own_worst_avoided"]) == 0
    assert run(["records"]) == 0
    assert "own_worst_avoided" in capsys.readouterr().out
    # What needs the metric's code says where to name it, and does not run it.
    (record, *_) = sorted((there / "results").rglob("*.json"))
    assert run(["remeasure", str(record)]) == 2
    assert "RMBENCH_TASKS_DIR" in capsys.readouterr().err
