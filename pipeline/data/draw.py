"""Owns which rows are trained on, validated on and tested on: at random, by group, or by time."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ConfigError, DataConfig
from pipeline.data.digest import Rows
from pipeline.data.table import Table
from pipeline.data.target import Task

Parts = tuple[Rows, Rows, Rows]

# Replicates that are drawn for each that is asked for, before it is said that there are too few.
MOST_DRAWS = 4


def draw_rows(table: Table, config: DataConfig, seed: int, replicate: int) -> Parts:
    """Row numbers of training, validation and test, ascending.

    The test rows depend on `seed` alone. Rows with equal features, or of one `data.group`, are
    never in two parts. With `data.time` nothing is drawn: training is the past, test the latest.

    Raises:
        ConfigError: There are too few rows, or a class has too few.
    """
    clusters = _clusters(table)
    if table.time is not None:
        parts = _by_time(table, config, clusters, table.time)
    else:
        remaining, test = _divide(
            table, clusters, np.arange(table.n_rows), config.test_size, (seed, 0)
        )
        share = config.validation_size / (1 - config.test_size)
        train, val = _divide(table, clusters, remaining, share, (seed, 1, replicate))
        parts = np.sort(train), np.sort(val), np.sort(test)
    for what, rows in zip(("training", "validation", "test"), parts, strict=True):
        if not len(rows):
            raise ConfigError(
                f"a table must have rows for three splits, however: none is left for {what} "
                f"({table.source})"
            )
    if table.task is not Task.REGRESSION:
        # The future may lack a class; what is trained on may not.
        for rows in parts[:1] if table.time is not None else parts:
            if len(np.unique(table.target[rows])) < len(table.classes):
                raise _too_small(table, "a split has no row of it")
    return parts


def drawable_replicates(table: Table, config: DataConfig, seed: int, count: int) -> list[int]:
    """The first `count` replicate numbers, from 1, whose rows can be drawn.

    Whole groups, and copies, do not always leave every class a row in every part.

    Raises:
        ConfigError: Too few of them can.
    """
    if table.time is not None or int(_clusters(table).max()) + 1 == table.n_rows:
        return list(range(1, count + 1))  # what can be drawn once can be drawn again
    numbers: list[int] = []
    for number in range(1, MOST_DRAWS * count + 1):
        if len(numbers) == count:
            break
        with suppress(ConfigError):
            draw_rows(table, config, seed, number)
            numbers.append(number)
    if len(numbers) < count:
        raise ConfigError(
            f"{count} replicates must have rows of all classes in all splits, however: "
            f"{len(numbers)} of {MOST_DRAWS * count} drawn have ({table.source}, "
            "confirm.replicates)"
        )
    return numbers


def _clusters(table: Table) -> Rows:
    """[N] numbers by first appearance; rows of one cluster must share a split."""
    if table.group is None:
        return table.duplicates
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Copies tie groups together: rows are edges from their group to their set of copies.
    n_groups, n_copies = int(table.group.max()) + 1, int(table.duplicates.max()) + 1
    size = n_groups + n_copies
    edges = (np.ones(table.n_rows, dtype=bool), (table.group, n_groups + table.duplicates))
    _, component = connected_components(coo_array(edges, shape=(size, size)), directed=False)
    return np.asarray(component[table.group], dtype=np.intp)


def _divide(
    table: Table, clusters: Rows, rows: Rows, share: float, key: tuple[int, ...]
) -> tuple[Rows, Rows]:
    """Divides rows at random, stratified by class: (the rest, `share` of them)."""
    labels = None if table.task is Task.REGRESSION else table.target[rows].astype(int)
    state = int(np.random.SeedSequence(key).generate_state(1)[0])
    if int(clusters.max()) + 1 == table.n_rows:
        return _divide_singles(table, rows, labels, share, state)
    _, members, sizes = np.unique(clusters[rows], return_inverse=True, return_counts=True)
    chosen = _nearest_counts(members, sizes, labels, share, np.random.default_rng(state))
    return rows[~chosen], rows[chosen]


def _divide_singles(
    table: Table, rows: Rows, labels: NDArray[np.int_] | None, share: float, state: int
) -> tuple[Rows, Rows]:
    from sklearn.model_selection import train_test_split

    try:
        rest, part = train_test_split(rows, test_size=share, stratify=labels, random_state=state)
    except ValueError as error:
        detail = " ".join(str(error).split())
        if labels is None:
            raise ConfigError(
                f"a table must have rows for three splits, however: {detail} ({table.source})"
            ) from error
        raise _too_small(table, detail) from error
    return rest, part


def _nearest_counts(
    members: Rows,
    sizes: Rows,
    labels: NDArray[np.int_] | None,
    share: float,
    draw: np.random.Generator,
) -> NDArray[np.bool_]:
    """[N] whether a row is chosen, whole clusters only, so that `share` of each class is.

    Clusters of several rows come first, in random order, each if it fits; single rows fill what is
    left. A cluster that does not fit is chosen after all if that brings the counts nearer.
    """
    classes = np.zeros(len(members), dtype=int) if labels is None else labels
    n_classes = int(classes.max()) + 1
    wanted = (share * np.bincount(classes, minlength=n_classes)).tolist()
    taken = [0] * n_classes
    chosen = np.zeros(len(sizes), dtype=bool)
    ordered = classes[np.argsort(members, kind="stable")]
    ends = np.cumsum(sizes)
    too_large = []

    def take(cluster: int, counts: Counter[int]) -> None:
        chosen[cluster] = True
        for label, count in counts.items():
            taken[label] += count

    for cluster in draw.permutation(np.flatnonzero(sizes > 1)).tolist():
        counts = Counter(ordered[ends[cluster] - sizes[cluster] : ends[cluster]].tolist())
        if all(taken[label] + n <= round(wanted[label]) for label, n in counts.items()):
            take(cluster, counts)
        else:
            too_large.append((cluster, counts))
    single_rows = draw.permutation(np.flatnonzero(sizes[members] == 1))
    for label in range(n_classes):
        own = single_rows[classes[single_rows] == label]
        own = own[: max(0, round(wanted[label]) - taken[label])]
        chosen[members[own]] = True
        taken[label] += len(own)
    for cluster, counts in too_large:
        before = sum(abs(taken[label] - wanted[label]) for label in counts)
        after = sum(abs(taken[label] + n - wanted[label]) for label, n in counts.items())
        if after < before:
            take(cluster, counts)
    if not chosen.any():
        chosen[sizes.argmin()] = True  # the smallest is nearest
    return chosen[members]


def _by_time(table: Table, config: DataConfig, clusters: Rows, time: NDArray[np.float64]) -> Parts:
    """Cuts where a cluster's latest time changes, so that training never sees a later row."""
    latest = np.full(int(clusters.max()) + 1, -np.inf)
    np.maximum.at(latest, clusters, time)
    when = latest[clusters]
    order = np.argsort(when, kind="stable")
    # Where a later time begins: a cut elsewhere would part rows of one moment.
    starts = np.flatnonzero(np.diff(when[order], prepend=-np.inf) > 0)
    starts = np.append(starts, table.n_rows)

    def nearest(wanted: float) -> int:
        return int(starts[np.abs(starts - wanted).argmin()])

    test = nearest(table.n_rows * (1 - config.test_size))
    val = nearest(table.n_rows * (1 - config.test_size - config.validation_size))
    train_rows, val_rows, test_rows = np.split(order, [val, test])
    return np.sort(train_rows), np.sort(val_rows), np.sort(test_rows)


def _too_small(table: Table, detail: str) -> ConfigError:
    """Names the class that has the fewest distinct rows."""
    pairs = np.stack([_clusters(table), table.target.astype(np.intp)])
    counts = np.bincount(np.unique(pairs, axis=1)[1], minlength=len(table.classes))
    smallest = int(counts.argmin())
    return ConfigError(
        "every class must have enough distinct rows for three splits, however: "
        f"{table.classes[smallest]!r} has {counts[smallest]} ({table.source}, "
        f"column {table.target_name!r}: {detail})"
    )
