import numpy as np
import pytest

from naive import distortion as naive
from prunequant.distortion import best_step
from prunequant.models import integer_efficientnet as efficientnet
from prunequant.studies import imagenet_ticket as efficientnet_ticket
from prunequant.tickets import files

pytest.importorskip("torch")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def state():
    return efficientnet.read_model()


@pytest.fixture(scope="module")
def small(state):
    """The whole network quantized on 64 × 64 cuttings of the photographs."""
    images = efficientnet.prepared_photographs()[0][:, :, 80:144, 80:144]
    return efficientnet.quantize(state, images), images


@pytest.fixture(scope="module")
def recovered(small):
    return efficientnet_ticket.find_network(small[0], seed=0)


def test_the_float_network_sees_a_palace_and_a_daisy(state):
    *_, (_, logits) = efficientnet.float_forward(state, efficientnet.prepared_photographs()[0])
    assert logits[:, :, 0, 0].argmax(axis=1).tolist() == [698, 985]


def test_what_the_integers_are_fitted_to_is_the_float_network(state):
    import torch

    images = efficientnet.prepared_photographs()[0][:, :, 60:157, 50:150]
    *_, (_, logits) = efficientnet.float_forward(state, images)
    with torch.no_grad():
        wanted = state(torch.from_numpy(images / 128)).numpy()
    assert np.allclose(logits[:, :, 0, 0], wanted, rtol=0, atol=1e-11 * np.abs(wanted).max())


def test_batch_norm_is_folded_into_the_convolution(state):
    import torch

    rng, places = np.random.default_rng(0), {place.name: place for place in efficientnet.architecture()}
    for name in ("stem", "block1.depthwise", "block3.project", "classifier"):
        place = places[name]
        weight, bias = efficientnet.folded(state, place)
        channels = len(weight) if place.depthwise else weight.shape[1]
        x = rng.standard_normal((1, channels, 1, 1))
        layer = state.get_submodule(place.key)
        with torch.no_grad():
            y = layer(torch.from_numpy(x if place.norm else x[:, :, 0, 0]))
            y = state.get_submodule(place.norm)(y) if place.norm else y
        middle = weight[:, :, weight.shape[2] // 2, weight.shape[2] // 2]  # all that one pixel between zeros meets
        ours = middle[:, 0] * x[0, :, 0, 0] if place.depthwise else middle @ x[0, :, 0, 0]
        assert np.allclose(ours + bias, y.numpy().ravel(), rtol=0, atol=1e-11 * np.abs(ours + bias).max())


def test_every_weight_is_four_bits_and_there_are_four_million_of_them(small):
    network, _ = small
    assert network.parameters == 4_608_992 and len(network.layers) == 50
    assert max(int(np.abs(l.weight).max()) for l in network.layers) == 7


def test_each_output_channel_has_the_step_that_loses_least(state):
    names = {"stem", "block2.depthwise", "block2.project"}
    table = naive.symmetric(15)
    for place in efficientnet.architecture():
        if place.name in names:
            weight, _ = efficientnet.folded(state, place)
            whole, step = efficientnet.whole_weights(state, place)
            alive = step > 1e-3 * np.median(step)
            for row, q, s in zip(weight[alive], whole[alive], step[alive]):
                lost = np.square(row - q * s).sum()
                assert lost <= naive.least_error(row.ravel(), table) + 1e-12 * np.square(row).sum()
                scanned = naive.scanned_step(row.ravel(), table, np.linspace(0.3, 1.05, 80))
                assert lost <= naive.rounding_error(row.ravel(), scanned, table) + 1e-12 * np.square(row).sum()


def test_a_dead_channel_gets_a_thousandth_of_the_median_step():
    w = np.random.default_rng(0).standard_normal((9, 4, 3, 3))
    w[2], w[5] = 0.0, 1e-12 * w[5]
    step = efficientnet.channel_steps(w, 7)
    alive = [i for i in range(9) if i not in (2, 5)]
    assert np.array_equal(step[alive], [best_step(w[i], 15) for i in alive])
    assert step[2] == step[5] == pytest.approx(1e-3 * np.median(step), rel=1e-12)


def test_the_weights_of_a_layer_depend_on_no_photograph(state, small):
    for layer in small[0].layers[::10]:
        whole, step = efficientnet.whole_weights(state, layer.place)
        assert np.array_equal(whole, layer.weight) and step.shape == (len(whole),)


def test_the_whole_network_is_found_by_masks_and_its_logits_are_the_targets(small, recovered, tmp_path):
    network, images = small
    tickets, rows = recovered
    assert sum(r["certified_failure"] for r in rows) <= 0.01
    efficientnet_ticket.save(tmp_path / "lite0.ticket", tickets, 0)
    again = efficientnet_ticket.load(tmp_path / "lite0.ticket")
    logits = efficientnet_ticket.run(network, again, images)
    assert np.array_equal(logits, network.forward(images)) and len(np.unique(logits)) > 500
    stem = again["stem"]
    assert np.array_equal(stem.kernel.kernel(), network.layers[0].weight)


def test_one_lost_mask_bit_changes_the_logits(small, recovered):
    network, images = small
    tickets, _ = recovered
    pair = tickets["stem"].kernel
    words = pair.carving.words.copy()
    place = tuple(np.argwhere(words != 0)[5])
    words[place] &= words[place] - np.uint64(1)
    forged = type(pair)(type(pair.carving)(pair.carving.recipe, words, pair.carving.tries), pair.seed, pair.shape)
    stem = efficientnet_ticket.LayerTicket(forged, tickets["stem"].bias)

    def sums(layer, x, pads):  # the tickets of the other layers compute just the exact sums: see the test above
        return stem.sums(layer, x, pads) if layer.place.name == "stem" else efficientnet.exact_sums(layer, x, pads)

    assert not np.array_equal(network.forward(images, sums), network.forward(images))


def test_rescaling_gives_the_same_integer_for_a_sum_and_for_its_multiple(small):
    rng = np.random.default_rng(0)
    for layer in small[0].layers[:6]:
        z = rng.integers(-5000, 5000, (1, len(layer.bias), 3, 3))
        skip = rng.integers(-(2**30), 2**30, z.shape)
        one, seven = (efficientnet.rescale(layer, f * z, f, skip) for f in (1, 7))
        assert np.array_equal(one, seven)


def test_biases_are_written_in_balanced_digits():
    values = np.random.default_rng(0).integers(-(10**9), 10**9, 500)
    digits = efficientnet_ticket.digits(values, 7)
    assert np.abs(digits).max() <= 7
    assert np.array_equal(digits @ 15 ** np.arange(digits.shape[1]), values)
    assert efficientnet_ticket.digits(np.zeros(3, int), 7).shape == (3, 1)


def test_a_file_of_another_kind_is_refused(tmp_path):
    files.write(tmp_path / "x", {"kind": "network"}, {})
    with pytest.raises(files.TicketFileError, match="kind 'network'"):
        efficientnet_ticket.load(tmp_path / "x")
