"""Takes the pictures in docs/images from the synthetic run: python tests/report/screenshots.py docs/images"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from synthetic import make_run

from cai_bootstrap.report.build import build_report

DESKTOP = {"width": 1200, "height": 1000}
PHONE = {"width": 390, "height": 1100}
PICTURES = (
    ("report-light.png", "light", DESKTOP, None),
    ("report-items-dark.png", "dark", DESKTOP, "#changed"),
    ("report-phone.png", "light", PHONE, None),
)


def take(folder: Path) -> None:
    """Write the pictures, each under 300 kB."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as base, sync_playwright() as playwright:
        address = build_report(make_run(Path(base))).as_uri()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, scheme, size, section in PICTURES:
            page = browser.new_page(color_scheme=scheme, viewport=size)
            page.goto(address)
            if section:
                page.evaluate("(name) => document.querySelector(name).scrollIntoView()", section)
            page.screenshot(path=folder / name)
            page.close()
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
