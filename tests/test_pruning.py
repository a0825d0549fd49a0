"""What a pruner must hold: who is a peer, at which age, by which value, and in no order."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pruning import FEWEST_PEERS, PACE_EPOCHS, Pruner, PrunerName, make_pruner
from pipeline.results import TrialState

COMPLETE, PRUNED, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED
NAN, INF = math.nan, math.inf
OWN = 1000

Curve = Sequence[float]


def judge(
    pruner: Pruner,
    own: Curve,
    ended: Sequence[tuple[Curve, TrialState]] = (),
    running: Sequence[Curve] = (),
) -> bool:
    """Whether a trial with the curve `own` is pruned among these peers."""
    number = iter(range(OWN))
    for curve, state in ended:
        trial = next(number)
        for val_loss in curve:
            pruner.report(trial, val_loss)
        pruner.finish(trial, state)
    for trial, curve in [*((next(number), curve) for curve in running), (OWN, own)]:
        for val_loss in curve:
            pruner.report(trial, val_loss)
    return pruner.should_prune(OWN)


def five(curve: Curve, state: TrialState = COMPLETE) -> list[tuple[Curve, TrialState]]:
    return [(curve, state)] * FEWEST_PEERS


def mixed(better: int, worse: int) -> list[tuple[Curve, TrialState]]:
    return [([1.0], COMPLETE)] * better + [([9.0], COMPLETE)] * worse


CASES = {
    # rule: (own, ended peers, running peers, is it pruned)
    "worse than all": ([5], five([1]), [], True),
    "better than all": ([5], five([9]), [], False),
    "worse than fewer than half": ([5], mixed(2, 3), [], False),
    "worse than just half": ([5], mixed(3, 3), [], False),
    "worse than more than half": ([5], mixed(3, 2), [], True),
    "equal is not worse": ([5], five([5]), [], False),
    "ties with the median": ([5], [*mixed(2, 2), *five([5])], [], False),
    "too few peers": ([5], five([1])[1:], [], False),
    "own best, not own latest": ([1, 9], five([5, 5]), [], False),
    "peers' best, not peers' latest": ([5, 5], five([1, 9]), [], True),
    "peers at that age, not later": ([5], five([9, 1]), [], False),
    "early-stopped peers are carried forward": ([5, 5, 5], five([1]), [], True),
    "with their best": ([5, 5, 5], five([1, 9]), [], True),
    "pruned peers count when better": ([5, 5], five([1], PRUNED), [], True),
    "pruned peers count when worse": ([5, 5], mixed(5, 0) + five([9], PRUNED), [], False),
    "failed peers do not count": ([5], five([1], FAILED), [], False),
    "nor do they dilute": ([5], mixed(5, 0) + five([9], FAILED), [], True),
    "NaN at the end is no peer": ([5, 5], five([1, NAN]), [], False),
    "NaN at the start is no peer": ([5, 5], five([NAN, 1]), [], False),
    "infinity is no peer": ([5, 5], five([1, -INF]), [], False),
    "nor one that dilutes": ([5], mixed(5, 0) + five([INF]), [], True),
    "a diverged trial is not pruned": ([5, NAN], five([1]), [], False),
    "running peers count": ([5], [], [[1]] * 5, True),
    "older running peers count at that age": ([5], [], [[9, 1]] * 5, False),
    "younger running peers do not count": ([5, 5], [], [[1]] * 5, False),
    "diverged running peers do not count": ([5, 5], [], [[1, NAN]] * 5, False),
    "running and ended peers add up": ([5], five([1])[2:], [[1]] * 2, True),
}


@pytest.mark.parametrize(("own", "ended", "running", "pruned"), CASES.values(), ids=CASES)
def test_the_median_of_peers_at_that_age_decides(own, ended, running, pruned):
    assert judge(make_pruner("median", 0), own, ended, running) is pruned


@pytest.mark.parametrize(("own", "ended", "running", "pruned"), CASES.values(), ids=CASES)
def test_none_never_prunes(own, ended, running, pruned):
    assert judge(make_pruner("none", 0), own, ended, running) is False


@pytest.mark.parametrize(
    ("name", "better", "worse", "pruned"),
    [
        ("median", 4, 4, False),
        ("median", 5, 4, True),
        ("quartile", 5, 3, False),
        ("quartile", 6, 2, False),
        ("quartile", 7, 2, True),
        ("none", 99, 0, False),
    ],
)
def test_how_many_peers_a_trial_may_be_worse_than(name, better, worse, pruned):
    assert judge(make_pruner(name, 0), [5], mixed(better, worse)) is pruned


@pytest.mark.parametrize("name", ["median", "quartile", "pace"])
@pytest.mark.parametrize("warmup", [0, 7, 20])
def test_the_first_judgement_falls_after_the_warm_up(name, warmup):
    epochs = range(1, 30)
    verdicts = [judge(make_pruner(name, warmup), [5.0] * epoch, five([1])) for epoch in epochs]
    silent = max(warmup, PACE_EPOCHS) if name == "pace" else warmup
    assert verdicts == [epoch > silent for epoch in epochs]


FALLING = [16.0, 15.0, 14.0, 13.0, 12.0, 11.0]  # at this pace 7 at epoch 10


@pytest.mark.parametrize(
    ("own", "max_epochs", "best", "pruned"),
    [
        (FALLING, 10, 7.0, False),
        (FALLING, 10, 6.9, True),
        (FALLING, 11, 6.9, False),
        (FALLING, None, -1e9, False),
        ([*FALLING[:-1], 16.0], 10, 6.9, True),
        ([16.0] * 6, 10, 6.9, True),
        ([16.0] * 6, None, 6.9, True),
        ([16.0] * PACE_EPOCHS, 10, 6.9, False),  # no pace yet
        ([30.0, *FALLING], 10, 6.9, True),  # only the latest epochs make a pace
    ],
)
def test_pace_spares_what_may_still_reach_the_best(own, max_epochs, best, pruned):
    # All are ahead at any age; one of them arrives, later on, at what is to be reached.
    peers = [([10.0] * 7 + [best], COMPLETE), *five([10.0])]
    assert judge(make_pruner("pace", 0, max_epochs=max_epochs), own, peers) is pruned
    assert judge(make_pruner("median", 0, max_epochs=max_epochs), own, peers) is True


def test_pace_spares_all_while_nobody_has_ended():
    assert not judge(make_pruner("pace", 0, max_epochs=9), [5.0] * 8, running=[[1.0] * 8] * 7)


def test_pace_spares_nobody_whom_the_median_would_not_prune():
    assert not judge(make_pruner("pace", 0, max_epochs=9), [5.0] * 8, mixed(3, 3))


def test_the_best_that_a_peer_ended_with_includes_early_stopped_ones():
    stopped = [([9.0, 1.0], COMPLETE), *five([9.0, 8.0])]
    own = [20.0, 19.5, 19.0, 18.5, 18.0, 17.5]
    assert judge(make_pruner("pace", 0, max_epochs=30), own, stopped)  # it would come to 5.5


def test_an_end_counts_from_the_next_report_on():
    """Judgements of one epoch must not depend on which end the loop has noted before them."""
    pruner = make_pruner("median", 0)
    for trial in range(5):
        pruner.report(trial, 1.0)
    for _ in range(2):
        pruner.report(OWN, 5.0)
    assert not pruner.should_prune(OWN)  # none of the five has reached its age
    for trial in range(5):
        pruner.finish(trial, COMPLETE)
        assert not pruner.should_prune(OWN)
    pruner.report(OWN, 5.0)
    assert pruner.should_prune(OWN)


def test_a_trial_that_ends_without_a_report_leaves_no_trace():
    pruner = make_pruner("median", 0)
    for trial in range(9):
        pruner.finish(trial, FAILED)
    pruner.report(OWN, 5.0)
    assert not pruner.should_prune(OWN)


@pytest.mark.parametrize("ended", [False, True])
def test_only_running_trials_are_judged(ended):
    pruner = make_pruner("median", 0)
    if ended:
        pruner.report(7, 1.0)
        pruner.finish(7, COMPLETE)
    with pytest.raises(ValueError, match="only a running trial can be judged, however: 7"):
        pruner.should_prune(7)


@pytest.mark.parametrize(
    ("name", "warmup", "message"),
    [
        ("hyperband", 0, "one of none, median, quartile, pace, however: 'hyperband'"),
        ("median", -1, "warm-up must be at least 0, however: -1"),
    ],
)
def test_a_pruner_that_cannot_be_made_says_why(name, warmup, message):
    with pytest.raises(ValueError, match=message):
        make_pruner(name, warmup)


# Few distinct values make ties; NaN makes diverged trials.
losses = st.sampled_from([*map(float, range(20)), NAN, INF])
populations = st.lists(st.lists(losses, min_size=1, max_size=9), min_size=6, max_size=20)
names = st.sampled_from(get_args(PrunerName))
MAX_EPOCHS = 9

Verdicts = dict[tuple[int, int], bool]  # by trial and epoch


def lockstep(
    pruner: Pruner, curves: Sequence[Curve], slots: int, order: random.Random
) -> tuple[Verdicts, dict[int, TrialState]]:
    """A population, refilled as trials stop; reports, and judgements among ends, in any order."""
    verdicts: Verdicts = {}
    states: dict[int, TrialState] = {}
    running: dict[int, int] = {}  # trial -> age
    waiting = iter(range(len(curves)))
    while True:
        for _, trial in zip(range(slots - len(running)), waiting, strict=False):
            running[trial] = 0
        if not running:
            return verdicts, states
        trials = sorted(running)
        order.shuffle(trials)
        for trial in trials:
            pruner.report(trial, curves[trial][running[trial]])
            running[trial] += 1
        order.shuffle(trials)
        for trial in trials:
            age = running[trial]
            if not math.isfinite(curves[trial][age - 1]):
                states[trial] = FAILED
            elif age == len(curves[trial]):
                states[trial] = COMPLETE
            else:
                verdicts[trial, age] = pruner.should_prune(trial)
                assert pruner.should_prune(trial) is verdicts[trial, age]
                if verdicts[trial, age]:
                    states[trial] = PRUNED
            if trial in states:
                pruner.finish(trial, states[trial])
                del running[trial]


@given(names, st.integers(0, 4), populations, st.integers(1, 20), st.randoms(use_true_random=False))
def test_the_order_of_calls_within_an_epoch_does_not_matter(name, warmup, curves, slots, order):
    def run(order: random.Random) -> tuple[Verdicts, dict[int, TrialState]]:
        return lockstep(make_pruner(name, warmup, max_epochs=MAX_EPOCHS), curves, slots, order)

    assert run(order) == run(random.Random(0))


@given(st.integers(0, 3), populations, st.data())
def test_verdicts_are_those_of_a_plain_count(warmup, curves, data):
    """The sorted columns are a shortcut: a count over all curves says the same."""
    own, *peers = curves
    states = data.draw(
        st.lists(
            st.sampled_from([None, COMPLETE, PRUNED, FAILED]),
            min_size=len(peers),
            max_size=len(peers),
        )
    )
    ended = [(c, state) for c, state in zip(peers, states, strict=True) if state is not None]
    running = [c for c, state in zip(peers, states, strict=True) if state is None]

    epoch, standing = len(own), min(own)
    others = [
        min(curve[:epoch])
        for curve, state in [*ended, *((curve, None) for curve in running)]
        if all(map(math.isfinite, curve))
        and state is not FAILED
        and (state is not None or len(curve) >= epoch)
    ]
    behind = (
        all(map(math.isfinite, own))
        and epoch > warmup
        and len(others) >= FEWEST_PEERS
        and sum(other < standing for other in others) > len(others) / 2
    )
    assert judge(make_pruner("median", warmup), own, ended, running) is behind


@given(names, populations, st.integers(1, 20))
def test_a_trial_that_nobody_beats_at_its_age_is_never_pruned(name, curves, slots):
    verdicts, states = lockstep(
        make_pruner(name, 0, max_epochs=MAX_EPOCHS), curves, slots, random.Random(0)
    )
    for (trial, age), pruned in verdicts.items():
        standing = min(curves[trial][:age])
        rivals = [curve[:age] for curve in curves if all(map(math.isfinite, curve[:age]))]
        assert not pruned or any(min(rival) < standing for rival in rivals)
    if all(math.isfinite(loss) for curve in curves for loss in curve):
        assert COMPLETE in states.values()  # so a study is never pruned away altogether


@given(populations, st.integers(1, 20))
def test_pace_prunes_nothing_that_the_median_spares(curves, slots):
    """Judged side by side on the same peers: `pace` is `median` with mercy."""
    pace = make_pruner("pace", 1, max_epochs=MAX_EPOCHS)
    median = make_pruner("median", 1)
    ended = [(curve, COMPLETE) for curve in curves[1 : slots + 1]]
    running = curves[slots + 1 :]
    assert judge(pace, curves[0], ended, running) <= judge(median, curves[0], ended, running)
