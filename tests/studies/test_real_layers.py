"""Real layers: their Gram matrices are the energy of their own outputs."""

import pytest

from prunequant.studies import real_layers


@pytest.mark.parametrize("name", ["depthwise 3x3", "expand 16"])
def test_a_gram_matrix_is_the_energy_of_the_layers_own_output(name):
    import torch

    layer, model = real_layers.layer(name), real_layers._model()
    module = model.get_submodule(real_layers.LAYERS[name])
    seen = {}
    handle = module.register_forward_hook(lambda _, inputs, output: seen.update(y=output))
    with torch.no_grad():
        model(real_layers._images(1))
    handle.remove()
    energy = seen["y"].double().pow(2).mean(dim=(0, 2, 3)).numpy()
    for j in layer.channels(4):
        weights, gram = layer.channel(j)
        assert weights @ gram @ weights == pytest.approx(energy[j], rel=0.15)  # 4000 patches of 25,088


def test_an_unknown_layer_is_refused_with_its_name():
    with pytest.raises(ValueError, match="name is 'attention'"):
        real_layers.layer("attention")
