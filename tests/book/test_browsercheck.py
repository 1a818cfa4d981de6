"""The check in a browser sees errors, boxes that stand open, and a filter that does not filter."""

import shutil
from pathlib import Path

import pytest
from browsercheck import filter_problems, find, look, rows, standing_open, tool_problems
from browserpipe import Browser

STATIC = Path(__file__).resolve().parents[2] / "book" / "_static"

ROW = (
    '<tr{}><td><p><span class="pq-row" id="row-{}" data-part="{}" data-paper="this book" data-verdict="{}">'
    "</span></p></td></tr>"
)
PAGE = '<!doctype html><body><table class="table">{}</table><script>{}</script>'


def test_a_folded_box_and_one_that_stands_open_are_told_apart():
    folded = '<div class="toggle admonition dropdown toggle-hidden">'
    assert standing_open(folded) == []
    assert standing_open('<div class="solution dropdown admonition">') == ["admonition dropdown solution"]
    assert standing_open('<div class="admonition note">') == []


def test_rows_are_read_as_shown_or_hidden():
    dom = ROW.format("", "a", "paths", "loose") + ROW.format(' hidden=""', "b", "paths", "holds")
    assert rows(dom) == (["row-a"], ["row-b"])


@pytest.fixture
def browser():
    found = find()
    if found is None:
        pytest.skip("no Chromium and no Chrome at hand")
    return found


def test_an_error_of_a_script_is_seen(tmp_path, browser):
    (tmp_path / "bad.html").write_text('<!doctype html><body><script>throw new Error("broken here")</script>')
    assert any("broken here" in line for line in look(browser, tmp_path, "bad"))
    (tmp_path / "good.html").write_text("<!doctype html><body><script>document.title = 'fine'</script>")
    assert look(browser, tmp_path, "good") == []


def test_a_table_without_its_filter_is_seen(tmp_path, browser):
    page = tmp_path / "ledger.html"
    body = ROW.format("", "a", "paths", "loose") + ROW.format("", "b", "tickets", "holds")
    page.write_text(PAGE.format(body, ""))
    assert any("?verdict=loose shows 2 rows where 1 fit" in line for line in filter_problems(browser, page))


def test_the_filter_of_the_book_passes(tmp_path, browser):
    script = STATIC / "js" / "prunequant.js"
    page = tmp_path / "ledger.html"
    kinds = [("paths", "loose"), ("tickets", "holds"), ("paths", "holds")]
    body = "".join(ROW.format("", number, *kind) for number, kind in enumerate(kinds))
    page.write_text(PAGE.format(body, script.read_text(encoding="utf-8")))
    assert list(filter_problems(browser, page)) == []


@pytest.fixture
def tool(tmp_path):
    """The tool alone, in a page with its scripts and its style beside it."""
    for folder in ("js", "css"):
        shutil.copytree(STATIC / folder, tmp_path / "_static" / folder)
    page = tmp_path / "book" / "practice" / "tool.html"
    page.parent.mkdir(parents=True)
    body = (STATIC / "model-report.html").read_text(encoding="utf-8")
    page.write_text(f"<!doctype html><meta charset=utf-8><body>{body}", encoding="utf-8")
    return page


def test_the_tool_of_the_readers_own_model_runs_from_a_disk_with_the_numbers_of_python(tmp_path, browser, tool):
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"no model at all")
    found = list(tool_problems(browser, tool, [damaged]))
    assert len(found) == 1 and found[0].startswith("damaged.safetensors: damaged.safetensors: ")


ABOUT = """({
  said: document.querySelector('[role=status]').textContent,
  running: !document.querySelector('progress').parentElement.hidden,
  focus: document.activeElement.textContent,
  shown: document.querySelectorAll('#model-report tbody tr').length,
})"""
START = "modelReport.last = null; const [choose, demo, cancel] = document.querySelectorAll('#model-report button');"


def test_the_tool_is_cancelled_by_keyboard_and_a_later_file_takes_the_place_of_one_that_runs(browser, tool):
    with Browser(browser) as led:
        led.open(tool)
        led.value(f"{{ {START} demo.focus(); demo.click(); }}")
        started = led.value(ABOUT)
        assert started["running"] and started["focus"] == "Cancel"  # what is within the group that has the focus
        led.value(f"{{ {START} cancel.focus(); cancel.click(); }}")
        assert led.wait("modelReport.last") == {"error": "stopped"}
        stopped = led.value(ABOUT)
        assert stopped == {"said": "Stopped. Nothing was kept.", "running": False, "focus": "Choose a file", "shown": 0}
        led.value(f"{{ {START} modelReport.take(modelReport.core.demo()); modelReport.take(new File([], 'later')); }}")
        assert led.wait("modelReport.last") == {"error": "later: it is empty"}
        later = led.value(ABOUT)
        assert later == {"said": "later: it is empty", "running": False, "focus": later["focus"], "shown": 0}
        assert led.errors == []
