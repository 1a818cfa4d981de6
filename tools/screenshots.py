"""Photograph a chapter built by `make page`: light, dark, and as wide as a phone.

    python tools/screenshots.py tickets/subset-sums        -> _build/shots/tickets-subset-sums-{light,dark,phone}.png
    python tools/screenshots.py --full tickets/subset-sums  the same page of the whole book

Needs Chromium or Chrome. The pictures are for looking at; nothing is compared.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --hide-scrollbars --allow-file-access-from-files"
).split()
# A phone is a frame 400 px wide: browsers do not make a window that narrow.
PHONE = '<!doctype html><body style="margin:0"><iframe src="{}" style="width:400px;height:{}px;border:0"></iframe>'


def shoot(browser: str, page: Path, out: Path, width: int, height: int) -> None:
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [browser, *QUIET, f"--user-data-dir={profile}", f"--window-size={width},{height}",
             "--virtual-time-budget=15000", f"--screenshot={out}", page.as_uri()],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=180,
        )  # fmt: skip
    print(out.relative_to(ROOT))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapter")
    parser.add_argument("--full", action="store_true", help="take the page from _build/html")
    parser.add_argument("--height", type=int, default=4000, help="how much of the page, in pixels")
    given = parser.parse_args()
    browser = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if browser is None:
        print("No Chromium or Chrome found: install one to photograph pages", file=sys.stderr)
        return 1
    name = given.chapter.removeprefix("book/").removesuffix(".md")
    flat = name.replace("/", "-")
    top = ROOT / "_build" if given.full else ROOT / "_build" / "pages" / flat / "_build"
    page = top / "html" / "book" / f"{name}.html"
    if not page.is_file():
        print(f"{page.relative_to(ROOT)} is not built", file=sys.stderr)
        return 1
    shots = ROOT / "_build" / "shots"
    shots.mkdir(parents=True, exist_ok=True)
    text = page.read_text(encoding="utf-8")
    made = []
    try:
        for mode in ("light", "dark"):
            copy = page.with_name(f".{page.stem}-{mode}.html")
            script = f"<script>localStorage.setItem('mode','{mode}');localStorage.setItem('theme','{mode}')</script>"
            copy.write_text(text.replace("<head>", f"<head>{script}", 1), encoding="utf-8")
            made.append(copy)
            shoot(browser, copy, shots / f"{flat}-{mode}.png", 1280, given.height)
        frame = page.with_name(f".{page.stem}-phone.html")
        frame.write_text(PHONE.format(made[0].name, given.height), encoding="utf-8")
        made.append(frame)
        shoot(browser, frame, shots / f"{flat}-phone.png", 500, given.height)
    finally:
        for copy in made:
            copy.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
