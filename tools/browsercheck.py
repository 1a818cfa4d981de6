"""What only a browser can tell of the built pages: no error, solutions folded, the ledger's filter at work, and the
tool of the reader's own model: the same numbers as `prunequant report`, on its demo and on a shipped network.

    python tools/browsercheck.py _build/html              every chapter and page of reference
    python tools/browsercheck.py _build/html book/ledger   one of them

Needs Chromium or Chrome; where there is none it says so, and nothing is checked.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from browserpipe import Browser, BrowserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --allow-file-access-from-files --enable-logging=stderr --v=0"
    " --virtual-time-budget=10000 --dump-dom"
).split()
ERROR = re.compile(r'CONSOLE:\d+\] "(Uncaught.*|.*Error:.*)", source: (\S+)')
FOLDED = re.compile(r'class="([^"]*\badmonition\b[^"]*)"')


def find() -> str | None:
    """The first browser at hand."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def visit(browser: str, page: Path, query: str = "") -> tuple[str, list[str]]:
    """The page as scripts leave it, and the errors that its console shows."""
    with tempfile.TemporaryDirectory() as profile:
        address = page.resolve().as_uri() + query
        done = subprocess.run(
            [browser, *QUIET, f"--user-data-dir={profile}", address],
            capture_output=True, text=True, timeout=180, check=True,
        )  # fmt: skip
    return done.stdout, [f"{said} ({source.rsplit('/', 1)[-1]})" for said, source in ERROR.findall(done.stderr)]


def standing_open(dom: str) -> list[str]:
    """Boxes that should be folded when the page opens, and are not."""
    boxes = [set(classes.split()) for classes in FOLDED.findall(dom)]
    return [" ".join(sorted(box)) for box in boxes if "dropdown" in box and not box & {"toggle-hidden", "toggle-shown"}]


def rows(dom: str) -> tuple[list[str], list[str]]:
    """The rows of the ledger that are shown, and those that are hidden, by their anchors."""
    found = re.findall(r"<tr([^>]*)>\s*<td[^>]*>(?:<p>)?<span class=\"pq-row\" id=\"([^\"]+)\"", dom)
    return ([name for about, name in found if "hidden" not in about], [n for about, n in found if "hidden" in about])


def filter_problems(browser: str, page: Path) -> Iterator[str]:
    """What is wrong with the choice of rows, asked through the address as a reader's choice is kept."""
    everything, hidden = rows(visit(browser, page)[0])
    if not everything or hidden:
        yield f"without a choice {len(everything)} rows are shown and {len(hidden)} hidden"
    for query, fits in (
        ("?verdict=loose", lambda row: 'data-verdict="loose"' in row),
        ("?part=paths&paper=this%20book", lambda row: 'data-part="paths"' in row and 'data-paper="this book"' in row),
    ):
        dom, _ = visit(browser, page, query)
        shown, others = rows(dom)
        wanted = re.findall(r'<span class="pq-row" id="([^"]+)"([^>]*)>', dom)
        right = [name for name, about in wanted if fits(about)]
        if shown != right or sorted(shown + others) != sorted(everything) or not shown:
            yield f"{query} shows {len(shown)} rows where {len(right)} fit"
    nothing, _ = rows(visit(browser, page, "?text=thewordthatnorowhas")[0])
    if nothing:
        yield f"a word that no row has leaves {len(nothing)} rows"


def losses(report: dict) -> dict[tuple[str, str], float | None]:
    """dB of every scheme of every matrix, None where nothing is lost."""
    return {(row["name"], found["name"]): found["snr"] for row in report["matrices"] for found in row["schemes"]}


def tool_problems(browser: str, page: Path, files: Sequence[Path] = (), seconds: float = 300) -> Iterator[str]:
    """What is wrong with the tool of the reader's own model: its demo and these files, each against `report`."""
    from prunequant import checkpoint

    with tempfile.TemporaryDirectory() as folder, Browser(browser) as led:
        led.open(page)
        shown = Path(folder) / "demo.safetensors"
        raw = led.value(
            "modelReport.core.demo().arrayBuffer().then(b => btoa(Array.from(new Uint8Array(b),"
            " c => String.fromCharCode(c)).join('')))"
        )
        shown.write_bytes(base64.b64decode(raw))
        for path in (shown, *files):
            led.value("modelReport.last = null; 0")
            led.choose("#model-report-file", path)
            try:
                said = json.loads(led.wait("modelReport.last && JSON.stringify(modelReport.last)", seconds))
            except BrowserError as error:
                yield f"{path.name}: {error}"
                continue
            if "error" in said:
                yield f"{path.name}: {said['error']}"
                continue
            ours, theirs = losses(checkpoint.report(path).to_json()), losses(said["report"])
            if ours.keys() != theirs.keys() or not ours:
                yield f"{path.name}: {len(theirs)} losses where there are {len(ours)}"
            apart = [key for key in ours.keys() & theirs.keys() if _apart(ours[key], theirs[key])]
            if apart:
                yield f"{path.name}: {len(apart)} losses differ by more than .01 dB, first {apart[0]}"
            rows = led.value("document.querySelectorAll('.pq-report-table')[0].tBodies[0].rows.length")
            if rows != len(said["report"]["matrices"]):
                yield f"{path.name}: the table shows {rows} rows"
        yield from led.errors


def _apart(a: float | None, b: float | None) -> bool:
    return a != b if a is None or b is None else abs(a - b) > 0.01


def shipped(folder: Path) -> list[Path]:
    """EfficientNet-Lite0 as a safetensors file, where its package is installed."""
    from prunequant.extras import MissingExtra
    from prunequant.models.efficientnet import load_efficientnet_lite0

    try:
        state = load_efficientnet_lite0().state_dict()
    except MissingExtra:
        return []
    from safetensors.torch import save_file

    path = folder / "efficientnet-lite0.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, path)
    return [path]


def own_model(browser: str, page: Path, network: bool) -> list[str]:
    """The tool on the built page, with its demo and, where asked, the shipped network."""
    if not network:
        return list(tool_problems(browser, page))
    with tempfile.TemporaryDirectory() as folder:
        return list(tool_problems(browser, page, shipped(Path(folder))))


def look(browser: str, top: Path, name: str, network: bool = True) -> list[str]:
    """What is wrong with one page."""
    page = top / f"{name}.html"
    dom, errors = visit(browser, page)
    found = [*errors, *(f"stands open: {box}" for box in standing_open(dom))]
    if name == "book/practice/your-own-model":
        found += own_model(browser, page, network)
    return [*found, *(filter_problems(browser, page) if name == "book/ledger" else ())]


def main() -> int:
    top = Path(sys.argv[1])
    browser = find()
    if browser is None:
        print("no Chromium and no Chrome at hand: pages were not looked at in a browser")
        return 0
    network = not sys.argv[2:]  # a few named pages are looked at in every `make test`, which has no minute for it
    names = sys.argv[2:] or [
        page.relative_to(top).with_suffix("").as_posix()
        for page in sorted((top / "book").rglob("*.html"))
        if "library" not in page.parts
    ]
    problems = 0
    with ThreadPoolExecutor(int(os.environ.get("JOBS", "2"))) as pool:
        for name, found in zip(names, pool.map(lambda name: look(browser, top, name, network), names)):
            for line in found:
                print(f"{name}: {line}", file=sys.stderr)
            problems += len(found)
            if sys.stdout.isatty():
                print(f"\r{name:60s}", end="", flush=True)
    print(f"{len(names)} pages looked at in a browser, {problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
