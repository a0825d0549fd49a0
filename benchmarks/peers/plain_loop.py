"""The training loop that the Optuna and the Ray peer share.

It follows PyTorch's tutorial "Optimizing Model Parameters"
(docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html) for our network, losses and
regularization, at its fastest (ms an epoch of 1,200 rows x 100 features in batches of 32):

- batches are slices of tensors that are permuted once an epoch: a DataLoader would collate row by
  row;
- Adam is the fused one, which updates all parameters in one call: 30 to 35 ms, where foreach took
  33 to 42 and the default 40 to 44;
- L2 and weight decay are Adam's own `weight_decay`, coupled or decoupled, of the kernels' parameter
  group: 30 to 37 ms, where L2 added to the loss took 40 to 49. Only L1 has to be added;
- an epoch is measured by one forward pass over each whole split in inference mode.

One thread is for the callers to set: in turn on an idle machine, one took 34 ms and two took 45.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.config import StudyConfig
from pipeline.data import Splits, Task
from pipeline.space import Hyperparameters, Regularization

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "elu": nn.ELU}


class Epoch(NamedTuple):
    """What is known after an epoch."""

    train_loss: float
    val_loss: float
    train_score: float
    val_score: float


def build_network(config: StudyConfig, splits: Splits, dropout: float) -> nn.Sequential:
    """Linear, activation and dropout for each hidden layer, then the output layer."""
    layers: list[nn.Module] = []
    width = splits.n_features
    for hidden, dropped in zip(config.model.hidden, config.model.dropped, strict=True):
        layers += [nn.Linear(width, hidden), ACTIVATIONS[config.model.activation]()]
        layers += [nn.Dropout(dropout)] if dropped and dropout > 0 else []
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, splits.n_outputs))


def build_optimizer(
    config: StudyConfig, trial: Hyperparameters, network: nn.Sequential
) -> torch.optim.Adam:
    """Adam that also applies whatever part of the regularization is quadratic.

    `weight_decay` adds its product with the weights to the gradients, which is what the gradient of
    half of it times the sum of squares is: hence the 2.
    """
    kind, strength = trial.regularization, trial.lambda_
    decay = {
        Regularization.L2: 2 * strength,
        Regularization.ELASTIC_NET: 2 * strength * (1 - (trial.l1_ratio or 0)),
        Regularization.WEIGHT_DECAY: strength,
    }.get(kind, 0.0)
    weighed = penalized_kernels(config, network)
    others = [p for p in network.parameters() if all(p is not kernel for kernel in weighed)]
    groups = [{"params": weighed, "weight_decay": decay}, {"params": others}]
    return torch.optim.Adam(
        groups if decay else network.parameters(),
        lr=trial.learning_rate or config.training.learning_rate,
        decoupled_weight_decay=kind is Regularization.WEIGHT_DECAY,
        fused=True,
    )


def penalized_kernels(config: StudyConfig, network: nn.Sequential) -> list[nn.Parameter]:
    """The kernels that the study regularizes."""
    linears = [module for module in network if isinstance(module, nn.Linear)]
    return [m.weight for m, weighed in zip(linears, config.model.penalized, strict=True) if weighed]


def train(
    config: StudyConfig,
    splits: Splits,
    trial: Hyperparameters,
    network: nn.Sequential,
) -> Iterator[Epoch]:
    """Trains until patience or epochs run out, and yields after each epoch.

    However the iteration ends, the network is left with the weights of its best epoch (of its last,
    where patience is off).
    """
    x_train, x_val = torch.tensor(splits.x_train), torch.tensor(splits.x_val)
    y_train, y_val = (as_target(splits.task, y) for y in (splits.y_train, splits.y_val))
    loss_of = loss_function(splits.task)
    optimizer = build_optimizer(config, trial, network)
    l1 = {Regularization.L1: 1.0, Regularization.ELASTIC_NET: trial.l1_ratio or 0}
    l1_strength = trial.lambda_ * l1.get(trial.regularization, 0)
    kernels = penalized_kernels(config, network)

    best_loss, best_weights, waited = float("inf"), None, 0
    try:
        for _ in range(config.training.max_epochs):
            network.train()
            order = torch.randperm(len(x_train))
            x_batches = x_train[order].split(config.training.batch_size)
            y_batches = y_train[order].split(config.training.batch_size)
            for x, y in zip(x_batches, y_batches, strict=True):
                loss = loss_of(network(x), y)
                if l1_strength:
                    loss = loss + l1_strength * sum(kernel.abs().sum() for kernel in kernels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            network.eval()
            train_loss, train_score = measure(network, loss_of, splits.task, x_train, y_train)
            val_loss, val_score = measure(network, loss_of, splits.task, x_val, y_val)
            waited += 1
            if val_loss < best_loss - config.training.min_delta:
                best_loss, waited = val_loss, 0
                best_weights = {k: v.clone() for k, v in network.state_dict().items()}
            yield Epoch(train_loss, val_loss, train_score, val_score)
            if trial.patience != "off" and waited >= trial.patience:
                return
    finally:
        if trial.patience != "off" and best_weights is not None:
            network.load_state_dict(best_weights)


def loss_function(task: Task) -> nn.Module:
    """The mean loss of a batch."""
    if task is Task.MULTICLASS:
        return nn.CrossEntropyLoss()
    return nn.MSELoss() if task is Task.REGRESSION else nn.BCEWithLogitsLoss()


def as_target(task: Task, y: NDArray[np.float32]) -> Tensor:
    """Class numbers for the cross-entropy; else a column, as the network's single output is."""
    target = torch.tensor(y)
    return target.long() if task is Task.MULTICLASS else target.unsqueeze(1)


@torch.inference_mode()
def measure(
    network: nn.Sequential, loss_of: nn.Module, task: Task, x: Tensor, y: Tensor
) -> tuple[float, float]:
    """Loss, and accuracy or R squared, over a whole split."""
    output = network(x)
    loss = loss_of(output, y).item()
    if task is Task.REGRESSION:
        return loss, 1 - loss / y.var(correction=0).item()
    predicted = output.argmax(dim=1) if task is Task.MULTICLASS else output > 0
    return loss, (predicted == y).float().mean().item()
