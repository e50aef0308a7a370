"""Muon: for matrices, steps whose directions are all equally long.

Source: Jordan et al. 2024 (KellerJordan/Muon, muon.py), with the step's size matched to AdamW's
(Liu et al. 2025, arXiv 2502.16982, section 2.2), so that learning rates carry over. torch's own
takes one matrix after another and no convolutions; here matrices of one shape go together, which a
small model's hundreds of small ones need.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Newton-Schulz iteration, of muon.py: five steps bring all singular values near 1.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5
_MOMENTUM = 0.95


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices [n, rows, columns] with their singular values brought near 1 (0.7 to 1.2)."""
    x = matrices.to(torch.bfloat16)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        square = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(square, square, square, beta=_B, alpha=_C)
        x = torch.baddbmm(x, polynomial, x, beta=_A)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Of weights of two and more dimensions; a convolution counts as [out, all else]."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step with the gradients there are; ``closure`` is not asked for them."""
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - _MOMENTUM)
                ahead = parameter.grad.lerp(momentum, _MOMENTUM).flatten(1)
                alike.setdefault((ahead.shape[0], ahead.shape[1]), []).append((parameter, ahead))
            for shape, pairs in alike.items():
                steps = orthogonalised(torch.stack([ahead for _, ahead in pairs]))
                # The root mean square that AdamW's steps usually have.
                size = group["lr"] * 0.2 * max(shape) ** 0.5
                for (parameter, _), step in zip(pairs, steps, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(step.view_as(parameter), alpha=size)
