"""The library's and the tests' source as pages of the site, so that a claim's card leads to its check and its test.

A module `src/prunequant/claims/tickets/moments.py` becomes `source/src/prunequant/claims/tickets/moments.py.html`, and
its test `source/tests/claims/tickets/test_moments.py.html`. Anchors: every line (`#L12`), every function, class and
method by its dotted name, and every claim by its id.
"""

from __future__ import annotations

import ast
import html
import re
from pathlib import Path

CLAIMS = re.compile(r"(?:src/prunequant|tests)/claims/([a-z]+)/(?:test_)?([a-z0-9_]+)\.py")
CLAIM_ID = re.compile(r"[a-z0-9]+\.[a-z0-9_]+")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>
:root {{ color-scheme: light dark; --ground: #fcfcfa; --ink: #222; --dim: #6e6e6e; --mark: #fff3c4; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ground: #14181d; --ink: #ddd; --dim: #9a9a9a; --mark: #3b3416; }} }}
body {{ margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 0.95rem/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.1rem; font-weight: 600; overflow-wrap: anywhere; }}
a {{ color: inherit; }}
pre {{ overflow-x: auto; font: 0.85rem/1.5 ui-monospace, monospace; }}
.at {{ color: var(--dim); text-decoration: none; user-select: none; display: inline-block; width: 3.2em;
  text-align: right; margin-right: 1.2em; }}
.card {{ font: 0.8rem/1.5 system-ui, sans-serif; color: var(--dim); }}
.line:target, .line:has(:target) {{ background: var(--mark); }}
{light}
@media (prefers-color-scheme: dark) {{ {dark} }}
</style></head><body>
<p><a href="{up}book/index.html">Prune or Quantize?</a>{chapter}</p>
<h1>{name}</h1>
<pre><code>{code}</code></pre>
</body></html>
"""


def anchors(text: str) -> dict[int, list[str]]:
    """Line -> names that a link may use for it."""
    found: dict[int, list[str]] = {}

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                found.setdefault(first, []).append(f"{prefix}{child.name}")
                for decorator in child.decorator_list:
                    if isinstance(decorator, ast.Call):
                        for word in decorator.keywords:
                            if word.arg == "id" and isinstance(word.value, ast.Constant):
                                found[first].append(str(word.value.value))
                walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, (ast.If, ast.Try)):
                walk(child, prefix)

    walk(ast.parse(text), "")
    return found


def chapter_of(name: str, up: str) -> str:
    """Where the chapter lies whose claims a module declares or tests; empty for any other module."""
    found = CLAIMS.fullmatch(name)
    return f"{up}book/{found[1]}/{found[2].replace('_', '-')}.html" if found and not found[2].startswith("_") else ""


def card_link(word: str, chapter: str) -> str:
    """From a claim's declaration to its card, or nothing where no claim is declared."""
    if not chapter or not CLAIM_ID.fullmatch(word):
        return ""
    return f'<a class="card" href="{chapter}#claim-{re.sub("[^a-z0-9]+", "-", word)}">card and proof</a> '


def page(name: str, text: str, up: str) -> str:
    """One module as HTML; `up` leads from it to the root of the site."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    formatter = HtmlFormatter(nowrap=True)
    lines = highlight(text, PythonLexer(stripnl=False), formatter).splitlines()
    where, seen, body = anchors(text), set(), []
    chapter = chapter_of(name, up)
    for number, line in enumerate(lines, 1):
        names = [word for word in where.get(number, []) if word not in seen]
        seen.update(names)
        marks = "".join(f'<span id="{html.escape(word)}"></span>' for word in names)
        cards = "".join(card_link(word, chapter) for word in names)
        body.append(
            f'<span class="line" id="L{number}">{marks}<a class="at" href="#L{number}">{number}</a>{cards}{line}</span>'
        )
    return PAGE.format(
        name=html.escape(name),
        up=up,
        chapter=f' · <a href="{chapter}">the chapter</a>' if chapter else "",
        code="\n".join(body),
        light=HtmlFormatter(style="tango").get_style_defs("pre"),
        dark=HtmlFormatter(style="github-dark").get_style_defs("pre"),
    )


def write_all(root: Path, site: Path) -> int:
    """Write the page of every module of `src` and `tests` under `site`/source; how many."""
    count = 0
    for top in ("src", "tests"):
        for path in sorted((root / top).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            text = path.read_text(encoding="utf-8")
            out = site / "source" / f"{name}.html"
            out.parent.mkdir(parents=True, exist_ok=True)
            up = "../" * (len(Path(name).parts))
            out.write_text(page(name, text, up), encoding="utf-8")
            count += 1
    return count
