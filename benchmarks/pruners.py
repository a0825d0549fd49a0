"""Compares pruners on recorded learning curves: what each saves, and what the saving costs.

    python -m benchmarks.pruners [--lcbench FOLDER] [--seed 0] [--quick] [--fresh]

Curves are recorded once, unpruned (and cached in the temporary folder: --fresh after a change to
training), then replayed to each pruner as a population of 16 slots that are refilled as trials
stop. Two sources:

- `own`: studies over the default space, 100 epochs, patience 3 to 30; random trials in several
  orders, and TPE's trials in the order in which TPE asked for them.
- `LCBench` (Zimmer, Lindauer and Hutter 2021): 52 epochs of validation cross-entropy on 34 tables,
  as the surrogate of YAHPO Gym predicts them, with a patience of 3 to 30 drawn for each trial.
  FOLDER holds its model.onnx, config_space.json and encoding.json; needs onnxruntime.

A third, `off`, is a study without early stopping, where a trial ends with its last loss, not with
the best that pruners look at.

Columns, for studies of 100 trials: `saved` epochs; `lost` studies whose best trial was pruned;
`regret`, by how many percent the best loss left over exceeds the best loss unpruned: mean, 95 %
bootstrap interval over tables, worst; `equal epochs`, the same mean if the epochs saved go into
further trials, up to what the unpruned study spends (below 0: better than unpruned; `none` itself
is above 0 by the trials that are unfinished when the epochs are spent).

Optuna's pruners judge through a shadow study in memory, on fewer orders because they are slow.
WilcoxonPruner is left out: it compares folds or instances, and the epochs of a curve are neither.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.trial import TrialState as OptunaState

from pipeline.config import DataConfig, StudyConfig
from pipeline.data import load_table, split
from pipeline.population import early_stopping
from pipeline.population.trainer import PopulationTrainer
from pipeline.pruning import Pruner, PrunerName, make_pruner
from pipeline.results import TrialState
from pipeline.space import SearchSpace

Curves = NDArray[np.float64]  # [trials, epochs] validation losses, NaN after the last epoch

SOURCES = (
    "synthetic:noisy_100",
    "sklearn:breast_cancer",
    "sklearn:diabetes",
    "synthetic:friedman_100",
    "sklearn:digits",
)
POPULATION = 16
MAX_EPOCHS = 100
LCBENCH_EPOCHS = 52
LCBENCH_INPUTS = (
    "epoch",
    "batch_size",
    "learning_rate",
    "momentum",
    "weight_decay",
    "num_layers",
    "max_units",
    "max_dropout",
)
VAL_CROSS_ENTROPY = 2  # column of the surrogate's output


@dataclass(frozen=True)
class Scale:
    """How much is recorded and replayed."""

    sources: Sequence[str]
    n_trials: int  # of a study that is judged
    n_random: int  # curves to draw from, more than n_trials for the comparison at equal epochs
    n_tpe: int
    tpe_studies: int
    own_orders: int
    lcbench_orders: int
    lcbench_tasks: int
    resamples: int


FULL = Scale(SOURCES, 100, 200, 150, 2, 10, 2, 34, 2000)
QUICK = Scale(SOURCES[:1], 40, 60, 60, 1, 2, 1, 4, 200)


class Judge(Protocol):
    """What a study's loop needs of a pruner."""

    def report(self, trial: int, val_loss: float) -> None: ...

    def finish(self, trial: int, state: TrialState) -> None: ...

    def should_prune(self, trial: int) -> bool: ...


class Stock:
    """One of Optuna's pruners, judging the trials of a shadow study."""

    def __init__(self, pruner: optuna.pruners.BasePruner) -> None:
        # Hyperband draws a trial's bracket from the study's name, which is random by default.
        self._study = optuna.create_study(pruner=pruner, study_name="shadow")
        self._trials: list[optuna.Trial] = []
        self._curves: list[list[float]] = []

    def report(self, trial: int, val_loss: float) -> None:
        if trial == len(self._trials):
            self._trials.append(self._study.ask())
            self._curves.append([])
        self._curves[trial].append(val_loss)
        self._trials[trial].report(val_loss, step=len(self._curves[trial]))

    def finish(self, trial: int, state: TrialState) -> None:
        complete = state is TrialState.COMPLETE
        self._study.tell(
            self._trials[trial],
            min(self._curves[trial]) if complete else None,
            state=OptunaState.COMPLETE if complete else OptunaState.PRUNED,
        )

    def should_prune(self, trial: int) -> bool:
        return self._trials[trial].should_prune()


class CompletePeersOnly:
    """Our pruner, from which pruned trials vanish as failed ones do."""

    def __init__(self, pruner: Judge) -> None:
        self._pruner = pruner
        self.report, self.should_prune = pruner.report, pruner.should_prune

    def finish(self, trial: int, state: TrialState) -> None:
        self._pruner.finish(trial, TrialState.FAILED if state is TrialState.PRUNED else state)


MakeJudge = Callable[[int], Judge]  # of max_epochs


@dataclass(frozen=True)
class Contender:
    """A row of the table."""

    label: str
    make: MakeJudge
    stock: bool = False


def contenders(quick: bool) -> Iterator[Contender]:
    """The rows, `none` first."""
    names: tuple[PrunerName, ...] = ("median", "quartile", "pace")

    def ours(name: PrunerName, warmup: int) -> MakeJudge:
        return lambda max_epochs: make_pruner(name, warmup, max_epochs=max_epochs)

    def complete_peers_only(make: MakeJudge) -> MakeJudge:
        return lambda max_epochs: CompletePeersOnly(make(max_epochs))

    def best_quarter(warmup: int) -> MakeJudge:
        return lambda _: Pruner(tolerated=0.25, warmup=warmup)

    def stock(make: Callable[[int], optuna.pruners.BasePruner]) -> MakeJudge:
        return lambda max_epochs: Stock(make(max_epochs))

    yield Contender("none", ours("none", 0))
    for name in names:
        for warmup in (10, 20) if quick else (0, 5, 10, 20, 30, 40):
            yield Contender(f"{name}, warm-up {warmup}", ours(name, warmup))
    for warmup in (10,) if quick else (5, 10, 20, 30):
        yield Contender(f"keep the best quarter, warm-up {warmup}", best_quarter(warmup))
    for name in names[::2]:
        for warmup in (10,) if quick else (10, 20):
            yield Contender(
                f"{name}, warm-up {warmup}, pruned are no peers",
                complete_peers_only(ours(name, warmup)),
            )
    yield Contender(
        "pace, warm-up 10, max_epochs unknown",
        lambda _: make_pruner("pace", 10),
    )
    pruners = optuna.pruners
    for warmup in (10,) if quick else (0, 10, 20, 30):
        yield Contender(
            f"Optuna Median, warm-up {warmup}",
            stock(lambda _, w=warmup: pruners.MedianPruner(n_warmup_steps=w)),
            stock=True,
        )
    yield Contender(
        "Optuna Percentile(75), warm-up 20",
        stock(lambda _: pruners.PercentilePruner(75.0, n_warmup_steps=20)),
        stock=True,
    )
    yield Contender(
        "Optuna Patient(Median, 5), warm-up 10",
        stock(lambda _: pruners.PatientPruner(pruners.MedianPruner(n_warmup_steps=10), patience=5)),
        stock=True,
    )
    yield Contender(
        "Optuna SuccessiveHalving(10, 3)",
        stock(lambda _: pruners.SuccessiveHalvingPruner(min_resource=10, reduction_factor=3)),
        stock=True,
    )
    yield Contender(
        "Optuna Hyperband(5..max, 3)",
        stock(lambda epochs: pruners.HyperbandPruner(5, max_resource=epochs, reduction_factor=3)),
        stock=True,
    )


@dataclass(frozen=True)
class Case:
    """Trials of one study in the order in which they start; those after `n_trials` are spare."""

    family: str
    table: str
    order: int
    curves: Sequence[Sequence[float]]
    max_epochs: int
    kept_best: bool  # or else the last epoch's weights

    @property
    def finals(self) -> NDArray[np.float64]:
        """The loss that each trial ends with unpruned."""
        return np.array([min(c) if self.kept_best else c[-1] for c in self.curves])


def record(
    source: str, seed: int, sampler: optuna.samplers.BaseSampler, n: int, off: bool
) -> Curves:
    """Trains `n` trials of the default space, unpruned, in lockstep."""
    space = SearchSpace(patience="off") if off else SearchSpace()
    config = StudyConfig(name="curves", seed=seed, data=DataConfig(source=source), space=space)
    trainer = PopulationTrainer(
        config, split(load_table(config.data), config.data, seed), n_slots=POPULATION
    )
    study = optuna.create_study(sampler=sampler)
    curves = np.full((n, MAX_EPOCHS), np.nan)
    running: dict[int, optuna.Trial] = {}
    asked = 0
    while running or asked < n:
        for slot in trainer.free_slots[: n - asked]:
            running[slot] = study.ask()
            trainer.load(slot, config.search_space.suggest(running[slot]))
            asked += 1
        for slot, point in trainer.train_epoch().items():
            if point.stop_reason is not None:
                result, trial = trainer.unload(slot), running.pop(slot)
                curves[trial.number, : len(result.history)] = result.history.val_loss
                study.tell(trial, result.val_loss)
    return curves


def own_curves(scale: Scale, seed: int, cache: Path, fresh: bool) -> dict[str, Curves]:
    """By sampler and source; read from `cache` where it exists."""
    if cache.exists() and not fresh:
        with np.load(cache) as stored:
            return dict(stored)
    curves = {}
    for source in scale.sources:
        print(f"recording {source} ...", flush=True)
        random = optuna.samplers.RandomSampler(seed)
        curves[f"random/{source}"] = record(source, seed, random, scale.n_random, off=False)
        for number in range(scale.tpe_studies):
            tpe = optuna.samplers.TPESampler(seed=seed + number, constant_liar=True)
            curves[f"tpe-{number}/{source}"] = record(
                source, seed + number, tpe, scale.n_tpe, off=False
            )
    random = optuna.samplers.RandomSampler(seed)
    curves[f"off/{SOURCES[0]}"] = record(SOURCES[0], seed, random, scale.n_random, off=True)
    np.savez(cache, **curves)
    return curves


def lcbench_curves(folder: Path, scale: Scale, seed: int) -> dict[str, Curves]:
    """By task; each trial ended by a patience of its own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    surrogate = onnxruntime.InferenceSession(folder / "model.onnx", options)
    encoding = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]
    described = json.loads((folder / "config_space.json").read_text())["hyperparameters"]
    space = {parameter["name"]: parameter for parameter in described}
    epochs = np.arange(1, LCBENCH_EPOCHS + 1)
    curves = {}
    for task in space["OpenML_task_id"]["choices"][: scale.lcbench_tasks]:
        draw = np.random.default_rng((seed, int(task)))
        columns = []
        for name in LCBENCH_INPUTS:
            low, high, log = (space[name][key] for key in ("lower", "upper", "log"))
            ends = np.log([low, high]) if log else [low, high]
            values = draw.uniform(*ends, scale.n_random)
            values = np.exp(values) if log else values
            columns.append(np.round(values) if "int" in space[name]["type"] else values)
        inputs = np.repeat(np.stack(columns, axis=1), LCBENCH_EPOCHS, axis=0).astype(np.float32)
        inputs[:, 0] = np.tile(epochs, scale.n_random)
        numbers = np.full((len(inputs), 1), encoding[task], np.int32)
        predicted = surrogate.run(None, {"x_cat": numbers, "x_cont": inputs})[0]
        losses = predicted[:, VAL_CROSS_ENTROPY].reshape(scale.n_random, -1).astype(np.float64)
        curves[task] = stop_early(losses, draw.integers(3, 31, scale.n_random))
    return curves


def stop_early(losses: Curves, patience: NDArray[np.int64]) -> Curves:
    """Blanks what comes after the epoch at which each trial would have been stopped."""
    state = early_stopping.init(len(losses))
    state.patience[:] = patience
    running = np.ones(len(losses), dtype=bool)
    losses = losses.copy()
    for column in range(losses.shape[1]):
        epoch = np.full(len(losses), column + 1)
        state, _, stopped = early_stopping.update(state, losses[:, column], epoch, 0.0)
        losses[~running, column] = np.nan
        running &= ~stopped
    return losses


def cases(
    family: str, table: str, curves: Curves, orders: int, seed: int, kept_best: bool = True
) -> Iterator[Case]:
    """The same curves in several random orders, or in their own if `orders` is 0."""
    for number in range(max(orders, 1)):
        order = np.arange(len(curves))
        if orders:
            np.random.default_rng((seed, number)).shuffle(order)
        listed = [curve[~np.isnan(curve)].tolist() for curve in curves[order]]
        yield Case(family, table, number, listed, curves.shape[1], kept_best)


@dataclass(frozen=True)
class Outcome:
    """What one pruner made of one case."""

    table: str
    saved: float
    lost: bool
    regret: float
    at_equal_epochs: float


def replay(case: Case, judge: Judge, n_trials: int) -> Outcome:
    """Runs a population over a case until its epochs are spent and its first trials are over."""
    curves, finals = case.curves, case.finals
    winner = int(finals[:n_trials].argmin())
    budget = sum(len(curve) for curve in curves[:n_trials])
    ages, pruned = np.zeros(len(curves), dtype=int), np.zeros(len(curves), dtype=bool)
    running: list[int] = []
    waiting = iter(range(len(curves)))
    best_in_budget, spent = np.inf, 0
    while True:
        running += [trial for _, trial in zip(range(POPULATION - len(running)), waiting)]  # noqa: B905
        if not running or (spent >= budget and min(running) >= n_trials):
            break
        for trial in running:
            judge.report(trial, curves[trial][ages[trial]])
            ages[trial] += 1
        spent += len(running)
        over = {trial for trial in running if ages[trial] == len(curves[trial])}
        pruned_now = {t for t in running if t not in over and judge.should_prune(t)}
        if spent <= budget:
            best_in_budget = min([best_in_budget, *(finals[trial] for trial in over)])
        for trial in sorted(over | pruned_now):
            state = TrialState.PRUNED if trial in pruned_now else TrialState.COMPLETE
            judge.finish(trial, state)
        pruned[list(pruned_now)] = True
        running = [trial for trial in running if trial not in over | pruned_now]
    best, first = finals[winner], slice(0, n_trials)
    left = np.where(pruned[first], np.inf, finals[first]).min()
    return Outcome(
        case.table,
        saved=1 - int(ages[first].sum()) / budget,
        lost=bool(pruned[winner]),
        regret=left / best - 1,
        at_equal_epochs=best_in_budget / best - 1,
    )


def interval(outcomes: Sequence[Outcome], resamples: int, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the mean regret; tables are what is drawn again."""
    by_table: dict[str, list[float]] = {}
    for outcome in outcomes:
        by_table.setdefault(outcome.table, []).append(outcome.regret)
    means = np.array([np.mean(regrets) for regrets in by_table.values()])
    drawn = np.random.default_rng(seed).choice(means, (resamples, len(means))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


HEADER = ("saved", "lost", "regret [95 %], worst", "equal epochs")


def cells(outcomes: Sequence[Outcome], resamples: int, seed: int) -> list[str]:
    """One family's part of a row, regrets in percent."""
    regrets = np.array([outcome.regret for outcome in outcomes])
    regret = f"nothing left in {int(np.isinf(regrets).sum())}"
    if np.isfinite(regrets).all():
        low, high = interval(outcomes, resamples, seed)
        regret = f"{100 * regrets.mean():.2f} [{100 * low:.2f}, {100 * high:.2f}], "
        regret += f"{100 * regrets.max():.1f}"
    return [
        f"{np.mean([outcome.saved for outcome in outcomes]):.0%}",
        f"{sum(outcome.lost for outcome in outcomes)} of {len(outcomes)}",
        regret,
        f"{100 * np.mean([outcome.at_equal_epochs for outcome in outcomes]):+.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares pruners on recorded learning curves.")
    parser.add_argument("--lcbench", type=Path, help="folder of the LCBench surrogate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="seconds, and no evidence")
    parser.add_argument("--fresh", action="store_true", help="record our own curves again")
    options = parser.parse_args()
    scale, seed = QUICK if options.quick else FULL, options.seed
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

    start = time.perf_counter()
    name = f"pruner-curves-{'quick' if options.quick else 'full'}-{seed}.npz"
    studies: list[Case] = []
    for key, curves in own_curves(
        scale, seed, Path(tempfile.gettempdir()) / name, options.fresh
    ).items():
        kind, _, source = key.partition("/")
        if kind == "off":
            studies += cases("off", source, curves, scale.own_orders, seed, kept_best=False)
        else:
            orders = scale.own_orders if kind == "random" else 0
            studies += cases("own", source, curves, orders, seed)
    if options.lcbench is None or not (options.lcbench / "model.onnx").exists():
        print(f"LCBench is skipped: no surrogate at {options.lcbench} (--lcbench FOLDER)")
    else:
        try:
            for task, curves in lcbench_curves(options.lcbench, scale, seed).items():
                studies += cases("LCBench", task, curves, scale.lcbench_orders, seed)
        except ImportError:
            print("LCBench is skipped: onnxruntime is not installed")

    families = sorted({case.family for case in studies}, key=("own", "LCBench", "off").index)
    shown = {family: len(HEADER) - (family == "off") for family in families}
    titles = [f"{family}: {title}" for family in families for title in HEADER[: shown[family]]]
    print(" | ".join(["| pruner", *titles]) + " |")
    print("|---" * (1 + len(titles)) + "|", flush=True)
    for contender in contenders(options.quick):
        row = [contender.label]
        for family in families:
            outcomes = [
                replay(case, contender.make(case.max_epochs), scale.n_trials)
                for case in studies
                if case.family == family and not (contender.stock and case.order > 0)
            ]
            row += cells(outcomes, scale.resamples, seed)[: shown[family]]
        print("| " + " | ".join(row) + " |", flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s, seed {seed}")


if __name__ == "__main__":
    main()
