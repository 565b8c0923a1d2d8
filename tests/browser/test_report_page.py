"""What a reader does with a report: read it in the dark, on a phone, in print, follow its contents."""

import re
from pathlib import Path
from typing import Any

import pytest
from test_board_page import click, open_page, problems, requests


@pytest.fixture
def plain(driver: Any, reports: Path, screen: Any) -> Any:
    open_page(driver, reports / "plain.html")
    return driver


def test_a_report_says_no_error_and_asks_for_nothing(plain: Any, reports: Path) -> None:
    for summary in plain.find_elements("tag name", "summary"):
        plain.execute_script("arguments[0].click()", summary)
    click(plain, "#theme")
    assert problems(plain) == []
    assert requests(plain) == [(reports / "plain.html").as_uri()]


@pytest.mark.parametrize("name", ["plain", "hostile"])
@pytest.mark.parametrize("width", [320, 390, 800])
def test_on_a_narrow_screen_the_page_is_no_wider(
    driver: Any, reports: Path, screen: Any, name: str, width: int
) -> None:
    screen(width)
    open_page(driver, reports / f"{name}.html")
    driver.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    wide = driver.execute_script(
        "return [...document.querySelectorAll('svg.drawn')].filter(s => s.getBoundingClientRect().right"
        " > document.documentElement.clientWidth + 1).length"
    )
    assert wide == 0


def light(driver: Any, expression: str) -> float:
    """Return how light a colour is, from 0 to 1."""
    colour = driver.execute_script(f"return {expression}")
    assert colour.startswith("rgb"), colour
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 765


@pytest.mark.parametrize("dark", [False, True])
def test_figures_can_be_read_in_the_light_and_in_the_dark(
    driver: Any, reports: Path, screen: Any, dark: bool
) -> None:
    screen(dark=dark)
    open_page(driver, reports / "plain.html")
    for flipped in (False, True):
        if flipped:
            click(driver, "#theme")
        paper = light(driver, "getComputedStyle(document.body).backgroundColor")
        assert (paper < 0.2) == (dark != flipped)
        texts = light(driver, "getComputedStyle(document.querySelector('svg.drawn text')).fill")
        assert abs(paper - texts) > 0.6
        # Lines of the records: none is lost in the paper.
        lines = driver.execute_script(
            "return [...new Set([...document.querySelectorAll('svg.drawn [stroke^=\"var(--s\"]')]"
            ".map(e => getComputedStyle(e).stroke))]"
        )
        assert len(lines) == 2
        for colour in lines:
            value = sum(map(int, re.findall(r"\d+", colour)[:3])) / 765
            assert abs(paper - value) > 0.3, colour
    assert problems(driver) == []


def test_the_contents_lead_to_the_parts(plain: Any) -> None:
    for link in plain.find_elements("css selector", "nav a"):
        target = link.get_attribute("href").partition("#")[2]
        link.click()
        top = plain.execute_script(
            f"return document.getElementById('{target}').getBoundingClientRect().top / innerHeight"
        )
        assert -0.05 < top < 1
        plain.execute_script("scrollTo(0, 0)")


def test_an_item_shows_its_texts_when_it_is_opened(plain: Any) -> None:
    item = plain.find_element("css selector", "details.item")
    text = item.find_element("css selector", ".rejected .text")
    assert not text.is_displayed()
    item.find_element("tag name", "summary").click()
    assert text.is_displayed()
    assert "x" * 23 in text.text


def test_in_print_everything_is_open_and_the_controls_are_gone(
    driver: Any, reports: Path, screen: Any
) -> None:
    screen(medium="print")
    open_page(driver, reports / "plain.html")
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert not driver.find_element("id", "theme").is_displayed()
    assert driver.find_elements("css selector", "details:not([open])") == []
    driver.execute_script("dispatchEvent(new Event('afterprint'))")
    assert driver.find_elements("css selector", "details[open]") == []


def test_hostile_texts_run_nothing_and_break_no_figure(driver: Any, reports: Path, screen: Any) -> None:
    open_page(driver, reports / "hostile.html")
    assert driver.title.endswith(": report")
    assert driver.find_elements("tag name", "img") == []
    assert len(driver.find_elements("tag name", "h1")) == 1
    outside = driver.execute_script(
        "return [...document.querySelectorAll('svg.drawn *')].filter(e => e.namespaceURI"
        " !== 'http://www.w3.org/2000/svg').length"
    )
    assert outside == 0
    assert problems(driver) == []
    assert requests(driver) == [(reports / "hostile.html").as_uri()]


def test_the_policy_refuses_what_is_not_the_pages_own(plain: Any) -> None:
    plain.execute_script(
        "const s = document.createElement('script'); s.textContent = 'document.title = 1'; document.body.append(s);"
        "const i = new Image(); i.src = 'https://example.org/x.png'; document.body.append(i);"
    )
    assert plain.title.endswith(": report")
    assert len([p for p in problems(plain) if "Content Security Policy" in p]) == 2
