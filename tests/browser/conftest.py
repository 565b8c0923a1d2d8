"""A real headless Chromium (Debian: chromium, chromium-driver), driven by Selenium. `make test-browser`."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_records import HOSTILE as REPORT_HOSTILE
from report_records import evaluate, spoil
from synthetic_boards import HOSTILE, synthetic

from rmbench.boards.page import page_of
from rmbench.cli.main import run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: make test-browser"
    )
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    for name, path in found.items():
        if path is None:
            pytest.skip(f"{name} is not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = found["chromium"]
    for argument in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(found["chromedriver"])
    started = webdriver.Chrome(options=options, service=service)
    yield started
    started.quit()


Screen = Callable[..., None]


@pytest.fixture
def screen(driver: Any) -> Screen:
    """Set the width in CSS pixels, the colour scheme, and the medium."""

    def set_screen(width: int = 1400, *, dark: bool = False, medium: str = "") -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": scheme})

    set_screen()
    return set_screen


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two models, `plain.html`, and one whose every text is hostile, `hostile.html`."""
    folder = tmp_path_factory.mktemp("reports")
    for name, texts in (("plain", ()), ("hostile", REPORT_HOSTILE)):
        inside = folder / name
        inside.mkdir()
        results, data = evaluate(inside, "length", "markdown", texts=texts), inside / "items.jsonl"
        if texts:
            spoil(results)
        given = ["--data", f"preference={data}", "--data", f"bon={data}"]
        assert run(["report", str(results), *given, "--out", str(folder / f"{name}.html")]) == 0
    return folder


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for name, board in {
        "small": synthetic(),
        "large": synthetic(500, 40),
        "hostile": synthetic(len(HOSTILE) + 2, 6, HOSTILE),
    }.items():
        (folder / f"{name}.html").write_text(page_of(board), encoding="utf-8")
        (folder / "made-up.csv").write_text("a,b\n")
    return folder
