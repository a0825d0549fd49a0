"""Owns the network of a trial as PyTorch's own modules: what trains plainly, and what predicts."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.config import ModelConfig

MODULES = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "elu": nn.ELU}


class KeyedDropout(nn.Module):
    """Inverted dropout whose uniform numbers are handed in before each training step."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.noise: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Keeps a unit where its number reaches the rate; the identity in evaluation mode."""
        if not self.training or self.noise is None:
            return x
        keep = (self.noise.to(x.dtype) >= self.rate).to(x.dtype)
        return x * keep / (1 - self.rate)


def build_network(
    model: ModelConfig, n_features: int, n_outputs: int, dropout: float = 0.0
) -> nn.Sequential:
    """The network whose state_dict a trial's `weights.pt` holds."""
    modules: list[nn.Module] = []
    width = n_features
    for hidden, dropped in zip(model.hidden, model.dropped, strict=True):
        modules += [
            nn.Linear(width, hidden),
            MODULES[model.activation](),
            KeyedDropout(dropout) if dropped else nn.Identity(),
        ]
        width = hidden
    return nn.Sequential(*modules, nn.Linear(width, n_outputs))
