"""Measures how a study's rate grows with its populations, and what its driver can sustain.

    python -m benchmarks.scale [--only engines calls fleets store] [--random] [--largest]

- `engines`: one study in 1, 2 and 4 populations, as processes of this machine and as Ray's actors,
  and in one process with two threads; in fresh processes with fresh stores, in turn.
- `calls`: what asking one of Ray's actors takes the driver.
- `fleets`: the study's own loop, sampler, pruner, journal and fleet, over members that answer
  instead of training (`benchmarks/simulated.py`), without a tracking store. Where an epoch takes 0
  seconds, what is left is the driver's own work; its parts are shares of the wall time.
- `store`: the same, with the real recorder and a fresh sqlite store.

`--random` has a sampler that costs nothing in place of TPE, which leaves what else there is. The
journal's cost is that of the disk under the folder for temporary files: `TMPDIR=/dev/shm` has none.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import wait
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.fresh import ROOT, last_line, timed
from benchmarks.simulated import MOST, SimulatedSource, timed_calls
from benchmarks.storeless import Storeless
from benchmarks.whole_study import read_ours, write_study

STUDY = ROOT / "studies" / "noisy_100.toml"

# Populations, slots of all of them, trials, and the median seconds of an epoch.
Case = tuple[int, int, int, float]
FLEETS: tuple[Case, ...] = (
    (1, 16, 500, 0.0),
    (10, 160, 1_000, 0.0),
    (100, 400, 1_000, 0.0),
    (100, 400, 1_000, 0.2),
)
LARGEST: tuple[Case, ...] = ((1_000, 1_000, 20_000, 0.0), (1_000, 1_000, 100_000, 0.0))
STORES: tuple[Case, ...] = ((10, 160, 1_000, 0.0),)
LARGEST_STORES: tuple[Case, ...] = ((100, 400, 5_000, 0.0),)

ENGINES = {
    "local, 1, one thread": (1, "--engine", "local", "--populations", "1"),
    "local, 1, two threads": (3, "--engine", "local", "--populations", "1"),
    "local, 2": (1, "--engine", "local", "--populations", "2"),
    "local, 4": (1, "--engine", "local", "--populations", "4"),
    "ray, 1": (1, "--engine", "ray", "--populations", "1"),
    "ray, 2": (1, "--engine", "ray", "--populations", "2"),
    "ray, 4": (1, "--engine", "ray", "--populations", "4"),
}


def one_fleet(
    n_populations: int,
    n_slots: int,
    n_trials: int,
    epoch_seconds: float,
    stored: bool,
    random: bool,
) -> dict[str, float]:
    """Runs a simulated study in this process: seconds by part, memory in MiB."""
    import optuna

    import pipeline.report  # noqa: F401  # at the end of a search it would be its own
    from pipeline import sampler
    from pipeline.config import load_config
    from pipeline.data import load_table, split
    from pipeline.description import describe_study
    from pipeline.engine import CrewEngine
    from pipeline.population.crew import Crew
    from pipeline.recorder import Recorder, start_writer
    from pipeline.sampling import Sampling, quiet_optuna
    from pipeline.search import Search

    overrides = {
        "search.n_trials": n_trials,
        "search.population": n_slots,
        "training.max_epochs": MOST,
        "confirm.replicates": 0,
    }
    config = load_config(STUDY, overrides)
    table = load_table(config.data)
    splits = split(table, config.data, config.seed)
    if random:
        sampler.make_sampler = lambda _, number: optuna.samplers.RandomSampler(seed=number)
    recorder: Any = None
    if stored:
        start_writer()
        description = describe_study(config, table, splits, None)
        recorder = Recorder(config, description, resume=False, stop_if_asked=lambda: None)
        recorder.opened()
    source = SimulatedSource(config, splits, n_populations, epoch_seconds)
    engine = CrewEngine(Crew(source, timeout=30.0))
    seconds: dict[str, float] = {}
    n_epochs = most_waiting = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        quiet_optuna(),
        closing(engine.population(config, splits)) as trainer,
    ):
        recorder = recorder or Storeless(Path(folder), lambda _: None)
        sampling = Sampling(config)

        def note(_: object) -> None:
            nonlocal n_epochs, most_waiting
            n_epochs += 1
            most_waiting = max(most_waiting, len(search.written) + len(search.ended))

        search = Search(config, sampling, trainer, engine, recorder, note)
        sampling.open_journal(Path(recorder.opened().journal + ".own"))
        timed_calls(sampling, ["ask", "tell"], seconds, "sampler")
        timed_calls(sampling, ["record"], seconds, "record")
        timed_calls(sampling._journal, ["add_trial"], seconds, "asked")
        timed_calls(search.pruner, ["report", "should_prune", "finish"], seconds, "pruner")
        fleet = ["expect", "load", "begin_epoch", "train_epoch", "unload"]
        timed_calls(trainer, fleet, seconds, "fleet")
        timed_calls(recorder, ["log", "wait"], seconds, "store")
        before, spent = _peak_mib(), source.seconds
        start = time.perf_counter()
        search.run()
        wall = time.perf_counter() - start
    if stored:
        recorder.finish("complete")
    simulated = source.seconds - spent
    return {
        "wall": wall,
        "epochs": n_epochs,
        "sampler": seconds["sampler"] - seconds["asked"],
        "journal": seconds["record"] + seconds["asked"],
        "pruner": seconds["pruner"],
        "fleet": seconds["fleet"] - simulated,
        "store": seconds["store"],
        "simulation": simulated,
        "waiting": most_waiting,
        "before_mib": before,
        "peak_mib": _peak_mib(),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fleets(cases: Sequence[Case], *, stored: bool, random: bool) -> list[dict[str, float]]:
    """Each in a fresh process; prints a line for it."""
    parts = ("sampler", "journal", "pruner", "fleet", "store", "simulation")
    print(
        "| populations | slots | trials | s an epoch | wall, s | trials a second | driver's ms a "
        f"trial | {' | '.join(f'{part}, %' for part in parts)} | runs waiting | peak MiB | KiB a "
        "trial |"
    )
    print("|---" * (10 + len(parts)) + "|")
    outcomes = []
    for case in cases:
        arguments = ["--one", json.dumps([*case, stored, random])]
        _, got = timed("benchmarks.scale", *arguments, read=last_line)
        outcomes.append(got)
        n_populations, n_slots, n_trials, epoch_seconds = case
        wall, own = got["wall"], got["wall"] - got["simulation"]
        shares = " | ".join(f"{100 * got[part] / wall:.0f}" for part in parts)
        grown = (got["peak_mib"] - got["before_mib"]) * 1024 / n_trials
        print(
            f"| {n_populations} | {n_slots} | {n_trials} | {epoch_seconds:g} | {wall:.1f} "
            f"| {n_trials / wall:.0f} | {own / n_trials * 1e3:.1f} | {shares} "
            f"| {got['waiting']:.0f} | {got['peak_mib']:.0f} | {grown:.0f} |",
            flush=True,
        )
    return outcomes


def engines(trials: int) -> dict[str, float]:
    """Wall seconds of whole studies by engine; prints a line for each."""
    walls, before = {}, os.environ.get("OMP_NUM_THREADS")
    print("| engine, populations | wall, s | of it training, s | times the training of the first |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        study = write_study(Path(folder), trials, max_epochs=100)
        trained = {}
        for name, (n_threads, *engine) in ENGINES.items():
            # One process leaves one of these to the process that writes.
            os.environ["OMP_NUM_THREADS"] = str(n_threads)
            arguments = ["run", str(study), "--quiet", *engine]
            walls[name], outcome = timed("pipeline", *arguments, read=read_ours)
            trained[name] = outcome.phases["train"]
            ratio = next(iter(trained.values())) / trained[name]
            print(f"| {name} | {walls[name]:.1f} | {trained[name]:.1f} | {ratio:.2f} |", flush=True)
    os.environ.pop("OMP_NUM_THREADS")
    if before is not None:
        os.environ["OMP_NUM_THREADS"] = before
    return walls


def calls(repeats: int = 500) -> None:
    """Prints what calls of Ray's actors take."""
    from pipeline.distributed import RaySource
    from pipeline.engine import EngineSettings

    source = RaySource(EngineSettings("ray", 2))
    with closing(source):
        member, *_ = members = source.hire(0)
        for each in members:
            each.call("versions").result()
        start = time.perf_counter()
        for _ in range(repeats):
            member.call("versions").result()
        alone = time.perf_counter() - start
        start, used = time.perf_counter(), time.process_time()
        answers = [members[n % 2].call("versions") for n in range(repeats)]
        asked = time.perf_counter() - start
        wait(answers)
        together, used = time.perf_counter() - start, time.process_time() - used
        for each in members:
            each.close()
    print("| ms a call | |\n|---|---|")
    for what, seconds in {
        "one after another, answer included": alone,
        f"{repeats} at once: until asked": asked,
        f"{repeats} at once: until answered": together,
        f"{repeats} at once: processor time of the driver": used,
    }.items():
        print(f"| {what} | {seconds / repeats * 1e3:.2f} |")


SECTIONS = ("engines", "calls", "fleets", "store")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--largest", action="store_true", help="the cases that take many minutes")
    parser.add_argument("--random", action="store_true", help="a sampler that costs nothing")
    parser.add_argument("--trials", type=int, default=100, help="of the studies of `engines`")
    parser.add_argument("--cases", help="JSON: [[populations, slots, trials, seconds], ...]")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(one_fleet(*json.loads(chosen.one))))
        return
    cases = json.loads(chosen.cases) if chosen.cases else None
    for name in chosen.only:
        print(f"\n{name}\n", flush=True)
        if name == "engines":
            engines(chosen.trials)
        elif name == "calls":
            calls()
        else:
            stored = name == "store"
            small, large = (STORES, LARGEST_STORES) if stored else (FLEETS, LARGEST)
            measured = cases or (large if chosen.largest else small)
            fleets(measured, stored=stored, random=chosen.random)


if __name__ == "__main__":
    main()
