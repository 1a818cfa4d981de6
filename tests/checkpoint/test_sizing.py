"""Plans for a file of a given size: what is promised is what `compress` writes, headers included."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gguf import GGUFWriter
from safetensors.numpy import save_file
from typer.testing import CliRunner

from prunequant import checkpoint
from prunequant.checkpoint.compression import GROUPS, holdable, predictor
from prunequant.checkpoint.methods import Settings
from prunequant.checkpoint.sizing import plan_file
from prunequant.cli import app

RUN = CliRunner()


def tensors(rng):
    shapes = {"model.embed_tokens": (40, 64), "model.layers.0.mlp.up_proj": (128, 64), "lm_head": (48, 64)}
    shapes |= {"model.layers.0.mlp.down_proj": (64, 128), "model.layers.0.self_attn.o_proj": (64, 64)}
    found = {f"{name}.weight": rng.standard_t(3, shape) / 30 for name, shape in shapes.items()}
    found["model.layers.1.mlp.up_proj.weight"] = np.where(np.arange(4096).reshape(64, 64) == 99, np.nan, 1.0)
    found["model.norm.weight"] = np.ones(64)
    return {name: x.astype(np.float32) for name, x in found.items()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same model for each kind of file that is written."""
    place, made = tmp_path_factory.mktemp("sources"), tensors(np.random.default_rng(0))
    folder = place / "folder"
    folder.mkdir()
    save_file(made, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "dtype": "float32"}), encoding="utf-8")
    writer = GGUFWriter(place / "model.gguf", "llama")
    for name, x in made.items():
        writer.add_tensor(name, x)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {"prunequant": folder / "model.safetensors", "compressed-tensors": folder, "gguf": place / "model.gguf"}


def promised(source, to, **size):
    with checkpoint.open_model(source) as model:
        document, _ = holdable(checkpoint.report(model, [4.25], group=GROUPS[to]).to_json(), model, to)
        return plan_file(document, predictor(model, source, to, Settings()), **size)


def written(path):
    return sum(p.stat().st_size for p in path.rglob("*")) if path.is_dir() else path.stat().st_size


@pytest.mark.parametrize("to", GROUPS)
def test_a_file_that_was_planned_within_megabytes_has_the_bytes_that_were_promised_and_no_more_than_asked(
    to, sources, tmp_path
):
    ends = [promised(sources[to], to, budget=bits).megabytes for bits in ((4.51, 8.6) if to == "gguf" else (2.6, 8.0))]
    used = []
    for i, megabytes in enumerate(np.linspace(*ends, 5)):
        plan = promised(sources[to], to, megabytes=megabytes)
        out = tmp_path / f"{i}.out"
        found = checkpoint.compress(sources[to], out, plan=plan.tensors, to=to)
        assert written(out) == found.bytes == round(plan.megabytes * 1e6) <= megabytes * 1e6
        assert plan.uniform is None or plan.error <= plan.uniform.error
        used.append(found.bytes / megabytes / 1e6)
    assert min(used) > 0.9  # the smallest scheme for everything would fit too


@pytest.mark.parametrize("to", GROUPS)
def test_a_budget_in_bits_promises_the_file_too(to, sources, tmp_path):
    plan = promised(sources[to], to, budget=4.75)
    found = checkpoint.compress(sources[to], tmp_path / "out", plan=plan.tensors, to=to)
    assert found.bytes == round(plan.megabytes * 1e6) and plan.bits_per_weight <= 4.75
    assert checkpoint.Allocation.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("to", GROUPS)
def test_compress_keeps_within_megabytes_too(to, sources, tmp_path):
    megabytes = promised(sources[to], to, budget=5.0).megabytes
    found = checkpoint.compress(sources[to], tmp_path / "out", megabytes=megabytes, to=to)
    assert found.bytes == found.predicted_bytes <= megabytes * 1e6
    assert found.bytes > 0.9 * megabytes * 1e6


@pytest.mark.parametrize("to", ["compressed-tensors", "gguf"])
def test_a_plan_counts_what_a_file_without_masks_takes_so_that_no_budget_is_exceeded(to, sources, tmp_path):
    for bits in (4.3, 4.75, 8.6):
        found = checkpoint.compress(sources[to], tmp_path / f"{bits}", budget=bits, to=to)
        assert found.bits_per_weight <= bits
        assert not any("%" in row.scheme or ":" in row.scheme for row in found.rows)


def test_the_commands_take_a_size_for_a_budget(sources, tmp_path):
    source, plan, out = sources["prunequant"], tmp_path / "plan.json", tmp_path / "small.safetensors"
    done = RUN.invoke(app, ["allocate", str(source), "--budget", "45kB", "--json", str(plan)])
    assert done.exit_code == 0, done.output
    done_too = RUN.invoke(app, ["compress", str(source), str(out), "--plan", str(plan)])
    assert done_too.exit_code == 0, done_too.output
    size = out.stat().st_size
    assert size <= 45_000 and f"writes as prunequant: {size:,} bytes in all" in done.output
    again = tmp_path / "again.safetensors"
    done = RUN.invoke(app, ["compress", str(source), str(again), "--budget", "0.045 MB"])
    assert done.exit_code == 0 and again.stat().st_size <= 45_000


@pytest.mark.parametrize("budget", ["60 miles", "MB", "four", "nanMB", "-3MB", "0.001MB"])
def test_a_budget_that_is_none_ends_in_one_line_and_exit_code_2(budget, sources, tmp_path):
    for line in (["allocate"], ["compress"]):
        out = [] if line == ["allocate"] else [str(tmp_path / "out")]
        done = RUN.invoke(app, [*line, str(sources["prunequant"]), *out, f"--budget={budget}"])
        assert done.exit_code == 2 and done.stderr.count("\n") == 1
        assert "budget is" in done.stderr or "megabytes is" in done.stderr
    assert not any(tmp_path.iterdir())


def test_a_size_that_no_plan_has_names_the_smallest_file(sources):
    with pytest.raises(
        ValueError, match=r"the smallest plan .* takes [\d.]+ .* MB, of which .* and .* headers"
    ) as error:
        promised(sources["prunequant"], "prunequant", megabytes=0.01)
    least = float(str(error.value).split("takes ")[1].split()[0])
    assert promised(sources["prunequant"], "prunequant", megabytes=least).megabytes <= least
