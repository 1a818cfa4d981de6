"""A ticket as a torch module: masked integer weights, so that it runs beside the target in the same framework."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from prunequant.arguments import integer
from prunequant.tickets.carve import Carving, Pruned


class PrunedSource(torch.nn.Module):
    """The pruned random network on int64 tensors; ``forward`` returns the raw outputs, `scale` times the target's.

    Buffers ``u0, v0, u1, v1, ...`` hold the dense masked matrices (u absent where the layer has no U of its own).
    The integers must stay below 2⁶³ (torch wraps): the constructor proves it for inputs up to ``largest_input``.
    Everything else is what a `Ticket` holds under the same names.
    """

    def __init__(
        self,
        carvings: Sequence[Carving],
        layers: Sequence[Pruned],
        divisors: Sequence[int],
        constants: Sequence[int],
        largest_input: int = 2**16,
    ) -> None:
        super().__init__()
        self.steps: list[tuple[bool, int, int]] = []
        scale, reach = 1, integer(largest_input, "largest_input", 0, 2**62)
        for l, (carving, layer) in enumerate(zip(carvings, layers)):
            width, columns = carving.recipe.width, carving.columns
            constant = constants[l] * scale
            paired = carving.recipe.kind != "uniform"
            reach = max(reach, constant)
            if paired:
                dense = np.zeros((columns * width, columns), np.int64)
                dense[np.arange(columns * width), np.arange(columns).repeat(width)] = layer.u.ravel()
                self.register_buffer(f"u{l}", torch.from_numpy(dense))
                reach *= int(np.abs(layer.u).max())
            self.register_buffer(f"v{l}", torch.from_numpy(layer.v.copy()))
            reach *= int(np.abs(layer.v).sum(axis=1).max())
            scale *= carving.recipe.factor
            divisor = divisors[l]
            if 2 * reach + scale * max(divisor, 1) >= 2**63:
                raise ValueError(
                    f"layer {l} may reach {reach}, beyond int64: round between layers or run Ticket.forward"
                )
            self.steps.append((paired, constant, scale * divisor))
            if divisor:
                reach, scale = reach // (scale * divisor) + 1, 1
        self.scale = scale
        self.widths = [c.recipe.width for c in carvings]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Integer inputs (N, d) to raw integer outputs (N, out)."""
        x = x.to(torch.int64)
        for l, (paired, constant, divisor) in enumerate(self.steps):
            if constant:
                copies = 1 if paired else self.widths[l]
                x = torch.cat([x, x.new_full((x.shape[0], copies), constant)], dim=1)
            if paired:
                x = torch.relu(x @ getattr(self, f"u{l}").T)
            x = x @ getattr(self, f"v{l}").T
            if divisor:
                x = torch.div(2 * x + divisor, 2 * divisor, rounding_mode="floor")
            if l + 1 < len(self.steps):
                x = torch.relu(x)
        return x
