"""Check built pages: links resolve, images say what they show and show something, nothing comes from another host.

    python tools/sitecheck.py _build/html

Standard library and Pillow. It reads the HTML as it stands on the disk, the way a reader without a network would.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes by which a page loads something, as opposed to linking to it.
LOADING = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "input": ("src",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
}
# `link rel=...` that make a browser fetch; canonical, next, prev, search and the like do not.
FETCHING = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch", "manifest"}
CSS_URL = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")
SCRIPT_IMPORT = re.compile(r"""\bimport\s*(?:\(\s*|[\w*{},\s]+from\s*)?['"]((?:https?:)?//[^'"]+)""")
REMOTE = re.compile(r"^(https?:)?//", re.IGNORECASE)


class Page(HTMLParser):
    """What one page defines (anchors), links to, loads and shows."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self._in: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._in = tag if tag in ("style", "script") else None
        for name in ("id", "name") if tag == "a" else ("id",):
            if given.get(name):
                self.anchors.add(given[name])
        if tag == "a" and given.get("href") is not None:
            self.links.append(given["href"])
        if tag == "link" and given.get("href"):
            rel = set((given.get("rel") or "").lower().split())
            if rel & FETCHING:
                self.loads.append(given["href"])
        for name in LOADING.get(tag, ()):
            value = given.get(name)
            if value:
                parts = value.split(",") if name == "srcset" else [value]
                self.loads.extend(part.split()[0] for part in parts if part.strip())
        if tag == "img":
            self.images.append(given)
        if given.get("style"):
            self.loads.extend(urls_in(given["style"]))

    def handle_endtag(self, tag: str) -> None:
        self._in = None

    def handle_data(self, data: str) -> None:
        if self._in == "style":
            self.loads.extend(urls_in(data))
        elif self._in == "script":
            self.loads.extend(SCRIPT_IMPORT.findall(data))


def urls_in(css: str) -> list[str]:
    return [first or second for first, second in CSS_URL.findall(css)]


class Site:
    """A folder of built pages."""

    def __init__(self, top: Path) -> None:
        self.top = top.resolve()
        files = sorted(self.top.rglob("*.html"))
        # The theme ships fragments and templates of its own below _static; they are no pages.
        files = [file for file in files if "_static" not in file.relative_to(self.top).parts]
        self.pages = {file: Page(file.read_text(errors="replace", encoding="utf-8")) for file in files}

    def name(self, path: Path) -> str:
        return path.relative_to(self.top).as_posix()

    def broken_links(self) -> Iterator[str]:
        """A relative link or asset whose file, or whose anchor in that file, is not there."""
        for file, page in self.pages.items():
            for link in dict.fromkeys([*page.links, *page.loads]):
                if is_elsewhere(link):
                    continue
                parts = urlsplit(link)
                target = file
                if parts.path:
                    base = self.top if parts.path.startswith("/") else file.parent
                    target = (base / unquote(parts.path).lstrip("/")).resolve()
                    if target.is_dir():
                        target = target / "index.html"
                if not target.is_relative_to(self.top) or not target.is_file():
                    yield f"{self.name(file)}: {link} leads to no file"
                    continue
                anchor = unquote(parts.fragment)
                if anchor and target in self.pages and anchor not in self.pages[target].anchors:
                    yield f"{self.name(file)}: {link}: no such anchor in {self.name(target)}"

    def remote_assets(self) -> Iterator[str]:
        """Anything a page, or a style sheet it may load, fetches from another host."""
        for file, page in self.pages.items():
            yield from (f"{self.name(file)}: loads {url}" for url in dict.fromkeys(page.loads) if REMOTE.match(url))
        for sheet in sorted(self.top.rglob("*.css")):
            for url in dict.fromkeys(urls_in(sheet.read_text(errors="replace", encoding="utf-8"))):
                if REMOTE.match(url):
                    yield f"{self.name(sheet)}: loads {url}"

    def images_without_words(self) -> Iterator[str]:
        """An image without alternative text, or with its own file name for one (what the builder puts by default)."""
        for file, page in self.pages.items():
            for image in page.images:
                source, alt = image.get("src") or "", (image.get("alt") or "").strip()
                shown = source if len(source) < 80 else source[:80] + "..."
                if not alt:
                    yield f"{self.name(file)}: {shown} has no alt text"
                elif source.endswith(alt) or alt.endswith(Path(urlsplit(source).path).name):
                    yield f"{self.name(file)}: {shown} has its file name for alt text: say what it shows"

    def blank_images(self) -> Iterator[str]:
        """A picture of a single colour: a figure that was never drawn."""
        from PIL import Image, UnidentifiedImageError

        seen: set[str] = set()
        for file, page in self.pages.items():
            for image in page.images:
                source = image.get("src") or ""
                try:
                    if source.startswith("data:image/"):
                        where, handle = f"{self.name(file)}: an inline image", inline(source)
                    elif is_elsewhere(source) or source.endswith(".svg"):
                        continue
                    else:
                        path = (file.parent / unquote(urlsplit(source).path)).resolve()
                        where, handle = self.name(path), path
                    if handle is None or where in seen or (isinstance(handle, Path) and not handle.is_file()):
                        continue
                    seen.add(where)
                    with Image.open(handle) as picture:
                        flat = picture.convert("RGBA")
                        if min(flat.size) < 2 or len(flat.getcolors(2) or (0, 0, 0)) < 2:
                            yield f"{where} is blank"
                except (UnidentifiedImageError, binascii.Error, OSError, ValueError) as error:
                    yield f"{self.name(file)}: {source[:80]} is no readable image ({error})"


def inline(source: str) -> io.BytesIO | None:
    """The bytes of a base64 data address; None for an inline SVG."""
    head, _, body = source.partition(",")
    if "svg" in head:
        return None
    return io.BytesIO(base64.b64decode(body, validate=True))


def is_elsewhere(link: str) -> bool:
    return bool(urlsplit(link).scheme) or link.startswith("//")


CHECKS = {
    "links and anchors resolve": Site.broken_links,
    "nothing is loaded from another host": Site.remote_assets,
    "every image has words": Site.images_without_words,
    "no image is blank": Site.blank_images,
}


def check(top: Path) -> list[str]:
    """All problems of the pages under `top`."""
    if not top.is_dir():
        return [f"{top}: no such folder: build the pages first"]
    site = Site(top)
    if not site.pages:
        return [f"{top}: no page in it"]
    problems = []
    for title, find in CHECKS.items():
        found = list(find(site))
        print(f"  {'ok    ' if not found else 'FAILED'}  {title}")
        problems += found
    images = sum(len(page.images) for page in site.pages.values())
    links = sum(len(page.links) for page in site.pages.values())
    print(f"== {len(site.pages)} pages, {links} links, {images} images, {len(problems)} problems ==")
    return problems


def main() -> int:
    problems = check(Path(sys.argv[1] if len(sys.argv) > 1 else "_build/html"))
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
