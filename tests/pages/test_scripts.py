"""The widgets' scripts: JavaScript that draws the numbers given and needs nothing but the page it is on."""

import json
import re
import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pytest

from prunequant.pages.widgets import Curve, menus, slider

SCRIPTS = sorted((path for path in files("prunequant.pages").iterdir() if path.name.endswith(".js")), key=str)
NODE = shutil.which("node")
node = pytest.mark.skipif(NODE is None, reason="node is not installed")

# As much of a browser as the scripts use: elements with text, style and listeners, and a timer that is called at once.
BROWSER = """
const element=(extra)=>Object.assign({style:{},children:[],told:{},textContent:'',innerHTML:'',
  setAttribute(k,v){this[k]=v;},addEventListener(k,f){this.told[k]=f;},append(...c){this.children.push(...c);}},extra);
const given=JSON.parse(require('fs').readFileSync(0,'utf8'));
const parts={'script[type="application/json"]':element({textContent:given.data}),input:element({value:'0'}),
  output:element(),'.pq-widget-plot':element(),figcaption:element(),'.pq-widget-bars':element()};
const selects=given.start.map(value=>element({value:String(value)}));
const figure={querySelector:s=>parts[s]??null,querySelectorAll:()=>selects};
const document={currentScript:{parentElement:figure},createElement:()=>element()};
const setTimeout=f=>f(), clearTimeout=()=>{};
new Function('document','setTimeout','clearTimeout',given.script)(document,setTimeout,clearTimeout);
const text=e=>[e.textContent,...e.children.map(text)].join('|');
const seen=()=>({plot:parts['.pq-widget-plot'].innerHTML,stop:parts.output.textContent,
  reading:parts.figcaption.textContent,bars:parts['.pq-widget-bars'].children.map(text),
  widths:parts['.pq-widget-bars'].children.map(li=>li.children[1].style.width)});
const before=seen();
if(selects.length){selects.forEach((s,i)=>{s.value=String(given.then[i]);});selects[0].told.change();}
else{parts.input.value=String(given.then[0]);parts.input.told.input();}
console.log(JSON.stringify([before,seen()]));
"""


def pieces(widget):
    """The data and the script of a widget, as its HTML holds them."""
    return re.search(r'<script type="application/json"[^>]*>(.*?)</script>\n<script>(.*?)</script>', widget.html, re.S)


def moved(widget, then, start=()):
    """What the page shows at first, and after the slider or the menus are moved to `then`."""
    data, script = pieces(widget).groups()
    given = json.dumps({"data": data, "script": script, "start": list(start), "then": list(then)})
    done = subprocess.run([NODE, "-e", BROWSER], input=given, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_script_of_the_package_is_carried_by_a_widget_as_it_stands():
    made = (
        slider(
            "a",
            ["1"],
            [0, 1],
            [Curve("c", "both", [[1, 2]])],
            slider_label="s",
            x_label="x",
            y_label="y",
            readings=["r"],
        ),
        menus("m", {"f": ["a"]}, ["x"], np.ones((1, 1)), np.full((1, 1), ""), np.array(["r"])),
    )
    carried = {pieces(widget)[2] for widget in made}
    assert carried == {path.read_text(encoding="utf-8").removesuffix("\n") for path in SCRIPTS} and len(carried) == 2


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_loads_nothing_and_cannot_end_its_own_tag(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"</script|https?:|\bimport\b|\bfetch\b|XMLHttpRequest|\beval\b", text)


@node
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_node_finds_no_fault_in_a_script(path):
    done = subprocess.run([NODE, "--check", str(path)], capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr


@node
def test_the_slider_draws_the_curve_of_its_stop_and_leaves_gaps_where_there_are_none():
    y = np.array([[0.0, 1.0, 2.0, 3.0], [3.0, np.nan, 1.0, 0.0]])
    widget = slider(
        "a", ["two", "three"], [0.0, 1.0, 2.0, 3.0], [Curve("the curve", "theory", y)],
        slider_label="bits", x_label="bits", y_label="loss", readings=["first", "second"],
    )  # fmt: skip
    before, after = moved(widget, [1])
    assert (before["stop"], before["reading"]) == ("two", "first")
    assert (after["stop"], after["reading"]) == ("three", "second")
    (rising,), (falling,) = (re.findall(r'<path d="([^"]*)"', shown["plot"]) for shown in (before, after))
    assert re.findall("[ML]", rising) == ["M", "L", "L", "L"] and re.findall("[ML]", falling) == ["M", "M", "L"]
    heights = [float(v) for v in re.findall(r" (-?[\d.]+)", rising)]
    assert heights == sorted(heights, reverse=True), "y grows upwards on the page"
    assert np.allclose(np.diff(heights), np.diff(heights)[0], atol=0.11), "the scale is linear"
    assert all(word in before["plot"] for word in (">bits<", ">loss<", " the curve</li>"))


@node
def test_the_menus_show_the_bars_of_the_chosen_options_in_their_order():
    shares = np.arange(12).reshape(2, 3, 2) / 20
    readings = np.array([["r00", "r01", "r02"], ["r10", "r11", "r12"]])
    notes = np.array([f"n{i}" for i in range(12)]).reshape(2, 3, 2)
    given = ("m", {"format": ["a", "b"], "norm": ["L1", "L2", "L3"]}, ["x", "y"], shares, notes, readings)
    before, after = moved(menus(*given), [1, 2], start=(0, 0))
    assert before["bars"] == ["||x|none||n0", "||y|5.0 %||n1"] and before["reading"] == "r00"
    assert after["bars"] == ["||x|50.0 %||n10", "||y|55.0 %||n11"] and after["reading"] == "r12"
    assert [round(float(width.rstrip("%")), 6) for width in after["widths"]] == [90.909091, 100]
    assert moved(menus(*given, lengths=True), [1, 2], start=(0, 0))[1]["bars"][0] == "||x|||n10"
