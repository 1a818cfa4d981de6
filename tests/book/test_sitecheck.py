"""The checks of built pages, each on a page that breaks it."""

import base64
import io

import pytest
import sitecheck
from PIL import Image

GOOD = """<!doctype html><html><head><link rel="stylesheet" href="_static/a.css"><link rel="canonical" href="https://x.org/a">
<script src="_static/a.js"></script></head><body>
<h1 id="top">A</h1><a href="#top">up</a><a href="b.html#there">there</a>
<a href="https://arxiv.org/abs/2508.11020">paper</a>
<a href="mailto:a@b.org">mail</a><a href="sub/">sub</a>
<img src="_static/a.png" alt="a red and blue square"></body></html>"""


def picture(path, blank=False):
    image = Image.new("RGB", (8, 8), "red")
    if not blank:
        image.putpixel((3, 3), (0, 0, 255))
    image.save(path, "PNG")
    return path


@pytest.fixture
def site(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "_static" / "a.css").write_text("p { background: url('a.png') }")
    (tmp_path / "_static" / "a.js").write_text("")
    picture(tmp_path / "_static" / "a.png")
    (tmp_path / "index.html").write_text(GOOD)
    (tmp_path / "b.html").write_text('<p id="there">b</p>')
    (tmp_path / "sub" / "index.html").write_text('<a href="../index.html">back</a>')
    return tmp_path


def with_body(site, body):
    (site / "c.html").write_text(f"<html><head></head><body>{body}</body></html>")
    return sitecheck.check(site)


def test_a_good_site_has_no_problem(site):
    assert sitecheck.check(site) == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('<a href="nowhere.html">x</a>', "nowhere.html leads to no file"),
        ('<a href="b.html#nowhere">x</a>', "no such anchor in b.html"),
        ('<a href="#nowhere">x</a>', "no such anchor in c.html"),
        ('<a href="../outside.html">x</a>', "leads to no file"),
        ('<script src="gone.js"></script>', "gone.js leads to no file"),
        ('<script src="https://cdn.org/x.js"></script>', "loads https://cdn.org/x.js"),
        ('<script src="//cdn.org/x.js"></script>', "loads //cdn.org/x.js"),
        ('<link rel="stylesheet" href="https://cdn.org/x.css">', "loads https://cdn.org/x.css"),
        ('<link rel="preconnect" href="https://fonts.org">', "loads https://fonts.org"),
        ('<img src="https://cdn.org/x.png" alt="x">', "loads https://cdn.org/x.png"),
        (
            '<img srcset="a.png 1x, https://cdn.org/x.png 2x" src="_static/a.png" alt="x">',
            "loads https://cdn.org/x.png",
        ),
        ("<style>@import 'https://cdn.org/x.css';</style>", "loads https://cdn.org/x.css"),
        ('<p style="background: url(https://cdn.org/x.png)">x</p>', "loads https://cdn.org/x.png"),
        ('<script type="module">import x from "https://cdn.org/x.js"</script>', "loads https://cdn.org/x.js"),
        ('<iframe src="https://cdn.org/"></iframe>', "loads https://cdn.org/"),
        ('<img src="_static/a.png">', "has no alt text"),
        ('<img src="_static/a.png" alt=" ">', "has no alt text"),
        ('<img src="_static/a.png" alt="_static/a.png">', "has its file name for alt text"),
        ('<img src="_static/a.png" alt="../_images/a.png">', "has its file name for alt text"),
    ],
)
def test_a_broken_page_is_named_with_its_fault(site, body, told):
    problems = with_body(site, body)
    assert any(problem.startswith("c.html") and told in problem for problem in problems), problems


def test_a_style_sheet_may_not_load_from_elsewhere(site):
    (site / "_static" / "a.css").write_text("@font-face { src: url(https://fonts.org/a.woff2) }")
    assert sitecheck.check(site) == ["_static/a.css: loads https://fonts.org/a.woff2"]


def test_a_blank_image_fails_as_a_file_and_inline(site):
    picture(site / "_static" / "blank.png", blank=True)
    assert with_body(site, '<img src="_static/blank.png" alt="x">') == ["_static/blank.png is blank"]
    for blank in (True, False):
        buffer = io.BytesIO()
        picture(buffer, blank=blank)
        body = f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}" alt="x">'
        assert bool(with_body(site, body)) is blank


def test_an_unreadable_image_fails(site):
    (site / "_static" / "broken.png").write_bytes(b"\x89PNG nothing")
    assert "is no readable image" in with_body(site, '<img src="_static/broken.png" alt="x">')[0]


def test_a_site_that_was_not_built_fails(tmp_path):
    assert "no page" in sitecheck.check(tmp_path)[0]
    assert "no such folder" in sitecheck.check(tmp_path / "none")[0]
