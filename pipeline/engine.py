"""Owns where a study trains: in processes of this machine, or in a fleet of populations elsewhere.

Either way the study sees one population, and the same trials with the same curves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.config import ConfigError, StudyConfig
from pipeline.data import Splits
from pipeline.population.crew import Crew
from pipeline.population.fleet import Fleet
from pipeline.population.fleet import train_replicates as train_in_crew
from pipeline.population.replicates import RowsOf, Todo, Trained, train_replicates
from pipeline.population.team import PopulationTeam
from pipeline.population.trainer import device_of
from pipeline.results import Point, StopReason, TrialResult
from pipeline.space import Hyperparameters


@dataclass(frozen=True)
class EngineSettings:
    """Where a study is to train. Nothing of it changes what comes out.

    Attributes:
        kind: `local`: processes of this machine. `ray`: actors of a Ray cluster.
        populations: How many train at the same time, each with its share of the slots. None: as
            many as there are cores for; with Ray as many as there is room for, and more as machines
            join.
        address: Of Ray's cluster, HOST:PORT or `auto`; None begins one on this machine.
        cpus_per_population, gpus_per_population: What each takes of its machine.
        timeout: Seconds without a sign of life after which a population is given up.
    """

    kind: Literal["local", "ray"] = "local"
    populations: int | None = None
    address: str | None = None
    cpus_per_population: float = 1.0
    gpus_per_population: float = 0.0
    timeout: float = 30.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("populations", self.populations, 1),
            ("cpus-per-population", self.cpus_per_population, 0),
            ("gpus-per-population", self.gpus_per_population, 0),
            ("population-timeout", self.timeout, 1),
        ):
            if value is not None and not least <= value < float("inf"):
                raise ConfigError(f"--{name} must be at least {least}, however: {value:g}")
        if self.cpus_per_population == self.gpus_per_population == 0:
            raise ConfigError(
                "a population must take something of its machine, however: 0 CPUs and 0 GPUs "
                "(--cpus-per-population, --gpus-per-population)"
            )
        if self.kind != "local":
            return
        rays_own = EngineSettings("ray", self.populations)
        for name in ("address", "cpus_per_population", "gpus_per_population"):
            if getattr(self, name) != getattr(rays_own, name):
                raise ConfigError(
                    f"--{name.replace('_', '-')} needs --engine ray, "
                    f"however: --engine local ({getattr(self, name)})"
                )


LOCAL = EngineSettings()


class Population(Protocol):
    """All slots of a search, wherever they train: see `PopulationTrainer` and `PopulationTeam`."""

    n_slots: int

    @property
    def free_slots(self) -> list[int]: ...  # noqa: D102

    def expect(self, n_loads: int) -> None: ...  # noqa: D102

    def load(self, slot: int, hyperparameters: Hyperparameters) -> None: ...  # noqa: D102

    def begin_epoch(self) -> None: ...  # noqa: D102

    def train_epoch(self) -> dict[int, Point]: ...  # noqa: D102

    def unload(self, slot: int, stop_reason: StopReason = ...) -> TrialResult: ...  # noqa: D102

    def close(self) -> None: ...  # noqa: D102


class Engine(Protocol):
    """Where a study trains.

    Attributes:
        stop_if_asked: Called while waiting; may raise.
    """

    stop_if_asked: Callable[[], None]

    def require(self, config: StudyConfig, splits: Splits) -> None:
        """Says at once that there is not what the study asks for, or no room for its data.

        Raises:
            ConfigError: There is not.
        """
        ...

    def population(self, config: StudyConfig, splits: Splits) -> Population:
        """All slots of a search."""
        ...

    def replicates(
        self, config: StudyConfig, todo: Todo, rows_of: RowsOf, n_slots: int | None
    ) -> Iterator[Trained]:
        """Trains trials on replicates: see `replicates.train_replicates`."""
        ...

    def for_one(self, config: StudyConfig) -> StudyConfig:
        """The study as this process can train one trial of it."""
        ...


class LocalEngine:
    """Processes of this machine: see `Engine`."""

    def __init__(self, settings: EngineSettings) -> None:
        self._n_processes = settings.populations
        self.stop_if_asked: Callable[[], None] = lambda: None

    def require(self, config: StudyConfig, splits: Splits) -> None:  # noqa: ARG002
        """The device must be here."""
        on_gpu = device_of(config.training.device).type != "cpu"
        if on_gpu and (self._n_processes or 1) > 1:
            raise ConfigError(
                "populations on this machine's GPU must be 1, "
                f"however: {self._n_processes} (--populations; --engine ray has more)"
            )
        if (self._n_processes or 1) > config.search.population:
            raise ConfigError(
                f"populations must be at most search.population, {config.search.population}, "
                f"however: {self._n_processes} (--populations)"
            )

    def population(self, config: StudyConfig, splits: Splits) -> Population:
        """This process and those that it forks."""
        n_slots = config.search.population  # less than it was, where memory ran out
        most = None if self._n_processes is None else min(self._n_processes, n_slots)
        return PopulationTeam(config, splits, n_processes=most)

    def replicates(
        self, config: StudyConfig, todo: Todo, rows_of: RowsOf, n_slots: int | None
    ) -> Iterator[Trained]:
        """In processes that this one forks."""
        alone = self._n_processes == 1
        return train_replicates(
            config,
            todo,
            rows_of,
            n_slots=n_slots,
            n_processes=0 if alone else self._n_processes,
            while_waiting=self.stop_if_asked,
        )

    def for_one(self, config: StudyConfig) -> StudyConfig:
        """As it is."""
        return config


class CrewEngine:
    """Members of a crew, which may be lost: see `Engine`."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    @property
    def stop_if_asked(self) -> Callable[[], None]:
        """Called while waiting; may raise."""
        return self._crew.stop_if_asked

    @stop_if_asked.setter
    def stop_if_asked(self, asked: Callable[[], None]) -> None:
        self._crew.stop_if_asked = asked

    def require(self, config: StudyConfig, splits: Splits) -> None:
        """The data must have room with all members, and each must have the device."""
        Fleet(config, splits, self._crew).close()

    def population(self, config: StudyConfig, splits: Splits) -> Population:
        """The slots, spread over the members."""
        return Fleet(config, splits, self._crew)

    def replicates(
        self, config: StudyConfig, todo: Todo, rows_of: RowsOf, n_slots: int | None
    ) -> Iterator[Trained]:
        """In the members."""
        return train_in_crew(config, todo, rows_of, self._crew, n_slots=n_slots)

    def for_one(self, config: StudyConfig) -> StudyConfig:
        """On the device that is here, which need not be that of the members."""
        training = config.training.model_copy(update={"device": "auto"})
        return config.model_copy(update={"training": training})


@contextmanager
def started(settings: EngineSettings) -> Iterator[Engine]:
    """An engine, until the block's end.

    Raises:
        ConfigError: It cannot be had.
    """
    if settings.kind == "local":
        yield LocalEngine(settings)
        return
    from pipeline.distributed import RaySource

    crew = Crew(RaySource(settings), timeout=settings.timeout)
    try:
        yield CrewEngine(crew)
    finally:
        crew.close()
