"""Owns the specification: one trial as anybody would write it, one plain loop with autograd.

Slow and obvious on purpose. The population is right where it computes what stands here.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from pipeline.config import L1, ScoreName, StudyConfig
from pipeline.data import Splits, Task
from pipeline.network import KeyedDropout, build_network
from pipeline.population.noise import by_layer, dropout_noise, initial_parameters, row_order
from pipeline.results import History, Point, StopReason, TrialResult
from pipeline.scores import chosen_score, final_scores, scores_of
from pipeline.space import Hyperparameters, Regularization


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
    score_name = chosen_score(config.data, splits)
    weights = class_weights(config, splits, dtype)
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
            loss = mean_loss(splits.task, network(x_train[rows]), y_train[rows], weights)
            (loss + penalty(hyperparameters, weighed, config.model.l1)).backward()
            if hyperparameters.regularization is Regularization.WEIGHT_DECAY:
                decay(weighed, 1 - rate * hyperparameters.lambda_)
            optimizer.step()
            if config.model.l1 == "proximal":
                l1 = hyperparameters.lambda_ * (l1_ratio(hyperparameters) or 0.0)
                soft_threshold(optimizer, weighed, l1)

        network.eval()
        with torch.no_grad():
            chosen = (score_name, weights, splits.target_scale)
            train_loss, train_score = measure(splits.task, network(x_train), y_train, *chosen)
            val_loss, val_score = measure(splits.task, network(x_val), y_val, *chosen)
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
    with torch.no_grad():
        logits = functional_call(network, best_weights, x_val)
    return TrialResult(
        hyperparameters=hyperparameters,
        replicate=splits.replicate,
        history=History.of(points),
        kept_epoch=best_epoch,
        stop_reason=stop_reason,
        weights={name: tensor.numpy() for name, tensor in best_weights.items()},
        scores=all_scores(splits, logits, y_val) if best_epoch else {},
    )


def penalty(
    hyperparameters: Hyperparameters, kernels: list[Tensor], l1: L1 = "subgradient"
) -> Tensor:
    """`lambda * (r * sum|w| + (1 - r) * sum w^2)`, zero for `none` and `weight_decay`.

    Where L1 is proximal, the first of the two sums is left to `soft_threshold`.
    """
    ratio = l1_ratio(hyperparameters)
    if ratio is None or not kernels:
        return torch.zeros(())
    absolute = torch.stack([kernel.abs().sum() for kernel in kernels]).sum()
    squared = torch.stack([kernel.square().sum() for kernel in kernels]).sum()
    l1_part = ratio * absolute if l1 == "subgradient" else 0.0
    return hyperparameters.lambda_ * (l1_part + (1 - ratio) * squared)


def l1_ratio(hyperparameters: Hyperparameters) -> float | None:
    """The share of L1 in the penalty, None where there is no penalty."""
    return {
        Regularization.L1: 1.0,
        Regularization.L2: 0.0,
        Regularization.ELASTIC_NET: hyperparameters.l1_ratio,
    }.get(hyperparameters.regularization)


def decay(kernels: list[Tensor], factor: float) -> None:
    """Decoupled weight decay, before a step."""
    with torch.no_grad():
        for kernel in kernels:
            kernel.mul_(factor)


def soft_threshold(optimizer: torch.optim.Adam, kernels: list[Tensor], strength: float) -> None:
    """The proximal step of the penalty `strength * sum|w|`, after a step of Adam.

    Every weight moves towards zero by what Adam's scaling makes of a gradient of `strength`, and to
    zero where that is farther: Yun, Lozano and Yang 2021, "Adaptive Proximal Gradient Methods for
    Structured Neural Networks" (NeurIPS).
    """
    rate, (_, beta2), epsilon = (optimizer.defaults[key] for key in ("lr", "betas", "eps"))
    with torch.no_grad():
        for kernel in kernels:
            state = optimizer.state[kernel]
            second = state["exp_avg_sq"] / (1 - beta2 ** state["step"].item())
            threshold = rate * strength / (second.sqrt() + epsilon)
            kernel.copy_(kernel.sign() * (kernel.abs() - threshold).clamp(min=0))


def class_weights(config: StudyConfig, splits: Splits, dtype: torch.dtype) -> Tensor | None:
    """What the loss of a class's rows is multiplied by, counted in the training rows."""
    from sklearn.utils.class_weight import compute_class_weight

    if config.training.class_weight == "none":
        return None
    weights = torch.ones(max(2, splits.n_outputs), dtype=dtype)
    present = np.unique(splits.y_train)
    balanced = compute_class_weight("balanced", classes=present, y=splits.y_train)
    weights[present.astype(int)] = torch.from_numpy(balanced).to(dtype)
    return weights


def mean_loss(task: Task, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """The loss that is trained and measured: each row's, by its class's weight, over the rows."""
    if task is Task.REGRESSION:
        return functional.mse_loss(logits.squeeze(1), target)
    if task is Task.MULTICLASS:
        rows = functional.cross_entropy(logits, target.long(), reduction="none")
    else:
        rows = functional.binary_cross_entropy_with_logits(
            logits.squeeze(1), target, reduction="none"
        )
    return (rows if weights is None else rows * weights[target.long()]).mean()


def score(
    name: ScoreName, task: Task, logits: Tensor, target: Tensor, target_scale: float = 1.0
) -> float:
    """A score as scikit-learn defines it; NaN of logits that are none."""
    from sklearn import metrics

    if not torch.isfinite(logits).all():
        return float("nan")
    if name == "log_loss":
        return float(mean_loss(task, logits, target))
    if task is Task.REGRESSION:
        predicted = logits.squeeze(1).numpy()
        in_units = target.numpy() * target_scale, predicted * target_scale
        measure = {
            "r2": metrics.r2_score,
            "rmse": metrics.root_mean_squared_error,
            "mae": metrics.mean_absolute_error,
        }
        return float(measure[name](*in_units))
    truth = target.long().numpy()
    if task is Task.MULTICLASS:
        predicted = logits.argmax(dim=1).numpy()
        likely = torch.softmax(logits, dim=1).numpy()
    else:
        likely = logits.squeeze(1).numpy()
        predicted = (likely > 0).astype(truth.dtype)
    if name == "accuracy":
        return float(metrics.accuracy_score(truth, predicted))
    if name == "balanced_accuracy":
        # Not balanced_accuracy_score, which warns of a prediction that no row is.
        present = np.unique(truth)
        return float(metrics.recall_score(truth, predicted, labels=present, average="macro"))
    if len(np.unique(truth)) < max(2, logits.shape[1]):
        return float("nan")
    return float(metrics.roc_auc_score(truth, likely, multi_class="ovr"))


def all_scores(splits: Splits, logits: Tensor, target: Tensor) -> dict[str, float]:
    """What a trial is scored by at its end."""
    task, scale = splits.task, splits.target_scale
    return {name: score(name, task, logits, target, scale) for name in final_scores(splits)}


def measure(
    task: Task,
    logits: Tensor,
    target: Tensor,
    name: ScoreName | None = None,
    weights: Tensor | None = None,
    target_scale: float = 1.0,
) -> tuple[float, float]:
    """Loss, and a score: by default the one that a study shows by default."""
    name = name or scores_of(task)[0]
    loss = float(mean_loss(task, logits, target, weights))
    return loss, score(name, task, logits, target, target_scale)
