import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from prunequant import tickets
from prunequant.tickets import files


@pytest.fixture
def saved(tmp_path):
    net = tickets.Network([[[3, -7, 1], [2, 2, -5]], [[-4, 1, 2]]], 7, divisors=(3, 0), constants=(5, 2))
    ticket = tickets.find(net, tickets.plan(net, failure=1e-4), 2**63 + 5)
    ticket.save(tmp_path / "net.ticket")
    return net, ticket, tmp_path / "net.ticket"


def _rewrite(path, tensors=None, **metadata):
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        old = file.metadata()
    save_file(tensors or load_file(path), path, {**old, **metadata})


def test_a_ticket_comes_back_whole_and_brings_its_target(saved):
    net, ticket, path = saved
    again = tickets.Ticket.load(path)
    assert again.plan == ticket.plan and again.seed == ticket.seed and again.target is None
    assert all(np.array_equal(a, b) for a, b in zip(again.network().weights, net.weights))
    x = np.random.default_rng(0).integers(-30, 30, (20, 2))
    assert again.verify(x, net).identical
    with pytest.raises(ValueError, match="target is missing"):
        again.verify(x)


def test_the_file_holds_no_source_weight(saved):
    _, ticket, path = saved
    assert sorted(load_file(path)) == [f"layer{l}.{part}" for l in (0, 1) for part in ("tries", "words")]
    assert path.stat().st_size < ticket.plan.parameters


def test_a_flipped_bit_a_truncated_file_and_a_foreign_file_are_named(saved, tmp_path):
    *_, path = saved
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.with_name("flipped").write_bytes(data)
    path.with_name("short").write_bytes(data[:-10])
    path.with_name("text").write_text("not a ticket at all")
    save_file({"x": np.zeros(2)}, path.with_name("other"))
    for name, why in (
        ("flipped", "checksum"),
        ("short", "readable"),
        ("text", "readable"),
        ("other", "format is None"),
    ):
        with pytest.raises(tickets.TicketFileError, match=f"{name}.*{why}"):
            tickets.Ticket.load(path.with_name(name))
    with pytest.raises(FileNotFoundError, match="no such ticket"):
        tickets.Ticket.load(tmp_path / "absent")


def test_another_version_and_another_generator_are_refused(saved):
    *_, path = saved
    _rewrite(path, version="2")
    with pytest.raises(tickets.TicketFileError, match="version is '2'"):
        tickets.Ticket.load(path)


def test_masks_that_do_not_fit_their_shape_are_refused_even_with_a_right_checksum(saved):
    *_, path = saved
    tensors = load_file(path)
    header, _ = files.read(path)
    header["matrices"]["layer1"]["shape"] = [2, 3, 1]
    text = json.dumps(header, sort_keys=True)
    _rewrite(path, tensors, header=text, sha256=files._checksum(text, tensors))
    with pytest.raises(tickets.TicketFileError, match="layer1: holds 3 masks"):
        tickets.Ticket.load(path)


def test_a_header_whose_seed_was_changed_shows_no_network(saved):
    *_, path = saved
    tensors = load_file(path)
    header, _ = files.read(path)
    header["seed"] += 1
    text = json.dumps(header, sort_keys=True)
    _rewrite(path, tensors, header=text, sha256=files._checksum(text, tensors))
    with pytest.raises(ValueError, match="do not stand for a matrix"):
        tickets.Ticket.load(path).network()


def test_a_write_that_fails_leaves_the_old_file(saved, monkeypatch):
    _, ticket, path = saved
    before = path.read_bytes()

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        ticket.save(path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]
