"""Owns populations on other machines: Ray's actors, behind the interface of a crew's members.

The only file that knows Ray. Each population is an actor, which has the trainers; what is to be on
every machine goes into Ray's object store once. A study joins a cluster that runs, or begins one of
its own on this machine, to which nobody has the token but its own processes.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import secrets
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pipeline
from pipeline.config import ConfigError
from pipeline.engine import EngineSettings
from pipeline.joining import first_line, own_signals, probe, silent, within
from pipeline.population.crew import LostMemberError

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorClass, ActorHandle

# Seconds within which a cluster must let this program join. One with another token takes 20.
TO_JOIN = 25.0

# Ray's own words would come between the lines of the study's.
QUIET = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.CRITICAL}


class RayMember:
    """A population in an actor: see `crew.Member`."""

    def __init__(self, actor: ActorHandle[Any], name: str) -> None:
        self.name = name
        self._actor = actor

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Has a method of its `Host` called. What `RaySource.put` returned, it gets as it was."""
        return _answer_of(self._actor.call.remote(method, *arguments))

    def ping(self) -> Future[Any]:
        """Answers beside whatever trains."""
        return _answer_of(self._actor.ping.remote())

    def close(self) -> None:
        """Ends the actor, without waiting for that."""
        import ray

        with suppress(Exception):  # it may be gone, and its machine with it
            ray.kill(self._actor)


class RaySource:
    """Actors of a cluster: see `crew.Source`.

    Args:
        settings: Which cluster, how many actors, and what each of them takes.

    Raises:
        ConfigError: Ray is not installed, the cluster does not answer, or has not what is asked.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._began = False
        self._count = 0
        ray = _imported(settings)
        if not ray.is_initialized():
            _connect(settings)
            self._began = True
        try:
            self._refuse_too_much()
        except BaseException:
            self.close()
            raise
        self._actors = _actors(settings)

    def hire(self, n_present: int) -> Sequence[RayMember]:
        """Starts as many actors more as the cluster's machines are enough for, or are wanted.

        Where others use the cluster, too, some wait until there is room.
        """
        most = sum(_room(node["Resources"], self._settings) for node in _nodes())
        wanted = self._settings.populations
        n_more = (most if wanted is None else min(most, wanted)) - n_present
        members = []
        for _ in range(n_more):
            self._count += 1
            actor = self._actors.remote(max(1, int(self._settings.cpus_per_population)))
            members.append(RayMember(actor, f"population {self._count}"))
        return members

    def put(self, value: Any) -> Any:
        """Into the object store: each machine fetches it once.

        Raises:
            ConfigError: It is too large for that.
        """
        import ray

        size = _bytes_of(value)
        room = min(node["Resources"].get("object_store_memory", 0) for node in _nodes())
        if size > room:
            raise ConfigError(
                f"the data must fit into Ray's object store on every machine, however: they take "
                f"{size / 2**20:.0f} MiB of {room / 2**20:.0f} (ray start --object-store-memory)"
            )
        return ray.put(value)

    def close(self) -> None:
        """Leaves the cluster, and ends one that was begun here."""
        import ray

        if self._began:
            ray.shutdown()

    def _refuse_too_much(self) -> None:
        """What the cluster's machines have not is said at once, not waited for."""
        settings, nodes = self._settings, [node["Resources"] for node in _nodes()]
        most, wanted = sum(_room(node, settings) for node in nodes), settings.populations or 1
        if most >= wanted:
            return
        cpus, gpus = (sum(node.get(key, 0) for node in nodes) for key in ("CPU", "GPU"))
        raise ConfigError(
            f"the cluster must have room for --populations {wanted} of "
            f"{settings.cpus_per_population:g} CPUs, {settings.gpus_per_population:g} GPUs each, "
            f"however: its {len(nodes)} machines have {cpus:g} CPUs and {gpus:g} GPUs, room for "
            f"{most} (--cpus-per-population, --gpus-per-population)"
        )


def _nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _room(resources: Mapping[str, float], settings: EngineSettings) -> int:
    """How many populations a machine has room for."""
    takes = {"CPU": settings.cpus_per_population, "GPU": settings.gpus_per_population}
    return min(int(resources.get(key, 0) / each) for key, each in takes.items() if each)


def _bytes_of(value: Any) -> int:
    """What a value takes in the object store; its arrays are not copied for that."""
    from ray import cloudpickle

    arrays: list[pickle.PickleBuffer] = []
    rest = cloudpickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    return len(rest) + sum(array.raw().nbytes for array in arrays)


def _answer_of(reference: ObjectRef[Any]) -> Future[Any]:
    """A future that knows of lost members, not of Ray."""
    import ray

    answer: Future[Any] = Future()
    lost = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError)

    def hand_on(done: Future[Any]) -> None:
        error = done.exception()
        if isinstance(error, lost):
            answer.set_exception(LostMemberError(str(error).partition("\n")[0]))
        elif error is not None:
            answer.set_exception(error)
        else:
            outcome = pickle.loads(done.result())
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

    reference.future().add_done_callback(hand_on)
    return answer


def _actors(settings: EngineSettings) -> ActorClass[Any]:
    import ray

    class PopulationActor:
        """A `Host`, asked one thing after another, and beside that whether it lives."""

        def __init__(self, n_threads: int) -> None:
            from pipeline.population.host import Host

            self._host = Host(n_threads)

        def call(self, method: str, *arguments: Any) -> bytes:
            try:
                outcome = getattr(self._host, method)(*arguments)
            except Exception as error:  # noqa: BLE001  # raised again at the near end, as it was
                if "CUDA error" in str(error):
                    os._exit(1)  # what is left of it can compute nothing: others can
                outcome = error
            # As Ray has them, arrays are read only, and take room in its store while they are kept.
            return pickle.dumps(outcome)

        @ray.method(concurrency_group="signs_of_life")  # type: ignore[untyped-decorator]
        def ping(self) -> bytes:
            return pickle.dumps(None)

    options = {
        "num_cpus": settings.cpus_per_population,
        "num_gpus": settings.gpus_per_population,
        "concurrency_groups": {"signs_of_life": 1},
        "max_restarts": 0,
        "scheduling_strategy": "SPREAD",
    }
    return ray.remote(**options)(PopulationActor)


def _imported(settings: EngineSettings) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if settings.address is None and "ray" not in sys.modules:
        # A cluster begun here listens to the network: nobody else is to use it. Ray looks once.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "--engine ray needs Ray, however: it is not installed (pip install '.[ray]')"
        ) from error
    return ray


def _connect(settings: EngineSettings) -> None:
    import ray

    address = settings.address
    place: dict[str, Any] = {"address": address}
    if address is None:
        cpus = settings.cpus_per_population * (settings.populations or 1)
        # Not None: that would join whatever RAY_ADDRESS names.
        place = {"address": "local", "num_cpus": max(os.cpu_count() or 1, math.ceil(cpus))}
    elif address != "auto":
        probe(address)
    code = {"py_modules": [str(Path(pipeline.__file__).parent)]}
    try:
        join = partial(ray.init, **place, **QUIET, runtime_env=code)
        with silent(), own_signals():
            join() if address is None else within(TO_JOIN, join)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ConfigError(
            "a Ray cluster must answer, with the same token, and this version of Ray and Python, "
            f"however: {first_line(error)} (--address {address or 'none: one is begun here'})"
        ) from error
