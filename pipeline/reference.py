"""Owns the specification: one trial as anybody would write it, one plain loop with autograd.

Slow and obvious on purpose. The population is right where it computes what stands here.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.config import ModelConfig, StudyConfig
from pipeline.data import Splits, Task, r_squared
from pipeline.population.noise import by_layer, dropout_noise, initial_parameters, row_order
from pipeline.results import History, Point, StopReason, TrialResult
from pipeline.space import Hyperparameters, Regularization

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


def train(
    config: StudyConfig,
    splits: Splits,
    hyperparameters: Hyperparameters,
    *,
    epochs: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> TrialResult:
    """Trains one trial.

    Args:
        config: The study.
        splits: Training and validation rows of one replicate.
        hyperparameters: What to train.
        epochs: Train exactly as many, keep the last weights: no early stopping.
        dtype: Precision of training.
    """
    network = build_network(
        config.model, splits.n_features, splits.n_outputs, hyperparameters.dropout
    ).to(dtype)
    linears = [module for module in network if isinstance(module, nn.Linear)]
    dropouts = [
        (module, config.model.hidden[number // 3])
        for number, module in enumerate(network)
        if isinstance(module, KeyedDropout)
    ]
    sizes = (splits.n_features, *config.model.hidden, splits.n_outputs)
    drawn = initial_parameters(config.seed, splits.replicate, sizes)
    with torch.no_grad():
        for linear, (kernel, bias) in zip(linears, drawn, strict=True):
            linear.weight.copy_(torch.from_numpy(kernel).T)
            linear.bias.copy_(torch.from_numpy(bias))

    weighed = [
        linear.weight
        for linear, penalized in zip(linears, config.model.penalized, strict=True)
        if penalized
    ]
    rate = hyperparameters.learning_rate or config.training.learning_rate
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    x_train, y_train, x_val, y_val = (
        torch.from_numpy(array).to(dtype)
        for array in (splits.x_train, splits.y_train, splits.x_val, splits.y_val)
    )
    patience = hyperparameters.patience if epochs is None else "off"
    max_epochs = config.training.max_epochs if epochs is None else epochs
    batch_size = config.training.batch_size

    points: list[Point] = []
    best_loss, best_epoch = float("inf"), 0
    best_weights = copy.deepcopy(network.state_dict())
    stop_reason: StopReason | None = None
    while stop_reason is None:
        epoch = len(points) + 1
        network.train()
        order = row_order(config.seed, splits.replicate, epoch, len(x_train))
        for step, rows in enumerate(order.split(batch_size)):
            widths = [width for _, width in dropouts]
            n_units = len(rows) * sum(widths)
            noise = dropout_noise(config.seed, splits.replicate, epoch, step, n_units)
            parts = by_layer(noise[None], len(rows), widths)
            for (dropout, _), part in zip(dropouts, parts, strict=True):
                dropout.noise = part[0]
            optimizer.zero_grad()
            loss = mean_loss(splits.task, network(x_train[rows]), y_train[rows])
            (loss + penalty(hyperparameters, weighed)).backward()
            if hyperparameters.regularization is Regularization.WEIGHT_DECAY:
                with torch.no_grad():
                    for weight in weighed:
                        weight.mul_(1 - rate * hyperparameters.lambda_)
            optimizer.step()

        network.eval()
        with torch.no_grad():
            train_loss, train_score = measure(splits.task, network(x_train), y_train)
            val_loss, val_score = measure(splits.task, network(x_val), y_val)
        point = Point(epoch, train_loss, val_loss, train_score, val_score)
        points.append(point)
        if point.finite and val_loss < best_loss - config.training.min_delta:
            best_loss, best_epoch = val_loss, epoch
            best_weights = copy.deepcopy(network.state_dict())
        if not point.finite:
            stop_reason = StopReason.DIVERGED
        elif patience != "off" and epoch - best_epoch >= patience:
            stop_reason = StopReason.EARLY_STOPPING
        elif epoch >= max_epochs:
            stop_reason = StopReason.MAX_EPOCHS

    if patience == "off" and stop_reason is not StopReason.DIVERGED:
        best_epoch, best_weights = len(points), network.state_dict()
    return TrialResult(
        hyperparameters=hyperparameters,
        replicate=splits.replicate,
        history=History.of(points),
        kept_epoch=best_epoch,
        stop_reason=stop_reason,
        weights={name: tensor.numpy() for name, tensor in best_weights.items()},
    )


def penalty(hyperparameters: Hyperparameters, kernels: list[Tensor]) -> Tensor:
    """`lambda * (r * sum|w| + (1 - r) * sum w^2)`, zero for `none` and `weight_decay`."""
    ratio = {
        Regularization.L1: 1.0,
        Regularization.L2: 0.0,
        Regularization.ELASTIC_NET: hyperparameters.l1_ratio,
    }.get(hyperparameters.regularization)
    if ratio is None or not kernels:
        return torch.zeros(())
    absolute = torch.stack([kernel.abs().sum() for kernel in kernels]).sum()
    squared = torch.stack([kernel.square().sum() for kernel in kernels]).sum()
    return hyperparameters.lambda_ * (ratio * absolute + (1 - ratio) * squared)


def mean_loss(task: Task, logits: Tensor, target: Tensor) -> Tensor:
    """The loss that is trained and measured, averaged over rows."""
    if task is Task.MULTICLASS:
        return functional.cross_entropy(logits, target.long())
    if task is Task.REGRESSION:
        return functional.mse_loss(logits.squeeze(1), target)
    return functional.binary_cross_entropy_with_logits(logits.squeeze(1), target)


def measure(task: Task, logits: Tensor, target: Tensor) -> tuple[float, float]:
    """Loss, and accuracy or R squared."""
    loss = float(mean_loss(task, logits, target))
    if task is Task.REGRESSION:
        return loss, r_squared(loss, float(target.var(correction=0)))
    if task is Task.MULTICLASS:
        return loss, float((logits.argmax(dim=1) == target).double().mean())
    return loss, float(((logits.squeeze(1) > 0) == (target > 0.5)).double().mean())
