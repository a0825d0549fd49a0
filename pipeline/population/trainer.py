"""Owns the population: K slots that train different trials as one tensor program.

Slots that train stand in the first rows of every stacked tensor; when one stops, the last of them
moves into its row, so that stopped slots cost nothing. A slot's number never changes, its row may.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.config import ConfigError, ScoreName, StudyConfig
from pipeline.data import Splits
from pipeline.population import adam, early_stopping
from pipeline.population.layers import DropoutRates, Layout, StackedMLP
from pipeline.population.losses import class_weights, loss_gradient, losses, row_weights
from pipeline.population.noise import NoiseTables, initial_parameters
from pipeline.population.penalty import Penalty, coefficients
from pipeline.population.scores import Part, make_score
from pipeline.results import History, Point, StopReason, TrialResult
from pipeline.scores import chosen_score, final_scores
from pipeline.space import Hyperparameters

# Rows evaluated at a time: enough for the matrix products, few enough for the cache.
EVALUATION_ROWS = 256

# Rows whose losses are computed at a time: enough to be few, not so many as to outgrow the data.
SCORED_ROWS = 4096

# Steps whose row numbers are looked up at a time.
STACKED_STEPS = 64

# With one network in the batch, bmm may take another kernel, and other last bits, than with more:
# a lone trial trains beside an idle row.
FEWEST_ROWS = 2


@dataclass
class _Slot:
    """A trial in training, or one that stopped and waits to be unloaded."""

    hyperparameters: Hyperparameters
    learning_rate: float
    points: list[Point] = field(default_factory=list)
    result: TrialResult | None = None


def device_of(name: str) -> torch.device:
    """The device of a study's `training.device`; `auto` is the GPU where there is one.

    Raises:
        ConfigError: There is no GPU.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("cuda needs a GPU, however: torch finds none (training.device)")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


class PopulationTrainer:
    """Trains up to K trials at the same time, each exactly as `reference.train` would alone.

    Args:
        config: The study; its `search.population` is K unless `n_slots` says otherwise.
        splits: Training and validation rows, the same for all slots.
        n_slots: K.
        dtype: Precision of training.

    Raises:
        ValueError: K is below 1.
        ConfigError: The study asks for a device that is not there, or for a score or weights that
            the task does not have.

    Example:
        >>> trainer = PopulationTrainer(config, splits)             # doctest: +SKIP
        >>> trainer.load(0, Hyperparameters("l2", lambda_=1e-3))    # doctest: +SKIP
        >>> while (point := trainer.train_epoch()[0]).stop_reason is None: ...  # doctest: +SKIP
        >>> result = trainer.unload(0)                              # doctest: +SKIP
    """

    @torch.inference_mode()
    def __init__(
        self,
        config: StudyConfig,
        splits: Splits,
        *,
        n_slots: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.n_slots = config.search.population if n_slots is None else n_slots
        if self.n_slots < 1:
            raise ValueError(f"population must be at least 1, however: {self.n_slots}")
        self._training, self._model, self._splits = config.training, config.model, splits
        self._score = chosen_score(config.data, splits)
        weights = class_weights(config.training, splits)
        sizes = (splits.n_features, *config.model.hidden, splits.n_outputs)
        self._layout = Layout(sizes)
        n_rows = max(self.n_slots, FEWEST_ROWS)

        device = device_of(config.training.device)
        shape = (n_rows, self._layout.n_parameters)
        self._parameters = torch.zeros(shape, dtype=dtype, device=device)
        self._gradients = torch.zeros_like(self._parameters)
        self._best = torch.zeros_like(self._parameters)
        self._adam = adam.init(self._parameters)
        self._stopping = early_stopping.init(n_rows)
        self._penalty = Penalty(
            self._layout,
            config.model.penalized,
            self._parameters,
            self._gradients,
            proximal=config.model.l1 == "proximal",
        )
        self._rate = self._parameters.new_zeros(n_rows, 1)

        self._initial = self._initial_parameters(config.seed)
        dropped = zip(config.model.hidden, config.model.dropped, strict=True)
        self._noise = NoiseTables(
            config.seed,
            splits.replicate,
            n_rows=len(splits.x_train),
            batch_size=config.training.batch_size,
            width=sum(width for width, drop in dropped if drop),
            max_epochs=config.training.max_epochs,
            dtype=dtype,
            device=device,
        )
        # On the CPU, in single precision, these are the splits' own memory: no copy is made.
        self._train_split, self._val_split = (
            (torch.from_numpy(x).to(device, dtype), torch.from_numpy(y).to(device, dtype))
            for x, y in ((splits.x_train, splits.y_train), (splits.x_val, splits.y_val))
        )
        self._class_weights = None if weights is None else self._train_split[0].new_tensor(weights)
        self._slots: dict[int, _Slot] = {}
        self._rows: list[int] = []  # row -> slot, of the slots that train
        self._networks: dict[int, StackedMLP] = {}
        self._scorer: tuple[Tensor, StackedMLP] | None = None

    @property
    def on_cpu(self) -> bool:
        """Whether it trains on the CPU."""
        return self._parameters.device.type == "cpu"

    @property
    def free_slots(self) -> list[int]:
        """Slots without a trial, in order."""
        return [slot for slot in range(self.n_slots) if slot not in self._slots]

    @torch.inference_mode()
    def load(self, slot: int, hyperparameters: Hyperparameters) -> None:
        """Puts a trial into a free slot; it trains from the next epoch on.

        Raises:
            ValueError: The slot does not exist or holds a trial.
        """
        if slot not in range(self.n_slots) or slot in self._slots:
            raise ValueError(f"a trial must be loaded into a free slot, however: {slot}")
        rate = hyperparameters.learning_rate or self._training.learning_rate
        row = len(self._rows)
        self._rows.append(slot)
        self._slots[slot] = _Slot(hyperparameters, rate)
        self._parameters[row] = self._initial
        self._best[row] = self._initial
        adam.reset_row(self._adam, row)
        self._penalty.set_row(row, coefficients(hyperparameters), rate)
        self._rate[row] = hyperparameters.dropout
        self._stopping.best_loss[row] = np.inf
        self._stopping.best_epoch[row] = 0
        patience = hyperparameters.patience
        self._stopping.patience[row] = early_stopping.NEVER if patience == "off" else patience

    @torch.inference_mode()
    def train_epoch(self) -> dict[int, Point]:
        """Advances every slot that trains by one epoch and measures it.

        Returns:
            A point per slot, by number. A slot whose point carries a stop reason trains no further.
        """
        if not self._rows:
            return {}
        self._arrange(self._penalty.arrangement(len(self._rows)))
        epochs = [len(self._slots[slot].points) + 1 for slot in self._rows]
        self._train(epochs)
        measured = self._evaluate()
        points = {
            slot: Point(epoch, *values)
            for slot, epoch, values in zip(self._rows, epochs, measured, strict=True)
        }
        return dict(sorted(self._stop(points).items()))

    @torch.inference_mode()
    def unload(self, slot: int, stop_reason: StopReason = StopReason.PRUNED) -> TrialResult:
        """Empties a slot.

        Args:
            slot: The slot.
            stop_reason: Why, where the trainer itself has not stopped the trial before.

        Raises:
            ValueError: The slot holds no trial.
        """
        if slot not in self._slots:
            raise ValueError(f"only a loaded slot can be unloaded, however: {slot}")
        if self._slots[slot].result is None:
            self._retire(slot, stop_reason)
        result = self._slots.pop(slot).result
        assert result is not None
        return result

    def _initial_parameters(self, seed: int) -> Tensor:
        flat = torch.zeros_like(self._parameters[:1])
        drawn = initial_parameters(seed, self._splits.replicate, self._layout.sizes)
        views = zip(self._layout.kernels(flat), self._layout.biases(flat), strict=True)
        for (kernel_view, bias_view), (kernel, bias) in zip(views, drawn, strict=True):
            kernel_view[0] = torch.from_numpy(kernel)
            bias_view[0] = torch.from_numpy(bias)
        return flat[0]

    def _arrange(self, order: list[int]) -> None:
        """Puts the rows in use into this order."""
        if order == list(range(len(order))):
            return
        self._rows = [self._rows[row] for row in order]
        for stacked in (self._parameters, self._best, self._rate):
            stacked[: len(order)] = stacked[order]
        adam.arrange(self._adam, order)
        self._penalty.arrange(order)
        for state in vars(self._stopping).values():
            state[: len(order)] = state[order]

    def _network(self) -> StackedMLP:
        """The network over the rows in use, kept for the next epoch with as many."""
        n_rows = max(len(self._rows), FEWEST_ROWS)
        if n_rows not in self._networks:
            self._networks[n_rows] = self._network_over(
                self._parameters[:n_rows], self._gradients[:n_rows]
            )
        return self._networks[n_rows]

    def _network_over(self, parameters: Tensor, gradients: Tensor) -> StackedMLP:
        model = self._model
        return StackedMLP(self._layout, model.activation, model.dropped, parameters, gradients)

    @torch.inference_mode()
    def _train(self, epochs: list[int]) -> None:
        network = self._network()
        n_active, n_rows = len(self._rows), max(len(self._rows), FEWEST_ROWS)
        learning_rates = [self._slots[slot].learning_rate for slot in self._rows]
        optimizer = adam.Stepper(self._parameters, self._gradients, self._adam, learning_rates)
        gather = self._penalty.gatherer(n_active, network.kernel_gradients)
        threshold = self._penalty.thresholder(n_active, self._adam)
        rates = DropoutRates.of(self._rate[:n_rows])
        dropping = bool(rates.rate[:n_active].any())
        noise = self._noise.dropout(epochs) if dropping else None
        for step, (x, y) in enumerate(self._batches(epochs)):
            logits = network.forward(x.expand(n_rows, *x.shape[-2:]), noise and noise(step), rates)
            network.backward(loss_gradient(self._splits.task, logits, y, self._class_weights))
            gather()
            optimizer.step()
            threshold()

    def _batches(self, epochs: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Per step rows [K, B, D] and targets [K, B], or [B, D] and [1, B] where all are alike.

        Row numbers are stacked for some steps at a time, as K times N of them would outgrow the
        data.
        """
        orders, size = self._noise.row_orders(epochs), self._training.batch_size
        x, y = self._train_split
        for start in range(0, len(x), STACKED_STEPS * size):
            part = slice(start, start + STACKED_STEPS * size)
            stacked = torch.stack([order[part] for order in orders])
            targets = y.take(stacked)
            for rows, target in zip(stacked.split(size, 1), targets.split(size, 1), strict=True):
                if len(orders) == 1:
                    yield x.index_select(0, rows[0]), target
                else:
                    yield x.index_select(0, rows.flatten()).view(*rows.shape, -1), target

    @torch.inference_mode()
    def _evaluate(self) -> list[tuple[float, float, float, float]]:
        """Per row in use: training and validation loss, training and validation score."""
        network, only = self._network(), [self._score]
        train_loss, (train_score,) = self._measure(network, self._train_split, only)
        val_loss, (val_score,) = self._measure(network, self._val_split, only)
        measured = zip(train_loss, val_loss, train_score, val_score, strict=True)
        return list(measured)[: len(self._rows)]

    def _measure(
        self, network: StackedMLP, split: tuple[Tensor, Tensor], names: Sequence[ScoreName]
    ) -> tuple[list[float], list[list[float]]]:
        """Mean loss, and scores by name, over a split's rows, per row of the network."""
        task, n_slots, (x, y) = self._splits.task, network.n_slots, split
        scores = [make_score(name, task, self._splits.target_scale) for name in names]
        lost = x.new_zeros(n_slots, dtype=torch.float64)
        at_a_time = EVALUATION_ROWS if x.device.type == "cpu" else SCORED_ROWS
        for inputs, part in zip(x.split(SCORED_ROWS), y.split(SCORED_ROWS), strict=True):
            target = part[None]
            logits = x.new_empty(n_slots, len(inputs), self._layout.sizes[-1])
            for some, out in zip(inputs.split(at_a_time), logits.split(at_a_time, 1), strict=True):
                out.copy_(network.forward(some.expand(n_slots, -1, -1)))
            row_losses = losses(task, logits, target)
            for score in scores:
                score.add(Part(logits, row_losses, target))
            if self._class_weights is not None:
                row_losses = row_losses * row_weights(self._class_weights, target)
            lost += row_losses.sum(dim=1, dtype=torch.float64)
        return (lost / len(x)).tolist(), [score.values(y) for score in scores]

    def _all_scores(self, weights: Tensor) -> dict[str, float]:
        """All scores of the validation rows with these weights."""
        if self._scorer is None:
            kept = self._parameters.new_empty(FEWEST_ROWS, self._layout.n_parameters)
            self._scorer = kept, self._network_over(kept, kept)
        kept, network = self._scorer
        kept.copy_(weights)
        names = final_scores(self._splits)
        _, values = self._measure(network, self._val_split, names)
        return {name: of_slots[0] for name, of_slots in zip(names, values, strict=True)}

    def _stop(self, points: dict[int, Point]) -> dict[int, Point]:
        """Keeps the best weights, notes the points, and retires the slots that are through."""
        n_active = len(self._rows)
        val_loss = np.full(len(self._parameters), np.nan)
        val_loss[:n_active] = [p.val_loss if p.finite else np.nan for p in points.values()]
        epoch = np.zeros(len(self._parameters), dtype=np.int64)
        epoch[:n_active] = [point.epoch for point in points.values()]
        self._stopping, improved, stopped = early_stopping.update(
            self._stopping, val_loss, epoch, self._training.min_delta
        )
        better = torch.from_numpy(np.flatnonzero(improved))
        self._best[better] = self._parameters[better]
        reasons = {
            slot: self._reason(points[slot], bool(stopped[row]))
            for row, slot in enumerate(self._rows)
        }
        ended = {}
        for slot, reason in reasons.items():
            ended[slot] = replace(points[slot], stop_reason=reason)
            self._slots[slot].points.append(ended[slot])
            if reason is not None:
                self._retire(slot, reason)
        return ended

    def _reason(self, point: Point, out_of_patience: bool) -> StopReason | None:
        if not point.finite:
            return StopReason.DIVERGED
        if out_of_patience:
            return StopReason.EARLY_STOPPING
        if point.epoch >= self._training.max_epochs:
            return StopReason.MAX_EPOCHS
        return None

    def _retire(self, slot: int, reason: StopReason) -> None:
        """Takes a trial out of training: its result is fixed, its row is given to the last one."""
        row, last = self._rows.index(slot), len(self._rows) - 1
        trial = self._slots[slot]
        kept_epoch, weights = int(self._stopping.best_epoch[row]), self._best[row]
        if trial.hyperparameters.patience == "off" and reason is not StopReason.DIVERGED:
            kept_epoch, weights = len(trial.points), self._parameters[row]
        trial.result = TrialResult(
            hyperparameters=trial.hyperparameters,
            replicate=self._splits.replicate,
            history=History.of(trial.points),
            kept_epoch=kept_epoch,
            stop_reason=reason,
            weights=self._layout.state_dict(weights),
            scores=self._all_scores(weights) if kept_epoch else {},
        )
        self._rows[row] = self._rows[last]
        self._rows.pop()
        for stacked in (self._parameters, self._best, self._rate):
            stacked[row] = stacked[last]
        adam.move_row(self._adam, last, row)
        self._penalty.move_row(last, row)
        for state in vars(self._stopping).values():
            state[row] = state[last]
