"""The training loop: deterministic, resumed to the bit after a kill, and clear about what went wrong."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from prunequant.finetune import checkpoints, training

PROGRAM = Path(__file__).with_name("resumed_run.py")


@pytest.fixture(scope="module")
def resumed_run():
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("resumed_run", PROGRAM)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(seed=0):
    training.seed_everything(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def data(step):
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
    return x, x.sum(1, keepdim=True)


def square(model, x, y):
    return (model(x) - y).square().mean()


def fit(path=None, seed=0, model_seed=0, batches=data, loss=square, **options):
    model, optimiser = small(model_seed)
    given = dict(steps=12, loss=loss, optimiser=optimiser, seed=seed, checkpoint=path, every=5)
    losses = training.fit(model, batches, **{**given, **options})
    return losses, model


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def test_the_same_seed_gives_the_same_run_and_leaves_the_random_state_outside_alone():
    (losses, model), (again, twin), (others, _) = fit(seed=1), fit(seed=1), fit(seed=2)
    assert losses == again and same(model, twin) and losses != others
    torch.manual_seed(9)
    expected = torch.rand(3)
    model = nn.Linear(4, 1)
    torch.manual_seed(9)
    training.fit(model, data, steps=2, loss=square, optimiser=torch.optim.SGD(model.parameters(), lr=0.1), seed=3)
    assert torch.equal(torch.rand(3), expected)


def test_compiled_kernels_leave_the_threads_of_torch_alone():
    """Numba's OpenMP layer would set torch's number of threads, and with it the last bits of its sums."""
    from prunequant.finetune import lsq, straight_through
    from prunequant.formats import HBFP

    wide = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 600))
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        straight_through.weights(wide, ["0"], HBFP(4), 0.5, "qs")
        handle = straight_through.attach(wide, ["0"], HBFP(4), 0.5, "qs")
        steps = lsq.attach(wide, 4, layers=["1"], first_last=None, per="row")
        assert torch.get_num_threads() == threads
        handle.remove()
        steps.remove()

    class Meddler(training.Hook):
        def before_forward(self, step, steps):
            torch.set_num_threads(2)

    seen = []

    def loss(model, x, y):
        seen.append(torch.get_num_threads())
        return square(model, x, y)

    fit(loss=loss, hooks=[Meddler()])
    assert set(seen) == {1} and torch.get_num_threads() == 1


def test_the_loop_does_what_a_loop_written_out_does():
    losses, model = fit(seed=4)
    twin, optimiser = small()
    torch.manual_seed(4)
    expected = []
    for step in range(12):
        optimiser.zero_grad()
        value = square(twin, *data(step))
        value.backward()
        optimiser.step()
        expected.append(float(value.detach()))
    assert losses == expected and same(model, twin)


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, resumed_run):
    die_at = 10  # between two checkpoints, prunings and choices of the masks
    path = tmp_path / "run.pt"
    command = [sys.executable, str(PROGRAM), str(path)]
    killed = subprocess.run([*command, str(die_at)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL and killed.stdout == ""
    assert checkpoints.read(path)["step"] == 4 * (die_at // 4)
    whole, hash_whole = resumed_run.run(None)
    assert resumed_run.run(path) == (whole, hash_whole)


def test_a_finished_run_is_read_not_repeated(tmp_path):
    path = tmp_path / "run.pt"
    losses, model = fit(path)
    seen = []

    def batches(step):
        seen.append(step)
        return data(step)

    again, twin = fit(path, batches=batches)
    assert again == losses and same(model, twin)
    assert seen == [0]  # the first batch identifies the run


def test_a_checkpoint_loads_with_weights_only_and_holds_everything(tmp_path, resumed_run):
    path = tmp_path / "run.pt"
    resumed_run.run(path)
    state = torch.load(path, weights_only=True)
    assert state["step"] == 20 and len(state["hash"]) == 64 and len(state["losses"]) == 20
    assert set(state) >= {"model", "optimisers", "schedules", "hooks", "rng", "settings"}
    assert len(state["optimisers"]) == len(state["schedules"]) == 2
    assert state["hooks"][0]["masks"]["4"].dtype == torch.bool
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize(
    "change, setting",
    (
        (dict(seed=1), "seed"),
        (dict(model_seed=1), "initial weights"),
        (dict(steps=13), "steps"),
        (dict(batches=lambda step: data(step + 100)), "first batch"),
        (dict(loss=lambda model, x, y: square(model, x, y)), "loss"),
        (dict(clip=1.0), "clip"),
        (dict(amp=True), "amp"),
        (dict(hooks=[training.Hook()]), "hooks"),
        (dict(configuration={"bits": 3}), "configuration"),
    ),
)
def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path, change, setting):
    path = tmp_path / "run.pt"
    fit(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"belongs to another run.*{setting}"):
        fit(path, **change)
    assert path.read_bytes() == before


def test_every_damage_to_a_checkpoint_is_noticed(tmp_path):
    path = tmp_path / "run.pt"
    checkpoints.write(path, {"step": 3, "weights": torch.randn(300, generator=torch.Generator().manual_seed(0))})
    whole = path.read_bytes()
    expected = checkpoints.fingerprint([checkpoints.read(path)["weights"]])
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"run\.pt is damaged"):
            checkpoints.read(path)
    start = whole.index(torch.randn(300, generator=torch.Generator().manual_seed(0)).numpy().tobytes())
    rng = np.random.default_rng(0)
    for place in (start, start + 1199, *rng.integers(0, len(whole), 60)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        try:
            state = checkpoints.read(path)
        except ValueError as error:
            assert "is damaged" in str(error)
        else:  # padding and dates carry nothing
            assert not start <= place < start + 1200
            assert state["step"] == 3 and checkpoints.fingerprint([state["weights"]]) == expected


def test_other_files_are_no_checkpoints(tmp_path):
    path = tmp_path / "run.pt"
    torch.save({"weights": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="format"):
        checkpoints.read(path)
    path.write_text("not a checkpoint")
    with pytest.raises(ValueError, match="damaged"):
        fit(path)
    assert path.read_text() == "not a checkpoint"
    with pytest.raises(FileNotFoundError):
        checkpoints.read(tmp_path / "none.pt")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Code:
        def __reduce__(self):
            return os.system, ("false",)

    path = tmp_path / "run.pt"
    torch.save({"format": 1, "step": Code()}, path)
    with pytest.raises(ValueError, match="damaged"):
        checkpoints.read(path)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    path = tmp_path / "run.pt"
    checkpoints.write(path, {"step": 1})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"not written.*the one before is kept.*run\.pt"):
            checkpoints.write(path, {"step": 2, "weights": torch.ones(100_000)})
        with pytest.raises(OSError, match="there was none before"):
            checkpoints.write(tmp_path / "new.pt", {"step": 2, "weights": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_a_disk_that_fails_at_the_last_moment_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        written = []

        def fsync(descriptor, real=os.fsync):
            written.append(descriptor)
            return full(descriptor) if len(written) > 2 else real(descriptor)

        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            fit(path)
    assert checkpoints.read(path)["step"] == 5 and [p.name for p in tmp_path.iterdir()] == ["run.pt"]
    losses, model = fit(path)
    whole, twin = fit()
    assert losses == whole and same(model, twin)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OSError, match="missing"):
        fit(tmp_path / "missing" / "run.pt")


@pytest.mark.parametrize("device, message", (("tpu9", "give 'cpu' or 'cuda'"), ("meta", "give 'cpu' or 'cuda'"),
                                             (7.5, "must be 'cpu' or 'cuda'")))  # fmt: skip
def test_an_unknown_device_is_refused(device, message):
    with pytest.raises(ValueError if isinstance(device, str) else TypeError, match=message):
        fit(device=device)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU"):
        fit(device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="2 GPUs"):
        fit(device="cuda:2")
    assert training.check_device("cuda:1") == torch.device("cuda:1")


def test_a_loss_that_is_no_longer_finite_is_reported_with_its_step_and_not_kept(tmp_path):
    path = tmp_path / "run.pt"

    def explode(model, x, y):
        return square(model, x, y) * (float("inf") if torch.equal(x, data(7)[0]) else 1.0)

    with pytest.raises(FloatingPointError, match="inf at step 7"):
        fit(path, loss=explode)
    assert checkpoints.read(path)["step"] == 5


def test_mixed_precision_runs_in_bfloat16_and_keeps_the_weights_in_their_own():
    seen = []

    def loss(model, x, y):
        out = model(x)
        seen.append(out.dtype)
        return (out.float() - y).square().mean()

    losses, model = fit(loss=loss, amp=True, steps=2)
    assert set(seen) == {torch.bfloat16} and model[0].weight.dtype == torch.float32
    exact = fit(steps=2)[0]
    assert losses[0] == pytest.approx(exact[0], rel=2**-6) and losses[0] != exact[0]


def test_the_gradient_is_clipped():
    model = nn.Linear(2, 1, bias=False)
    before = model.weight.detach().clone()
    training.fit(
        model,
        lambda step: (torch.full((1, 2), 1000.0),),
        steps=1,
        loss=lambda m, x: m(x).sum(),
        optimiser=torch.optim.SGD(model.parameters(), lr=1.0),
        seed=0,
        clip=0.5,
    )
    assert float((model.weight.detach() - before).norm()) == pytest.approx(0.5, rel=1e-4)


def test_hooks_are_called_in_order_and_progress_is_told():
    calls = []

    class Note(training.Hook):
        def before_forward(self, step, steps):
            calls.append(("before", step, steps))

        def after_step(self, step, steps):
            calls.append(("after", step, steps))

    fit(steps=2, hooks=[Note()], progress=lambda done, steps: calls.append(("said", done, steps)))
    assert calls == [
        ("before", 0, 2), ("after", 0, 2), ("said", 1, 2), ("before", 1, 2), ("after", 1, 2), ("said", 2, 2)
    ]  # fmt: skip


def test_the_model_is_left_in_the_mode_it_had():
    for mode in (True, False):
        model, optimiser = small()
        model.train(mode)
        training.fit(model, data, steps=1, loss=square, optimiser=optimiser, seed=0)
        assert model.training == mode


def test_the_cosine_rises_falls_and_ends_at_its_share():
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule, rates = training.cosine(optimiser, 30, warmup=5, final=0.05), []
    for _ in range(30):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0]) and rates[5] == pytest.approx(2.0)
    assert (np.diff(rates[5:]) < 0).all() and rates[-1] == pytest.approx(0.1)


def test_bad_arguments_are_refused():
    for options, message in ((dict(steps=0), "steps"), (dict(every=0), "every"), (dict(seed=-1), "seed")):
        with pytest.raises(ValueError, match=message):
            fit(**options)
    with pytest.raises(TypeError, match=r"seed is 1\.5"):
        training.seed_everything(1.5)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    for given in ((10, 10), (10, -1), (10, 0, 2.0)):
        with pytest.raises(ValueError, match=r"warmup|final"):
            training.cosine(optimiser, *given)


def test_a_checkpoint_stands_where_folders_cannot_be_opened(tmp_path, monkeypatch):
    real = os.open

    def windows(path, *arguments, **named):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **named)

    monkeypatch.setattr(checkpoints.os, "open", windows)
    checkpoints.write(tmp_path / "run.pt", {"step": 3})
    assert checkpoints.read(tmp_path / "run.pt")["step"] == 3
