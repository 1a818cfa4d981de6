"""The page of a report: whole, harmless, and true to the numbers of the report."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from checkpoint import judged
from prunequant import checkpoint
from prunequant.checkpoint.charts import ticks, tiles
from prunequant.checkpoint.page import page
from prunequant.cli import app

VOID = {"meta", "br", "wbr"}
CLOSED = {"rect", "circle", "line", "path", "polyline"}  # in SVG, by themselves
HOSTILE = '</title></script><script>alert(1)</script><img src=//x onerror="alert(1)">\' "&amp;\ud800'


class Tree(html.parser.HTMLParser):
    """Elements of a page: (tag, attributes, tags inside, tags around). A tag not closed in its place fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple] = []
        self.all: list[tuple] = []
        self.feed(text)
        self.close()
        assert not self.open, [element[0] for element in self.open]

    def handle_starttag(self, tag: str, attrs: list) -> None:
        element = (tag, dict(attrs), [], [e[0] for e in self.open])
        assert len(element[1]) == len(attrs), f"{tag} has an attribute twice"
        if self.open:
            self.open[-1][2].append(tag)
        self.all.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        assert tag in CLOSED, tag
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1][0] == tag, f"</{tag}> inside {[e[0] for e in self.open]}"
        self.open.pop()


def one_matrix() -> dict:
    return judged.report(count=1)


def untreated_only() -> dict:
    return {**judged.report(), "matrices": []}


def empty() -> dict:
    return {"schema": 1, "model": {"path": "empty"}, "matrices": [], "untreated": [], "notes": []}


def all_zero() -> dict:
    report = judged.report(count=2)
    for row in report["matrices"]:
        for entry in (
            *row["schemes"],
            *row["pruning"],
            *(c[f] for c in row["budgets"] for f in ("quantization", "both", "pruning")),
        ):
            if entry:
                entry.update(snr=None, lossless=True)
        for choice in row["budgets"]:
            choice["margin"] = None
    return report


def nothing_fits() -> dict:
    report = judged.report(count=3)
    for row in report["matrices"]:
        row["budgets"] = [
            {"bits": 0.5, "winner": None, "quantization": None, "pruning": None, "both": None, "margin": None}
        ]
    return report


def hostile() -> dict:
    report = judged.report(count=3)
    report["model"] |= {"path": HOSTILE, "format": HOSTILE}
    for i, row in enumerate(report["matrices"]):
        row |= {"name": HOSTILE + str(i), "kind": HOSTILE, "dtype": HOSTILE, "aliases": [HOSTILE], "notes": [HOSTILE]}
    report["untreated"][0] |= {"name": HOSTILE, "reason": HOSTILE, "dtype": HOSTILE}
    report["notes"] = [HOSTILE]
    report["provenance"] = {"date": HOSTILE, "versions": {"prunequant": HOSTILE}}
    return report


REPORTS = (judged.report, one_matrix, untreated_only, empty, all_zero, nothing_fits, hostile)


@pytest.mark.parametrize("made", REPORTS, ids=lambda made: made.__name__)
def test_every_page_is_well_formed_and_loads_nothing_and_each_picture_has_a_title(made):
    text = page(made())
    tree = Tree(text)
    tags = [tag for tag, *_ in tree.all]
    assert not {"img", "link", "iframe", "object", "embed", "base", "form", "a", "use", "image"} & set(tags)
    assert tags.count("script") == tags.count("style") == tags.count("h1") == 1
    for tag, attributes, inside, around in tree.all:
        assert not any(name.startswith("on") or name in ("src", "href", "xlink:href") for name in attributes), tag
        if tag == "svg" and attributes.get("aria-hidden") != "true":
            assert inside[0] == "title", attributes
        if tag == "svg" and "svg" not in around:
            assert attributes.get("role") == "img" or attributes.get("aria-hidden") == "true"
    assert not re.search(r"url\(|@import|https?:", text)
    policy = next(a["content"] for t, a, *_ in tree.all if t == "meta" and "http-equiv" in a)
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"script-src 'sha256-{digest}'" in policy
    assert text.encode("utf-8") and "nan" not in re.sub("<script>.*?</script>", "", text, flags=re.S).lower()


def test_the_page_shows_every_matrix_every_untreated_tensor_and_the_plan_beside_the_uniform_one():
    report = judged.report()
    plan = checkpoint.allocate(report, 3.25)
    text = page(report, plan)
    plain = text.replace("<wbr>", "")
    for row in (*report["matrices"], *report["untreated"]):
        assert f"{row['name']}</td>" in plain
    assert f"{plan.megabytes:.4g} MB" in text and f"all {plan.uniform.scheme}" in text
    assert f"keeps {plan.snr:.1f} dB; {plan.uniform.scheme} for all keeps {plan.uniform.snr:.1f} dB" in text


def test_a_plan_of_another_model_and_a_report_with_words_for_numbers_are_refused():
    with pytest.raises(ValueError, match=r"layers\.11\.weight"):
        page(judged.report(count=11), checkpoint.allocate(judged.report(), 4.25))
    report = judged.report()
    report["matrices"][0]["shape"] = ["<script>"]
    with pytest.raises(ValueError, match="script"):
        page(report)


def test_the_areas_of_a_map_are_as_asked_and_fill_it_without_an_overlap():
    sizes = sorted(np.random.default_rng(0).pareto(1.0, 60) + 0.01, reverse=True)
    found = tiles(sizes)
    areas = np.array([tile.width * tile.height for tile in found])
    np.testing.assert_allclose(areas / 1e4, np.array(sizes) / sum(sizes), rtol=1e-9)
    for i, a in enumerate(found):
        assert a.left >= -1e-9 and a.top >= -1e-9
        assert a.left + a.width <= 100 + 1e-9 and a.top + a.height <= 100 + 1e-9
        for b in found[:i]:
            wide = min(a.left + a.width, b.left + b.width) - max(a.left, b.left)
            high = min(a.top + a.height, b.top + b.height) - max(a.top, b.top)
            assert wide < 1e-9 or high < 1e-9


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 48.1), (6.02, 6.15), (1950.0, 2260.0)])
def test_ticks_are_two_to_six_round_numbers_inside_at_steps_of_one_two_or_five(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 6 and low - 1e-9 <= found[0] and found[-1] <= high + 1e-9
    step = found[1] - found[0]
    np.testing.assert_allclose(np.diff(found), step, rtol=1e-9)
    np.testing.assert_allclose(np.array(found) / step, np.round(np.array(found) / step), atol=1e-9)
    assert f"{step:.6e}"[:3] in ("1.0", "2.0", "5.0")


def test_the_command_writes_the_page_of_the_report_it_writes(tmp_path):
    rng = np.random.default_rng(1)
    model = tmp_path / "small.safetensors"
    save_file({f"{HOSTILE[:-1]}{i}": rng.standard_normal((8, 128)).astype(np.float32) for i in range(2)}, model)
    out, json_out = tmp_path / "pages" / "small.html", tmp_path / "small.json"
    done = CliRunner().invoke(app, ["report", str(model), "--html", str(out), "--json", str(json_out)])
    assert done.exit_code == 0, done.output
    text = out.read_text(encoding="utf-8")
    assert text == page(json.loads(json_out.read_text(encoding="utf-8"))) and f"page: {out}" in done.output
    Tree(text)
    refused = CliRunner().invoke(app, ["report", str(model), "--html", str(tmp_path)])
    assert refused.exit_code == 2 and "--html is" in refused.stderr
