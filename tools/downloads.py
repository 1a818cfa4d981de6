"""A Sphinx extension: each chapter's page offers its executed notebook and, with a repository named, ways to launch it.

    _build/executed/PART/NAME.ipynb  ->  html/notebooks/PART/NAME.ipynb, first in the menu of downloads

The theme adds the launch links when `_config.yml` names the repository: Binder opens the chapter's source there. Colab
opens only what lies in a repository, and the executed notebooks lie on a branch of their own, which the publishing
workflow writes: its link is led there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chapters import Chapter, write_notebook
from notebooks import is_executed, take_away

FOLDER = "notebooks"
BRANCH = "notebooks"


def executed(app: Any, page: str) -> Chapter | None:
    """The chapter that a page shows, if it has been executed as it stands."""
    chapter = Chapter(Path(app.srcdir).resolve(), page.removeprefix("book/"))
    return chapter if page.startswith("book/") and is_executed(chapter) else None


def repository(app: Any) -> str:
    return (app.config.html_theme_options.get("repository_url") or "").rstrip("/")


def no_launch_without_a_repository(app: Any, config: Any) -> None:
    if not repository(app):
        config.html_theme_options["launch_buttons"] = {}


def add_links(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Put the notebook first among the downloads, and lead Colab to it."""
    chapter = executed(app, page)
    groups = {group.get("label"): group["buttons"] for group in context.get("header_buttons", []) if "buttons" in group}
    if chapter and "download-buttons" in groups:
        downloads = groups["download-buttons"]
        # With launch links the theme offers a notebook too, in MyST and without the note on how to run it.
        downloads[:] = [button for button in downloads if button.get("label") != "download-notebook-button"]
        button = {
            "type": "link",
            "url": context["pathto"](f"{FOLDER}/{chapter.name}.ipynb", 1),
            "text": ".ipynb",
            "icon": "fas fa-code",
            "tooltip": "Download the executed notebook",
            "label": "download-notebook-button",
        }
        downloads.insert(0, button)
    launches = groups.get("launch-buttons", [])
    for button in list(launches):
        if button["text"] == "Colab":
            where, _, _ = button["url"].partition("/blob/")
            button["url"] = f"{where}/blob/{BRANCH}/{page.removeprefix('book/')}.ipynb"
            if not chapter:
                launches.remove(button)


def write_all(app: Any, error: Exception | None) -> None:
    """Write the notebooks of all pages, also of those that Sphinx did not have to write again."""
    if error or app.builder.format != "html":
        return
    for page in sorted(app.env.found_docs):
        chapter = executed(app, page)
        if chapter:
            path = Path(app.outdir) / FOLDER / f"{chapter.name}.ipynb"
            write_notebook(path, take_away(chapter, repository(app)))


def setup(app: Any) -> dict[str, Any]:
    app.connect("config-inited", no_launch_without_a_repository)
    app.connect("html-page-context", add_links, priority=900)
    app.connect("build-finished", write_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
