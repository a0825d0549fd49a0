"""Owns the judgement when a trial is not worth its slot: pruning of trials that train in lockstep.

The rule descends from median stopping (Golovin et al. 2017, "Google Vizier", section 3.2.3): at
its own age, a trial is compared with what its peers had at that age. What differs is who counts
as a peer, because trials here stop early and run many at a time; see `Pruner`.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, insort
from typing import Literal, get_args

from pipeline.results import TrialState

PrunerName = Literal["none", "median", "quartile", "pace"]

# With fewer peers than this, being worse than half of them says little.
FEWEST_PEERS = 5

# A trial's pace is what it gained over this many epochs: enough to outlast the jitter of a
# validation loss, few enough to notice a standstill long before a usual patience runs out.
PACE_EPOCHS = 5

# The share of peers that a trial may be worse than; nothing is worse than more than all.
_TOLERATED = {"none": 1.0, "median": 0.5, "quartile": 0.75, "pace": 0.5}


class Pruner:
    """Prunes a trial that is worse, at its age, than a given share of its peers.

    What counts is a trial's standing at an epoch: its best validation loss so far, which is what
    it would end with if it ended there. (Without early stopping it would not: it keeps its last
    weights, however much better it has been. Such a study must not be pruned.) A peer is another
    trial that

    - has reached that epoch, be it running or ended; or
    - ended before it, completed or pruned: it stands where it ended. Left out, early-stopped
      peers would vanish from later epochs, and pruned ones would leave an ever better elite that
      late bloomers are measured against.

    A diverged trial is nobody's peer. Equal is not worse. Ends take effect with the next report,
    so that all judgements of one epoch rest on the same peers, in whatever order they are made.

    Args:
        tolerated: The share of peers that a trial may be worse than.
        warmup: Epochs during which a trial is not judged.
        max_epochs: The last epoch a trial can reach; None if that is unknown.
        spare_pace: Whether to spare a trial which, at its pace of the last `PACE_EPOCHS`, would
            arrive by `max_epochs` at the best loss that a peer ended with. Learning curves
            flatten, so this errs on the side of the trial. With `max_epochs` unknown, every trial
            that still improves is spared.
    """

    def __init__(
        self,
        *,
        tolerated: float,
        warmup: int,
        max_epochs: int | None = None,
        spare_pace: bool = False,
    ) -> None:
        self._tolerated, self._warmup, self._spare_pace = tolerated, warmup, spare_pace
        self._max_epochs = math.inf if max_epochs is None else max_epochs
        self._running: dict[int, array[float]] = {}  # standing at each epoch
        self._diverged: set[int] = set()
        self._ending: dict[int, TrialState] = {}
        # Per epoch, sorted: where all stand who reached it, or ended before.
        self._peers: list[array[float]] = []
        self._ended: array[float] = array("d")  # where those stand who ended, sorted

    def report(self, trial: int, val_loss: float) -> None:
        """Notes one epoch of a trial; a trial's epochs come in order, from 1."""
        self._settle()
        standings = self._running.setdefault(trial, array("d"))
        if not math.isfinite(val_loss) and trial not in self._diverged:
            self._diverged.add(trial)
            self._withdraw(standings)
        standings.append(min(standings[-1], val_loss) if standings else val_loss)
        if len(standings) > len(self._peers):
            # No trial was ever this old: whoever has ended, ended before, and stands unchanged.
            self._peers.append(self._ended[:])
        if trial not in self._diverged:
            insort(self._peers[len(standings) - 1], standings[-1])

    def finish(self, trial: int, state: TrialState) -> None:
        """Notes that a trial ended; one that never reported leaves no trace."""
        if trial in self._running:
            self._ending[trial] = state

    def should_prune(self, trial: int) -> bool:
        """Judges a running trial at its latest epoch; ask when all that run have reported it.

        Raises:
            ValueError: The trial has not reported, or has ended.
        """
        if trial not in self._running or trial in self._ending:
            raise ValueError(f"only a running trial can be judged, however: {trial}")
        standings = self._running[trial]
        if trial in self._diverged or len(standings) <= self._warmup:
            return False
        return self._is_behind(trial) and not (self._spare_pace and self._may_catch_up(standings))

    def _is_behind(self, trial: int) -> bool:
        standings = self._running[trial]
        all_there = self._peers[len(standings) - 1]
        n_peers = len(all_there) - 1  # it is itself one of them
        n_better = bisect_left(all_there, standings[-1])
        return n_peers >= FEWEST_PEERS and n_better > self._tolerated * n_peers

    def _may_catch_up(self, standings: array[float]) -> bool:
        epoch = len(standings)
        if epoch <= PACE_EPOCHS or not self._ended:
            return True  # no pace yet, or nobody to catch up with
        pace = (standings[-1 - PACE_EPOCHS] - standings[-1]) / PACE_EPOCHS
        if pace == 0:
            return False  # and 0 times infinitely many epochs ahead would be NaN
        return standings[-1] - pace * (self._max_epochs - epoch) <= self._ended[0]

    def _settle(self) -> None:
        """Moves the trials that ended since the last report among the ended peers."""
        for trial, state in self._ending.items():
            standings = self._running.pop(trial)
            if trial in self._diverged:
                self._diverged.remove(trial)
            elif state is TrialState.FAILED:
                self._withdraw(standings)
            else:
                for later in (self._ended, *self._peers[len(standings) :]):
                    insort(later, standings[-1])
        self._ending.clear()

    def _withdraw(self, standings: array[float]) -> None:
        """Takes a trial out of all epochs that it has reached."""
        for peers, standing in zip(self._peers, standings, strict=False):
            del peers[bisect_left(peers, standing)]


def make_pruner(name: PrunerName, warmup: int, *, max_epochs: int | None = None) -> Pruner:
    """Makes the pruner of a study.

    Args:
        name: `none` never prunes; `median` prunes what is worse than half of its peers,
            `quartile` what is worse than three quarters of them; `pace` prunes as `median` does
            but spares a trial whose pace would still carry it to the best.
        warmup: Epochs during which a trial is not judged.
        max_epochs: The last epoch a trial can reach, which `pace` looks ahead to.

    Raises:
        ValueError: There is no such pruner, or the warm-up is negative.
    """
    if name not in get_args(PrunerName):
        known = ", ".join(get_args(PrunerName))
        raise ValueError(f"a pruner must be one of {known}, however: {name!r}")
    if warmup < 0:
        raise ValueError(f"a pruner's warm-up must be at least 0, however: {warmup}")
    return Pruner(
        tolerated=_TOLERATED[name],
        warmup=warmup,
        max_epochs=max_epochs,
        spare_pace=name == "pace",
    )
