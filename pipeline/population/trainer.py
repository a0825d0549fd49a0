"""Owns the population: K slots that train different trials as one tensor program.

Slots that train stand in the first rows of every stacked tensor; when one stops, the last of them
moves into its row, so that stopped slots cost nothing. A slot's number never changes, its row may.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.config import ConfigError, StudyConfig
from pipeline.data import Matrix, Splits, Task
from pipeline.population import adam, early_stopping
from pipeline.population.cuda_graph import FEWEST_STEPS, Step, StepRecorder
from pipeline.population.layers import DropoutRates, Layout, StackedMLP
from pipeline.population.losses import loss_gradient
from pipeline.population.measuring import measure, measure_first
from pipeline.population.noise import Key, NoiseTables
from pipeline.population.penalty import Penalty, coefficients
from pipeline.population.seats import Seats
from pipeline.population.slots import Slots
from pipeline.results import History, Point, StopReason, TrialResult
from pipeline.scores import chosen_score, final_scores
from pipeline.space import Hyperparameters

# With one network in the batch, bmm may take another kernel, and other last bits, than with more:
# a lone trial trains beside an idle row.
FEWEST_ROWS = 2


@dataclass
class _Slot:
    """A trial in training, or one that stopped and waits to be unloaded.

    `trials` are the trial and those that are the same until they stop earlier.
    """

    trials: tuple[Hyperparameters, ...]
    replicate: int
    learning_rate: float
    points: list[Point] = field(default_factory=list)
    results: dict[Hyperparameters, TrialResult] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Its replicate, and the epoch that it trains next."""
        return self.replicate, len(self.points) + 1

    @property
    def stopped(self) -> bool:
        """Whether none of its trials trains any more."""
        return len(self.results) == len(self.trials)


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
        splits: Training and validation rows of a replicate, which slots train on unless another is
            said.
        n_slots: K.
        n_replicates: How many replicates slots may train on at a time.
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
        n_replicates: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.n_slots = config.search.population if n_slots is None else n_slots
        if self.n_slots < 1:
            raise ValueError(f"population must be at least 1, however: {self.n_slots}")
        self._training, self._model, self._task = config.training, config.model, splits.task
        self._replicate = splits.replicate
        self._score = chosen_score(config.data, splits)
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

        self._seats = Seats(
            config, splits, self._layout, n_seats=n_replicates, dtype=dtype, device=device
        )
        self._seats.admit(splits, None, set())
        dropped = zip(config.model.hidden, config.model.dropped, strict=True)
        self._noise = NoiseTables(
            config.seed,
            n_rows=len(splits.x_train),
            batch_size=config.training.batch_size,
            width=sum(width for width, drop in dropped if drop),
            # Of one replicate, slots are at any epoch; of many, all slots of one are at the same.
            n_keys=config.training.max_epochs if n_replicates == 1 else n_replicates,
            dtype=dtype,
            device=device,
        )
        few_steps = len(self._noise.batches) < FEWEST_STEPS
        self._recorder = None if self.on_cpu or few_steps else StepRecorder()
        self._slots: Slots[_Slot] = Slots(self.n_slots)
        self._rows: list[int] = []  # row -> slot, of the slots that train
        self._networks: dict[int, StackedMLP] = {}
        self._copies: dict[int, tuple[Tensor, StackedMLP]] = {}

    @property
    def on_cpu(self) -> bool:
        """Whether it trains on the CPU."""
        return self._parameters.device.type == "cpu"

    @property
    def free_slots(self) -> list[int]:
        """Slots without a trial, in order."""
        return self._slots.free

    @torch.inference_mode()
    def admit(self, splits: Splits, test: tuple[Matrix, Matrix] | None = None) -> None:
        """Makes the rows of another replicate known; one that no slot trains on makes room.

        Args:
            splits: Its training and validation rows.
            test: Features and target of its test rows: results are then measured on them, too.

        Raises:
            ValueError: There is no room, or it has more or fewer rows or features.
            ConfigError: It has not the scores or weights that the study asks for.
        """
        in_use = {slot.replicate for slot in self._slots.values()}
        self._seats.admit(splits, test, in_use)

    @torch.inference_mode()
    def load(
        self,
        slot: int,
        hyperparameters: Hyperparameters,
        *,
        replicate: int | None = None,
        shorter: Sequence[Hyperparameters] = (),
    ) -> None:
        """Puts a trial into a free slot; it trains from the next epoch on.

        Args:
            slot: The slot.
            hyperparameters: The trial.
            replicate: What it trains on; default: the first that was known.
            shorter: Trials that differ from it by less patience alone. They are the same until
                they stop, so they cost nothing: `unload_all` has their results.

        Raises:
            ValueError: The slot does not exist or holds a trial, the replicate is not known, or a
                shorter trial differs by more than its patience.
        """
        self._slots.require_free(slot)
        replicate = self._replicate if replicate is None else replicate
        if replicate not in self._seats:
            raise ValueError(f"a replicate must be admitted first, however: {replicate}")
        for trial in shorter:
            if not _is_shorter(trial, hyperparameters):
                raise ValueError(
                    "trials that share a slot must differ by less patience alone, "
                    f"however: {trial} and {hyperparameters}"
                )
        rate = hyperparameters.learning_rate or self._training.learning_rate
        row = len(self._rows)
        self._rows.append(slot)
        self._slots[slot] = _Slot((hyperparameters, *shorter), replicate, rate)
        initial = self._seats[replicate].initial
        self._parameters[row] = initial
        self._best[row] = initial
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
        keys = [self._slots[slot].key for slot in self._rows]
        self._train(keys)
        measured = self._evaluate()
        points = {
            slot: Point(epoch, *values)
            for slot, (_, epoch), values in zip(self._rows, keys, measured, strict=True)
        }
        return dict(sorted(self._stop(points).items()))

    def unload(self, slot: int, stop_reason: StopReason = StopReason.PRUNED) -> TrialResult:
        """Empties a slot.

        Args:
            slot: The slot.
            stop_reason: Why, where the trainer itself has not stopped the trial before.

        Raises:
            ValueError: The slot holds no trial.
        """
        return self.unload_all(slot, stop_reason)[0]

    @torch.inference_mode()
    def unload_all(
        self, slot: int, stop_reason: StopReason = StopReason.PRUNED
    ) -> list[TrialResult]:
        """`unload` of a slot that shorter trials share: theirs follow in the order given."""
        self._slots.require_loaded(slot)
        if not self._slots[slot].stopped:
            self._retire(slot, stop_reason)
        trial = self._slots.pop(slot)
        return [trial.results[hyperparameters] for hyperparameters in trial.trials]

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

    def _copy_of(self, weights: Tensor) -> StackedMLP:
        """A network over a copy of some [K, P] rows, wherever they stand."""
        n_rows = max(len(weights), FEWEST_ROWS)
        if n_rows not in self._copies:
            kept = self._parameters.new_zeros(n_rows, self._layout.n_parameters)
            self._copies[n_rows] = kept, self._network_over(kept, kept)
        kept, network = self._copies[n_rows]
        kept[: len(weights)] = weights
        return network

    @torch.inference_mode()
    def _train(self, keys: list[Key]) -> None:
        network = self._network()
        n_active, n_rows = len(self._rows), max(len(self._rows), FEWEST_ROWS)
        learning_rates = [self._slots[slot].learning_rate for slot in self._rows]
        optimizer = adam.Stepper(self._parameters, self._gradients, self._adam, learning_rates)
        gather = self._penalty.gatherer(n_active, network.kernel_gradients)
        threshold = self._penalty.thresholder(n_active, self._adam)
        rates = DropoutRates.of(self._rate[:n_rows])
        drops = (self._rate[:n_active, 0] > 0).tolist()
        noise = None
        if any(drops):
            # What drops nothing keeps all units whatever the noise: that of another slot will do.
            any_key = keys[drops.index(True)]
            noisy = [key if drop else any_key for key, drop in zip(keys, drops, strict=True)]
            noise = self._noise.dropout(noisy)
        orders = self._noise.row_orders(keys)
        replicates = [replicate for replicate, _ in keys[: len(orders)]]
        batches = self._seats.batches(replicates, orders, self._training.batch_size)
        step: Step = partial(_step, self._task, network, rates, (gather, optimizer.step, threshold))
        if self._recorder is not None:
            step = self._recorder.recorded(step)
        for number, batch in enumerate(batches):
            step(*batch, noise and noise(number))

    @torch.inference_mode()
    def _evaluate(self) -> list[tuple[float, float, float, float]]:
        """Per row in use: training and validation loss, training and validation score."""
        measured: dict[int, tuple[float, float, float, float]] = {}
        of_rows = np.array([self._slots[slot].replicate for slot in self._rows])
        replicates = np.unique(of_rows)
        for replicate in replicates.tolist():
            rows = np.flatnonzero(of_rows == replicate)
            network = (
                self._network() if len(replicates) == 1 else self._copy_of(self._parameters[rows])
            )
            seat, only = self._seats[replicate], [self._score]
            train_loss, (train_score,) = measure(network, seat, seat.train, only)
            val_loss, (val_score,) = measure(network, seat, seat.val, only)
            values = zip(train_loss, val_loss, train_score, val_score, strict=True)
            measured |= zip(rows.tolist(), values, strict=False)  # there may be an idle row
        return [measured[row] for row in range(len(self._rows))]

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
        diverged = np.isnan(val_loss)
        reasons = {
            slot: self._reason(points[slot].epoch, diverged[row], stopped[row])
            for row, slot in enumerate(self._rows)
        }
        ended = {}
        for slot, reason in reasons.items():
            point = points[slot]
            ended[slot] = point if reason is None else replace(point, stop_reason=reason)
            self._slots[slot].points.append(ended[slot])
            if len(self._slots[slot].trials) > 1:
                self._stop_shorter(slot)
            if reason is not None:
                self._retire(slot, reason)
        return ended

    def _stop_shorter(self, slot: int) -> None:
        """Fixes the results of trials that run out of patience before their slot's own does."""
        trial, row = self._slots[slot], self._rows.index(slot)
        waited = len(trial.points) - int(self._stopping.best_epoch[row])
        for shorter in trial.trials[1:]:
            over = shorter.patience != "off" and waited >= shorter.patience
            if over and shorter not in trial.results and trial.points[-1].finite:
                trial.results[shorter] = self._result(slot, shorter, StopReason.EARLY_STOPPING)

    def _reason(
        self, epoch: int, diverged: np.bool_, out_of_patience: np.bool_
    ) -> StopReason | None:
        if diverged:
            return StopReason.DIVERGED
        if out_of_patience:
            return StopReason.EARLY_STOPPING
        if epoch >= self._training.max_epochs:
            return StopReason.MAX_EPOCHS
        return None

    def _retire(self, slot: int, reason: StopReason) -> None:
        """Takes a trial out of training: its result is fixed, its row is given to the last one."""
        row, last = self._rows.index(slot), len(self._rows) - 1
        trial = self._slots[slot]
        for each in trial.trials:
            if each not in trial.results:
                trial.results[each] = self._result(slot, each, reason)
        self._rows[row] = self._rows[last]
        self._rows.pop()
        for stacked in (self._parameters, self._best, self._rate):
            stacked[row] = stacked[last]
        adam.move_row(self._adam, last, row)
        self._penalty.move_row(last, row)
        for state in vars(self._stopping).values():
            state[row] = state[last]

    def _result(self, slot: int, trial: Hyperparameters, reason: StopReason) -> TrialResult:
        """What a trial of a slot is worth if it stops now."""
        row, points = self._rows.index(slot), self._slots[slot].points
        seat = self._seats[self._slots[slot].replicate]
        kept_epoch, weights = int(self._stopping.best_epoch[row]), self._best[row]
        if trial.patience == "off" and reason is not StopReason.DIVERGED:
            kept_epoch, weights = len(points), self._parameters[row]
        scores: dict[str, float] = {}
        test: dict[str, float] = {}
        if kept_epoch:
            network = self._copy_of(weights[None])
            known = final_scores(seat.splits)
            _, scores = measure_first(network, seat, seat.val, known)
            if seat.test is not None:
                names = list(dict.fromkeys((*known, self._score)))
                loss, test = measure_first(network, seat, seat.test, names)
                test |= {"loss": loss, "score": test[self._score]}
        return TrialResult(
            hyperparameters=trial,
            replicate=seat.splits.replicate,
            history=History.of(points),
            kept_epoch=kept_epoch,
            stop_reason=reason,
            weights=self._layout.state_dict(weights),
            scores=scores,
            test=test,
        )


def _step(
    task: Task,
    network: StackedMLP,
    rates: DropoutRates,
    updates: Sequence[Callable[[], None]],
    x: Float[Tensor, "k_or_1 b d"],
    y: Float[Tensor, "k_or_1 b"],
    weights: Float[Tensor, "k_or_1 b"] | None,
    noise: Float[Tensor, "other_k_or_1 units"] | None,
) -> None:
    """Gradients of one batch, and what is to be done with them."""
    logits = network.forward(x.expand(network.n_slots, -1, -1), noise, rates)
    network.backward(loss_gradient(task, logits, y, weights))
    for update in updates:
        update()


def _is_shorter(trial: Hyperparameters, other: Hyperparameters) -> bool:
    """Whether a trial is another one with less patience."""
    patience = trial.patience
    if replace(trial, patience=other.patience) != other or patience == "off":
        return False
    return other.patience == "off" or patience < other.patience
