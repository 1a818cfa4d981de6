"""The page of a report: one file, nothing remote, every name escaped, and it says what the report says."""

from __future__ import annotations

import copy
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from checkpoint import judged
from prunequant.checkpoint import allocate, report
from prunequant.checkpoint.charts import ticks, tiles
from prunequant.checkpoint.page import page
from prunequant.cli import app

REPORT = judged.report(3, 20)
HOSTILE = "</title></script><script>alert(1)</script>\"'<img src=x onerror=alert(1)>&&amp;"
VOID = {"meta", "br", "wbr", "img", "link", "input"}


class Reader(HTMLParser):
    """Elements with their attributes, and an error where they do not nest."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)


def test_nothing_in_the_page_comes_from_elsewhere():
    read = Reader(page(REPORT))
    for tag, attributes in read.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        assert not {"src", "href", "srcset", "action", "xlink:href"} & set(attributes), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in page(REPORT) and "@import" not in page(REPORT)
    policy = next(a["content"] for t, a in read.elements if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'") and "script-src 'sha256-" in policy


def test_a_hostile_name_stays_text_wherever_it_stands():
    report = copy.deepcopy(REPORT)
    clean = Reader(page(report))
    report["model"].update(path=HOSTILE, format=HOSTILE)
    report["notes"] = []
    for row in report["matrices"]:
        row.update(name=row["name"] + HOSTILE, kind=HOSTILE, dtype=HOSTILE, aliases=[])
    report["untreated"][0].update(name=HOSTILE, reason=HOSTILE, dtype=HOSTILE)
    read = Reader(page(report))
    tags = [[tag for tag, _ in one.elements if tag != "wbr"] for one in (read, clean)]
    assert tags[0] == tags[1]
    assert any(HOSTILE in text for text in read.text)
    assert "alert(1)" not in "".join(re.findall(r"<script>(.*?)</script>", page(report), re.DOTALL))


def test_half_of_a_surrogate_pair_in_a_name_is_written_and_a_word_for_a_number_is_refused():
    report = judged.report(3, 2)
    report["matrices"][0]["name"] = "half \ud800"
    assert b"half &#55296;" in page(report).encode("utf-8")
    report["matrices"][0]["shape"] = ["<script>"]
    with pytest.raises(ValueError, match="script"):
        page(report)


def test_every_picture_has_a_title_or_stands_for_words_beside_it():
    titled = []
    for picture in re.finditer(r"<svg([^>]*)>(<title>[^<]+)?", page(REPORT)):
        hidden = 'aria-hidden="true"' in picture[1]
        assert hidden != bool(picture[2]), picture[0]
        titled += [] if hidden else [picture.start()]
    assert len(titled) > 4 * len(REPORT["matrices"])


def test_what_would_be_a_speck_of_the_map_is_one_part_with_others_of_its_colour_and_its_bytes():
    report = judged.report(3, 4)
    small = [{"name": f"bias.{i}", "shape": [2], "dtype": "F32", "nbytes": 8, "reason": "a vector"} for i in range(9)]
    text = page({**report, "untreated": [*report["untreated"], *small]})
    assert "<title>9 small tensors\nthe largest is bias.0\n72 B" in text and "<title>norm.weight\n" in text


def test_every_chart_has_words_and_every_matrix_stands_in_the_table():
    read = Reader(page(REPORT))
    charts = re.findall(r'<svg role="img"><title>([^<]*)</title>', page(REPORT))
    assert len(charts) == 6 and all(len(words) > 30 for words in charts)
    cells = [a["data-v"] for tag, a in read.elements if tag == "td" and a.get("class") == "name" and "data-v" in a]
    assert cells == [row["name"] for row in REPORT["matrices"]]


def test_the_page_shows_the_plan_it_is_given_beside_the_uniform_one_and_what_is_not_treated():
    plan = allocate(REPORT, 6.5, schemes=["INT*"])
    text = " ".join(Reader(page(REPORT, plan)).text)
    assert f"{plan.bits_per_weight:.2f} bits a weight" in text and f"all {plan.uniform.scheme}" in text
    assert "1 tensor with 4 kB" in text and "a vector" in text
    with pytest.raises(ValueError, match="the plan has no scheme for"):
        page(judged.report(3, 21), plan)


def test_a_real_report_goes_through_plan_and_page_by_command_and_by_call(tmp_path):
    rng = np.random.default_rng(0)
    model = {f"layers.{i}.weight": rng.standard_t(5, (64, 128)).astype(np.float32) for i in range(3)}
    save_file({**model, "norm.weight": np.ones(64, np.float32)}, tmp_path / "model.safetensors")
    found = report(tmp_path / "model.safetensors")
    assert Reader(found.to_html()) and allocate(found, 4.25).untreated_bytes == 256
    line = [str(tmp_path / "model.safetensors"), "--html", str(tmp_path / "a.html")]
    done = CliRunner().invoke(app, ["allocate", *line, "--budget", "4.25"])
    assert done.exit_code == 0, done.output
    assert "layers.2.weight" in (tmp_path / "a.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("change", ["no matrix", "nothing fits", "lossless", "one matrix"])
def test_a_page_is_made_of_any_report(change):
    report = copy.deepcopy(REPORT)
    if change == "no matrix":
        report["matrices"] = []
    if change == "one matrix":
        report["matrices"] = report["matrices"][:1]
    for row in report["matrices"]:
        if change == "nothing fits":
            row["budgets"] = [{"bits": 1.0, "winner": None, "margin": None, **dict.fromkeys(judged.FAMILIES)}]
        if change == "lossless":
            for entry in (*row["schemes"], *(c[f] for c in row["budgets"] for f in judged.FAMILIES if c[f])):
                entry.update(snr=None, lossless=True)
    assert len(Reader(page(report)).elements) > 20


@pytest.mark.parametrize("seed", range(5))
def test_the_tiles_of_a_map_have_their_areas_and_fill_it_without_overlap(seed):
    areas = np.sort(np.random.default_rng(seed).pareto(1, 40) + 0.01)[::-1]
    found = tiles(list(areas))
    got = np.array([t.width * t.height for t in found])
    assert np.allclose(got / got.sum(), areas / areas.sum()) and math.isclose(got.sum(), 100 * 100)
    for i, a in enumerate(found):
        assert a.left >= -1e-6 and a.left + a.width <= 100 + 1e-6 and a.top + a.height <= 100 + 1e-6
        for b in found[:i]:
            wide = min(a.left + a.width, b.left + b.width) - max(a.left, b.left)
            high = min(a.top + a.height, b.top + b.height) - max(a.top, b.top)
            assert min(wide, high) < 1e-6


def test_ticks_are_round_and_inside():
    assert ticks(1.9, 8.4) == [2, 4, 6, 8] and len(ticks(-3, 47)) <= 6 and ticks(0.0, 1.0, 5)[-1] == pytest.approx(1.0)
