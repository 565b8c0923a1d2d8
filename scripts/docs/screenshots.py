"""Make the pictures of docs/img again, from boards and a report as they are now, with a headless Chromium.

    python scripts/docs/screenshots.py [--chromium PROGRAM] [--out FOLDER]

Debian: `apt-get install chromium`. The boards are those in leaderboards/; the report is made on the embedded
data, with the extra `train` installed.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BOARD = ROOT / "leaderboards" / "judgebench.html"
LONGEST_S = 120


@dataclass(frozen=True)
class Picture:
    """One screenshot: its file, the size of the window in CSS pixels, and how it is shown."""

    name: str
    width: int
    height: int
    dark: bool = False
    scale: int = 1


BOARDS = (
    Picture("board.png", 1280, 900),
    Picture("board-dark.png", 1280, 1180, dark=True),
    Picture("board-phone.png", 390, 844, scale=2),
)
REPORT = Picture("report.png", 1200, 1975)


def shoot(chromium: str, page: Path, picture: Picture, out: Path) -> None:
    """Write one picture of a page."""
    with tempfile.TemporaryDirectory() as profile:
        scheme = ["--blink-settings=preferredColorScheme=0"] if picture.dark else []
        command = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *scheme,
            f"--user-data-dir={profile}", f"--force-device-scale-factor={picture.scale}",
            f"--window-size={picture.width},{picture.height}",
            f"--screenshot={out / picture.name}", page.resolve().as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=LONGEST_S)


def report_page(folder: Path) -> Path:
    """Return a report on two models of the package."""
    rmbench = [sys.executable, "-m", "rmbench"]
    models = ["builtin:tiny", "builtin:linear"]
    named = [word for model in models for word in ("--model", model)]
    places = ["--results", str(folder / "results")]
    evaluate = ["eval", *named, "--task", "preference", "--task", "bon", "--quiet", *places]
    subprocess.run([*rmbench, *evaluate], check=True, capture_output=True)
    page = folder / "report.html"
    subprocess.run(
        [*rmbench, "report", *models, "--out", str(page), *places], check=True, capture_output=True
    )
    return page


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "img")
    asked = parser.parse_args()
    out = asked.out.resolve()
    for picture in BOARDS:
        shoot(asked.chromium, BOARD, picture, out)
    with tempfile.TemporaryDirectory() as folder:
        shoot(asked.chromium, report_page(Path(folder)), REPORT, out)


if __name__ == "__main__":
    main()
