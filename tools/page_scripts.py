"""A Sphinx extension: pages load no script that nobody runs.

The theme's live-code extension puts its settings on every page, twice, although nothing is launched from a page; the
second declaration is an error that every reader's console shows.
"""

from __future__ import annotations

from typing import Any


def is_live_code(script: Any) -> bool:
    """Whether a script of the page belongs to the extension for live code."""
    body = str(getattr(script, "attributes", {}).get("body", ""))
    return "THEBE_JS_URL" in body or "sphinx-thebe" in str(getattr(script, "filename", ""))


def drop_live_code(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    context["script_files"] = [script for script in context["script_files"] if not is_live_code(script)]


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", drop_live_code, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
