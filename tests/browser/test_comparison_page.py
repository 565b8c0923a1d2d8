"""What a reader does with a comparison: read it on a phone and in the dark; and a board's way to a report."""

import json
from pathlib import Path
from typing import Any

import pytest
from report_records import HOSTILE, evaluate
from test_board_page import click, open_page, problems, requests

from rmbench.cli.main import run

MODELS = ("length", "shortest", "markdown")


@pytest.fixture(scope="session")
def comparisons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of three models, `plain.html`, and one with hostile texts, `hostile.html`."""
    folder = tmp_path_factory.mktemp("comparisons")
    for name, texts in (("plain", ()), ("hostile", HOSTILE)):
        inside = folder / name
        inside.mkdir()
        results = evaluate(inside, *MODELS, texts=texts)
        given = ["--results", str(results), "--data", str(inside / "items.jsonl"), "-t", "preference"]
        assert run(["compare", *MODELS, *given, "--html", str(folder / f"{name}.html")]) == 0
    return folder


@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_a_comparison_says_no_error_and_asks_for_nothing(
    driver: Any, comparisons: Path, screen: Any, name: str
) -> None:
    open_page(driver, comparisons / f"{name}.html")
    for summary in driver.find_elements("tag name", "summary"):
        driver.execute_script("arguments[0].click()", summary)
    click(driver, "#theme")
    assert problems(driver) == []
    assert requests(driver) == [(comparisons / f"{name}.html").as_uri()]
    text = driver.find_element("tag name", "body").text
    assert all(model in text for model in MODELS)
    assert "Holm" in text


@pytest.mark.parametrize("name", ["plain", "hostile"])
@pytest.mark.parametrize("width", [320, 800])
def test_on_a_narrow_screen_a_comparison_is_no_wider(
    driver: Any, comparisons: Path, screen: Any, name: str, width: int
) -> None:
    screen(width)
    open_page(driver, comparisons / f"{name}.html")
    driver.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width


def test_a_number_of_a_board_leads_to_the_part_of_the_report_on_its_task(
    driver: Any, screen: Any, tmp_path: Path
) -> None:
    place = ["--results", str(tmp_path / "results"), "--store", str(tmp_path / "store"), "-q"]
    assert run(["eval", "-m", "length", "-m", "shortest", "-t", "preference", "-t", "bon", *place]) == 0
    (tmp_path / "boards").mkdir()
    columns = [
        {"id": "a", "task": "preference", "metric": "accuracy", "label": "accuracy"},
        {"id": "w", "task": "bon", "metric": "win_rate@max", "label": "win rate"},
    ]
    board = {"name": "small", "title": "Small", "summary": "Two.", "columns": columns, "rank_by": ["a"]}
    (tmp_path / "boards" / "small.yaml").write_text(json.dumps(board))
    site = ["--boards-dir", str(tmp_path / "boards"), "--out", str(tmp_path / "site"), "--with-reports"]
    assert run(["leaderboard", *site, "--results", str(tmp_path / "results")]) == 0
    open_page(driver, tmp_path / "site" / "small.html")
    links = driver.find_elements("css selector", "td a[href$='#on-bon']")
    assert len(links) == 2
    links[0].click()
    assert driver.current_url.endswith("#on-bon")
    assert driver.current_url.startswith((tmp_path / "site" / "reports").as_uri())
    top = driver.execute_script("return document.getElementById('on-bon').getBoundingClientRect().top")
    assert -5 <= top <= 400
    assert problems(driver) == []
