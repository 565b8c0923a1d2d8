"""Malformed inputs from a seed: no traceback, no hang, no file half written. `campaign.py` makes thousands."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from campaign import Outcome, as_markdown, campaign, make, preload, summary
from samples import Sample, all_samples

from rmbench.cli.main import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def performed(samples: list[Sample], seed: int, n: int, below: Path) -> list[Outcome]:
    """Perform a campaign, print its figures, and return what broke a promise."""
    found = list(campaign(samples, seed, range(n), below))
    print(json.dumps(summary(found), indent=1))
    print(as_markdown(found))
    assert len(found) == n
    assert Counter(o.code for o in found)[2] > n / 4, "most inputs are refused"
    return [o for o in found if o.fails]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return all_samples(tmp_path_factory.mktemp("samples"), with_models=False)


def test_malformed_inputs_are_refused_in_one_line(samples: list[Sample], tmp_path: Path) -> None:
    assert not performed(samples, 1, 150, tmp_path)


def test_an_input_is_made_from_its_number_alone(samples: list[Sample], tmp_path: Path) -> None:
    for n in range(20):
        folders = [tmp_path / f"{n}-{k}" / "case" for k in (1, 2)]
        first, second = (make(samples, 7, n, folder) for folder in folders)
        assert (first.kind, first.told) == (second.kind, second.told)
        a, b = (
            {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file() and p.suffix != ".sqlite"}
            for f in folders
        )
        assert {p: raw for p, raw in a.items() if len(raw) < 10**6} == {
            p: raw for p, raw in b.items() if len(raw) < 10**6
        }


@pytest.mark.long
def test_every_sample_is_valid_before_it_is_damaged(samples: list[Sample], tmp_path: Path) -> None:
    """Else its damage would prove nothing."""
    for n, sample in enumerate(samples):
        assert sample.paths(sample.folder), sample.kind
        folder = tmp_path / str(n)
        shutil.copytree(sample.folder, folder)
        command = [word.replace("{d}", str(folder)) for word in sample.commands[0]]
        # Nobody answers at the judge's address: the run fails after its file was read.
        assert run(command) == (1 if sample.kind == "judge file" else 0), (sample.kind, command)


@pytest.mark.slow
def test_five_thousand_malformed_inputs(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra hf")
    preload()
    (tmp_path / "samples").mkdir()
    samples = all_samples(tmp_path / "samples")
    assert not performed(samples, 0, 5000, tmp_path)
