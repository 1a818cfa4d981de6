import copy
import json
import random
import zlib

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


def _resealed(path, change, tensors=None):
    """The file with another header under a right checksum."""
    tensors = load_file(path) if tensors is None else tensors
    header = json.loads(_metadata(path)["header"])
    change(header)
    text = json.dumps(header)
    _rewrite(path, tensors, header=text, sha256=files._checksum(text, tensors))


def _metadata(path):
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return file.metadata()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h.update(seed=-1), "seed is -1"),
        (lambda h: h.update(seed=True), "seed is True"),
        (lambda h: h["matrices"].pop("layer1"), "2 layers"),
        (lambda h: h["matrices"].update(layer2=h["matrices"]["layer1"]), "layer2.words' is missing"),
        (lambda h: h.pop("plan"), "plan"),
        (lambda h: h.update(plan=[1]), "TypeError"),
        (lambda h: h["plan"].update(shape=[2, 2, 9]), "another shape"),
        (lambda h: h["plan"].update(shape=[2.5, 2, 1]), r"shape\[0\] is 2.5"),
        (lambda h: h["plan"].update(asked=float("nan")), "asked is nan"),
        (lambda h: h["plan"].update(signed_inputs=False), "another recipe"),
        (lambda h: h["plan"].update(more=1), "more"),
        (lambda h: h.update(divisors=[3]), "divisors has 1 entries"),
        (lambda h: h.update(constants=[5, 0]), "constants is"),
        (lambda h: h.update(generator=["x"]), "its source came from"),
        (lambda h: h.update(matrices=3), "not that of a ticket"),
        (lambda h: h["matrices"]["layer0"].update(shape=[2, 3]), "layer0"),
        (lambda h: h["matrices"]["layer0"].update(shape=[2**31] * 3), "layer0: holds"),
        (lambda h: h["matrices"]["layer0"]["recipe"].update(kind="x"), "layer0: kind is 'x'"),
        (lambda h: h["matrices"]["layer0"]["recipe"].update(blocks=[40.0]), r"layer0: blocks\[0\] is 40.0"),
    ],
)
def test_other_contents_under_a_right_checksum_are_refused(saved, change, words):
    *_, path = saved
    _resealed(path, change)
    with pytest.raises(tickets.TicketFileError, match=words):
        tickets.Ticket.load(path)


def test_a_header_that_is_no_object_is_refused(saved):
    *_, path = saved
    tensors = load_file(path)
    for text in ("[]", "3", "null", "{", "[" * 5000, "{}", '"x"'):
        _rewrite(path, tensors, header=text, sha256=files._checksum(text, tensors))
        with pytest.raises(tickets.TicketFileError, match="not that of a ticket"):
            tickets.Ticket.load(path)


@pytest.mark.parametrize("dtype", ["F8_E5M2", "F8_E4M3", "BF16", "I8", "F64", "X"])
def test_a_tensor_of_another_dtype_is_refused(saved, dtype):
    *_, path = saved
    _, head, body = _parts(path)
    head["layer0.words"]["dtype"] = dtype
    _write_parts(path, head, body)
    with pytest.raises(tickets.TicketFileError, match=r"readable|checksum|uint8"):
        tickets.Ticket.load(path)


def test_a_small_file_does_not_unpack_to_more_than_its_shape(saved):
    *_, path = saved
    bomb = np.frombuffer(zlib.compress(bytes(10**7)), np.uint8)
    _resealed(path, lambda _: None, {**load_file(path), "layer0.tries": bomb})
    with pytest.raises(tickets.TicketFileError, match="layer0: holds"):
        tickets.Ticket.load(path)


def _parts(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return data, json.loads(data[8 : 8 + size]), data[8 + size :]


def _write_parts(path, head, body):
    text = json.dumps(head).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def _places(value, place=()):
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*place, key)
        yield from _places(part, (*place, key))


JUNK = [None, True, -1, 0, 1, 255, 2**31, 2**64, 1.5, float("nan"), "", "relu", [], [1, 2], {}]


def _mutated(value, rng):
    value = copy.deepcopy(value)
    *way, last = rng.choice(list(_places(value)))
    inner = value
    for key in way:
        inner = inner[key]
    if rng.random() < 0.25:
        del inner[last]
    else:
        inner[last] = rng.choice(JUNK)
    return value


def test_a_mutated_file_is_the_same_ticket_or_a_ticket_file_error(saved, tmp_path):
    net, ticket, path = saved
    data, head, body = _parts(path)
    tensors, rng = load_file(path), random.Random(0)
    other, read = tmp_path / "other", 0
    for trial in range(300):
        if trial % 3 == 0:
            flipped = bytearray(data)
            for _ in range(rng.choice((1, 2, 5, 20))):
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            other.write_bytes(flipped)
        elif trial % 3 == 1:
            _write_parts(other, _mutated(head, rng), body)
        else:
            other.write_bytes(data)
            mutated = _mutated(json.loads(head["__metadata__"]["header"]), rng)
            _resealed(other, lambda header, new=mutated: (header.clear(), header.update(new)), tensors)
        try:
            again = tickets.Ticket.load(other)
        except tickets.TicketFileError:
            continue
        read += 1
        if trial % 3 != 2:  # a right checksum over other rounding or another seed is another ticket
            assert again.plan == ticket.plan and again.divisors == ticket.divisors
            assert all(np.array_equal(a, b) for a, b in zip(again.network().weights, net.weights))
    assert read < 30
