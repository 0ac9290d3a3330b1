"""Pictures of a report for the docs: `python tests/pictures.py results/small/report.html docs/images`.

Writes report.png, the first screen 1400 px wide, and report-phone.png, that of a phone. Needs chromium.
"""

import sys
import tempfile
from pathlib import Path

from browser import Browser

SCREENS = {"report": (1400, 1000), "report-phone": (400, 860)}


def main(page: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(Path(profile))
        for name, size_px in SCREENS.items():
            browser.open(page, *size_px)
            print(browser.screenshot(folder / f"{name}.png", whole=False))
        browser.close()


if __name__ == "__main__":
    main(*(Path(word).absolute() for word in sys.argv[1:]))
