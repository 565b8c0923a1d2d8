"""What a reader does with the page of a board: sort, filter, hide, follow a link, on a phone, in the dark."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from synthetic_boards import HOSTILE, synthetic

from rmbench.core.escape import one_line

ROOT = Path(__file__).resolve().parent.parent.parent
COMMITTED = sorted((ROOT / "leaderboards").glob("*.html"))
BOARD = synthetic()


def open_page(driver: Any, path: Path) -> None:
    for kind in ("browser", "performance"):
        driver.get_log(kind)  # what earlier pages said
    driver.get(path.as_uri())


def click(driver: Any, selector: str) -> None:
    driver.find_element("css selector", selector).click()


def write(driver: Any, selector: str, text: str) -> None:
    field = driver.find_element("css selector", selector)
    field.clear()
    field.send_keys(text)


def shown(driver: Any) -> list[str]:
    """Return the models in view, from the top."""
    return list(
        driver.execute_script(
            "return [...document.querySelectorAll('#board tbody tr')].filter(r => r.getClientRects().length)"
            ".map(r => r.querySelector('th a').textContent)"
        )
    )


def head(driver: Any, n: int) -> Any:
    return driver.find_elements("css selector", ".heads th")[n]


def sort_by(driver: Any, n: int) -> str:
    head(driver, n).find_element("tag name", "button").click()
    return str(head(driver, n).get_attribute("aria-sort"))


def expected(column: str, *, falling: bool) -> list[str]:
    """Return the order by a column, worked out here: empty cells last, equal ones as they stood."""
    there = [r for r in BOARD.rows if column in r.cells]
    sign = -1 if falling else 1
    ordered = sorted(there, key=lambda r: sign * float(f"{r.cells[column].estimate.value:.6g}"))
    return [r.model for r in [*ordered, *[r for r in BOARD.rows if column not in r.cells]]]


def problems(driver: Any) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser")]


def requests(driver: Any) -> list[str]:
    """Return every address that was asked for since the page was opened."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@pytest.fixture
def small(driver: Any, pages: Path, screen: Any) -> Any:
    open_page(driver, pages / "small.html")
    return driver


def test_a_column_is_sorted_from_its_best_and_back(small: Any) -> None:
    assert sort_by(small, 4) == "descending"  # column 1, higher is better
    assert shown(small) == expected("c1", falling=True)
    assert sort_by(small, 4) == "ascending"
    assert shown(small) == expected("c1", falling=False)
    assert sort_by(small, 8) == "ascending"  # column 5, lower is better
    assert shown(small) == expected("c5", falling=False)
    assert head(small, 4).get_attribute("aria-sort") == "none"
    assert shown(small) != [r.model for r in BOARD.rows]


def test_empty_cells_stay_last(driver: Any, pages: Path, screen: Any) -> None:
    open_page(driver, pages / "large.html")
    for _ in range(2):
        sort_by(driver, 4)
        keys = driver.execute_script(
            "return [...document.querySelectorAll('#board tbody tr')].map(r => r.cells[4].dataset.v ?? null)"
        )
        first = keys.index(None)
        assert first > 400
        assert set(keys[first:]) == {None}


def test_names_are_sorted_by_letters(small: Any) -> None:
    assert sort_by(small, 1) == "ascending"
    assert shown(small) == sorted(r.model for r in BOARD.rows)


def test_search_filter_and_reset(small: Any) -> None:
    everything = [r.model for r in BOARD.rows]
    write(small, "#search", "MODEL-1")
    assert shown(small) == ["org/model-1", "org/model-10", "org/model-11"]
    assert small.find_element("id", "shown").text == "3 of 12 models"
    click(small, "#filter")
    write(small, ".filters td:nth-child(3) input", ">0.5")
    scores = {r.model: r.score.value for r in BOARD.rows if r.score}
    assert shown(small) == [m for m in ("org/model-1", "org/model-10", "org/model-11") if scores[m] > 0.5]
    write(small, "#search", "no such model")
    assert shown(small) == []
    assert small.find_element("id", "nothing").is_displayed()
    click(small, "#nothing button")
    assert shown(small) == everything
    assert not small.find_element("css selector", ".filters").is_displayed()


@pytest.mark.parametrize(
    ("text", "low", "high"), [(">=.4", 0.4, 9), ("0.4", 0.4, 9), ("< 4e-1", -9, 0.39999)]
)
def test_a_column_is_filtered_by_its_numbers(small: Any, text: str, low: float, high: float) -> None:
    click(small, "#filter")
    write(small, ".filters td:nth-child(5) input", text)
    cells = {r.model: r.cells["c1"].estimate.value for r in BOARD.rows if "c1" in r.cells}
    assert shown(small) == [m for m, v in cells.items() if low <= v <= high]
    assert 0 < len(shown(small)) < 12


def test_a_filter_that_is_no_number_is_marked_and_filters_nothing(small: Any) -> None:
    click(small, "#filter")
    write(small, ".filters td:nth-child(4) input", "> many")
    field = small.find_element("css selector", ".filters td:nth-child(4) input")
    assert field.get_attribute("aria-invalid") == "true"
    assert len(shown(small)) == 12


def test_shortcuts_and_contaminated_rows_can_be_hidden(small: Any) -> None:
    click(small, "#shortcuts")
    assert shown(small) == [r.model for r in BOARD.rows if not r.shortcut]
    click(small, "#contaminated")
    assert shown(small) == [r.model for r in BOARD.rows if not r.shortcut and not r.contaminated]
    assert len(shown(small)) == 8
    click(small, "#shortcuts")
    assert shown(small) == [r.model for r in BOARD.rows if not r.contaminated]


def test_columns_of_a_kind_can_be_hidden(small: Any) -> None:
    def visible() -> list[str]:
        heads = small.find_elements("css selector", ".heads button")
        return [h.text.split("\n")[0].rstrip(" ↑↓") for h in heads if h.is_displayed()]

    assert visible() == ["ranks", "model", "score", *[f"column {k}" for k in range(6)]]
    click(small, '[data-group="1"]')
    assert visible() == ["ranks", "model", "score", "column 0", "column 1", "column 4", "column 5"]
    cells = small.execute_script(
        "return [...document.querySelector('#board tbody tr').cells].map(c => c.hidden)"
    )
    assert cells == [False] * 5 + [True] * 2 + [False] * 2
    click(small, '[data-group="1"]')
    assert len(visible()) == 9


def test_a_models_name_leads_to_what_made_its_numbers(small: Any) -> None:
    small.find_element("link text", "org/model-3").click()
    made = small.find_element("id", "m4")
    assert made.is_displayed()
    assert "rmbench eval --model org/model-3 --task preference" in made.text


def test_the_link_to_the_table_leads_beside_the_page(small: Any) -> None:
    target = small.find_element("link text", "CSV").get_attribute("href")
    assert target.startswith("file:")
    assert target.endswith("/made-up.csv")


def test_bars_lie_where_their_numbers_are(small: Any) -> None:
    """The tick of each score, in pixels, is a linear function of the score."""
    places = small.execute_script(
        "return [...document.querySelectorAll('#board tbody tr')].filter(r => r.cells[2].dataset.v).map(r => {"
        "const box = r.cells[2].querySelector('svg').getBoundingClientRect();"
        "const tick = r.cells[2].querySelector('rect:last-child').getBoundingClientRect();"
        "return [Number(r.cells[2].dataset.v), (tick.left + tick.width / 2 - box.left) / box.width]})"
    )
    (v0, p0), (v1, p1) = places[0], places[-1]
    for value, place in places:
        assert place == pytest.approx(p0 + (value - v0) * (p1 - p0) / (v1 - v0), abs=0.01)
    assert p0 > p1


@pytest.mark.parametrize("dark", [False, True])
def test_the_colours_follow_the_system_and_the_button(
    driver: Any, pages: Path, screen: Any, dark: bool
) -> None:
    def light() -> float:
        colour = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 765

    screen(dark=dark)
    open_page(driver, pages / "small.html")
    assert (light() < 0.2) == dark
    click(driver, "#theme")
    assert (light() > 0.8) == dark
    assert problems(driver) == []


@pytest.mark.parametrize("name", ["small", "large"])
def test_on_a_phone_the_page_is_no_wider_than_the_screen(
    driver: Any, pages: Path, screen: Any, name: str
) -> None:
    screen(390)
    open_page(driver, pages / f"{name}.html")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
    # The table scrolls by itself; the model's name stays in view.
    left = driver.execute_script(
        "document.querySelector('.table').scrollTo(300, 0);"
        "return document.querySelector('#board tbody th').getBoundingClientRect().left"
    )
    assert 0 <= left < 5
    click(driver, "#shortcuts")
    assert "of" in driver.find_element("id", "shown").text


@pytest.mark.parametrize("name", ["small", "large"])
def test_heads_stand_above_their_columns(driver: Any, pages: Path, screen: Any, name: str) -> None:
    open_page(driver, pages / f"{name}.html")
    lefts = driver.execute_script(
        "const at = (c) => Math.round(c.getBoundingClientRect().left);"
        "return [[...document.querySelector('.heads').cells].map(at),"
        " [...document.querySelector('#board tbody tr').cells].map(at),"
        " [...document.querySelectorAll('.groups [data-g]')].map(at)]"
    )
    assert lefts[0] == pytest.approx(lefts[1], abs=1)
    assert lefts[2] == pytest.approx([lefts[0][3 + k * ((len(lefts[0]) - 3) // 3)] for k in range(3)], abs=1)


def test_in_print_the_controls_are_gone_and_the_table_is_whole(driver: Any, pages: Path, screen: Any) -> None:
    screen(medium="print")
    open_page(driver, pages / "small.html")
    assert not driver.find_element("id", "controls").is_displayed()
    box = driver.find_element("css selector", ".table")
    assert driver.execute_script("return getComputedStyle(arguments[0]).overflow", box) == "visible"
    assert len(shown(driver)) == 12


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_board_says_no_error_and_asks_for_nothing(driver: Any, screen: Any, path: Path) -> None:
    open_page(driver, path)
    for n in range(len(driver.find_elements("css selector", ".heads th"))):
        sort_by(driver, n)
    click(driver, "#shortcuts")
    click(driver, "#filter")
    click(driver, "#theme")
    click(driver, "#restore")
    assert problems(driver) == []
    assert {url for url in requests(driver) if not url.startswith("data:")} == {path.as_uri()}


def test_hostile_names_run_nothing(driver: Any, pages: Path, screen: Any) -> None:
    open_page(driver, pages / "hostile.html")
    assert driver.title == "A made-up board"
    assert shown(driver)[: len(HOSTILE)] == [one_line(name, 200) for name in HOSTILE]
    assert driver.find_elements("tag name", "img") == []
    write(driver, "#search", "<script>")
    assert shown(driver) == [HOSTILE[0]]
    assert problems(driver) == []
    assert requests(driver) == [(pages / "hostile.html").as_uri()]


def test_the_policy_refuses_a_script_and_a_style_that_are_not_the_pages_own(small: Any) -> None:
    small.execute_script(
        "const s = document.createElement('script'); s.textContent = 'document.title = 1'; document.body.append(s);"
        "const i = new Image(); i.src = 'https://example.org/x.png'; document.body.append(i);"
        "document.body.insertAdjacentHTML('beforeend', '<p id=\"styled\" style=\"color: rgb(1, 2, 3)\">x</p>')"
    )
    assert small.title == "A made-up board"
    assert small.find_element("id", "styled").value_of_css_property("color") != "rgba(1, 2, 3, 1)"
    assert len([p for p in problems(small) if "Content Security Policy" in p]) == 3


def test_without_javascript_all_numbers_can_be_read(driver: Any, pages: Path, screen: Any) -> None:
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        open_page(driver, pages / "small.html")
        assert not driver.find_element("id", "controls").is_displayed()
        assert BOARD.rows[0].model in driver.find_element("css selector", "#board tbody tr").text
        assert "0.900" in driver.find_element("css selector", "#board tbody tr").text
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_500_models_by_40_columns_are_interactive_within_a_second(
    driver: Any, pages: Path, screen: Any
) -> None:
    """Processor time of the page's thread until the script has run and a frame is drawn: no clock of a busy machine."""
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    open_page(driver, pages / "large.html")
    driver.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    )
    found = {m["name"]: m["value"] for m in driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]}
    driver.execute_cdp_cmd("Performance.disable", {})
    assert 0 < found["TaskDuration"] < 1
    assert driver.find_element("id", "shown").text == "500 models"
