"""Owns the data: a table is read, split, and standardized with statistics of its training rows."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import FILE_SOURCES, ConfigError, DataConfig

if TYPE_CHECKING:
    import pandas as pd

Rows = NDArray[np.intp]
Matrix = NDArray[np.float32]

# More distinct integers than this and a target left on "auto" is a quantity, not a class.
MOST_CLASSES = 20

log = logging.getLogger(__name__)


class Task(StrEnum):
    """What the network predicts."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


@dataclass(frozen=True, eq=False)
class Table:
    """A table as it was read: nothing is split or scaled yet.

    Attributes:
        source: Where it came from, as the study file says it.
        features: [N, D].
        target: [N]; class numbers from 0, or the quantity in its own units.
        feature_names: D column names.
        target_name: The target's column name.
        task: What kind of target it is.
        classes: Class names by class number; empty for regression.
        digest: 16 hexadecimal digits that change with any value, name or row order.
    """

    source: str
    features: NDArray[np.float64]
    target: NDArray[np.float64]
    feature_names: tuple[str, ...]
    target_name: str
    task: Task
    classes: tuple[str, ...]
    digest: str

    @property
    def n_rows(self) -> int:
        """N."""
        return len(self.features)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.features.shape[1])

    @property
    def n_outputs(self) -> int:
        """C: one logit for two classes, one per class for more, one value for regression."""
        return len(self.classes) if self.task is Task.MULTICLASS else 1


@dataclass(frozen=True, eq=False)
class Splits:
    """What a search may see: standardized training and validation rows of one replicate.

    The test rows are known by number only, so that nothing before confirmation can read them.

    Attributes:
        task: What the network predicts.
        n_outputs: C.
        replicate: The replicate number that the split was drawn from.
        x_train, x_val: [N, D] features, standardized by the training rows.
        y_train, y_val: [N] class numbers, or targets standardized by the training rows.
        train_rows, val_rows, test_rows: Row numbers of the table.
        feature_mean, feature_scale: [D] what was subtracted from a feature, then divided by.
        target_mean, target_scale: The same of the target; 0 and 1 for classes.
    """

    task: Task
    n_outputs: int
    replicate: int
    x_train: Matrix
    y_train: Matrix
    x_val: Matrix
    y_val: Matrix
    train_rows: Rows
    val_rows: Rows
    test_rows: Rows
    feature_mean: NDArray[np.float64]
    feature_scale: NDArray[np.float64]
    target_mean: float
    target_scale: float

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.x_train.shape[1])


def load_table(config: DataConfig) -> Table:
    """Reads the table that `config.source` names.

    Raises:
        ConfigError: It cannot be read, or is not a table that a network can be trained on.
    """
    scheme, _, name = config.source.partition(":")
    if scheme in FILE_SOURCES:
        frame = _read_file(scheme, Path(name), config.source)
    else:
        frame = _bundled(name, config.source) if scheme == "sklearn" else _generated(name)
    return table_from_frame(frame, config)


def table_from_frame(frame: pd.DataFrame, config: DataConfig) -> Table:
    """Checks a data frame of numeric columns and makes it a table.

    Raises:
        ConfigError: A rule that a table must keep is broken; says which, and where.
    """
    place = config.source
    _check_columns(frame, place)
    target_name = config.target or str(frame.columns[-1])
    if target_name not in frame.columns:
        known = ", ".join(map(repr, frame.columns[:8])) + (", ..." if frame.shape[1] > 8 else "")
        raise ConfigError(
            f"target must be one of the columns {known}, however: {target_name!r} ({place})"
        )
    columns = frame.drop(columns=target_name)
    features = _numeric_features(columns, place)
    target, task, classes = _read_target(frame[target_name], config)
    names = tuple(map(str, columns.columns))
    digest = hashlib.sha256(repr((names, target_name, task, classes)).encode())
    digest.update(np.ascontiguousarray(features).tobytes() + target.tobytes())
    return Table(
        source=config.source,
        features=features,
        target=target,
        feature_names=names,
        target_name=target_name,
        task=task,
        classes=classes,
        digest=digest.hexdigest()[:16],
    )


def split(table: Table, config: DataConfig, seed: int, replicate: int = 0) -> Splits:
    """Draws train, validation and test rows and standardizes the first two.

    The test rows depend on `seed` alone, so that all replicates keep the same ones apart. Rows
    with equal features stay together, whatever their target. Classes are stratified.

    Raises:
        ConfigError: A class has too few distinct rows to stand in every split.
    """
    from sklearn.preprocessing import StandardScaler

    groups = _duplicate_groups(table.features)
    first_rows = np.unique(groups, return_index=True)[1]
    labels = None if table.task is Task.REGRESSION else table.target[first_rows]
    remaining, test = _divide(
        np.arange(len(first_rows)), labels, config.test_size, (seed, 0), table
    )
    share = config.validation_size / (1 - config.test_size)
    train, val = _divide(remaining, labels, share, (seed, 1, replicate), table)
    train_rows, val_rows, test_rows = (
        np.flatnonzero(np.isin(groups, part)) for part in (train, val, test)
    )
    if labels is not None:
        _check_classes(table, (train_rows, val_rows, test_rows))

    with np.errstate(over="ignore", invalid="ignore"):
        scaler = StandardScaler().fit(table.features[train_rows])
        target_mean, target_scale = 0.0, 1.0
        if table.task is Task.REGRESSION:
            target_mean = float(table.target[train_rows].mean())
            target_scale = float(table.target[train_rows].std())
    for name, mean, scale in zip(
        (*table.feature_names, table.target_name),
        (*scaler.mean_, target_mean),
        (*scaler.scale_, target_scale),
        strict=True,
    ):
        if not (np.isfinite(mean) and np.isfinite(scale) and scale > 0):
            raise ConfigError(
                "a column's mean and deviation must be finite, and the target's deviation not 0, "
                f"however: mean {mean:.3g}, deviation {scale:.3g} "
                f"({table.source}, column {name!r})"
            )

    def standardized(rows: Rows) -> tuple[Matrix, Matrix]:
        target = (table.target[rows] - target_mean) / target_scale
        with np.errstate(over="ignore"):
            features = scaler.transform(table.features[rows]).astype(np.float32)
        return features, target.astype(np.float32)

    x_train, y_train = standardized(train_rows)
    x_val, y_val = standardized(val_rows)
    return Splits(
        task=table.task,
        n_outputs=table.n_outputs,
        replicate=replicate,
        x_train=x_train,
        y_train=y_train,
        x_val=x_val,
        y_val=y_val,
        train_rows=train_rows,
        val_rows=val_rows,
        test_rows=test_rows,
        feature_mean=scaler.mean_,
        feature_scale=scaler.scale_,
        target_mean=target_mean,
        target_scale=target_scale,
    )


def _bundled(name: str, place: str) -> pd.DataFrame:
    """A data set that scikit-learn carries with it."""
    from sklearn import datasets

    bundled = ("breast_cancer", "diabetes", "digits", "iris", "wine")
    if name not in bundled:
        raise ConfigError(
            f"a sklearn data set must be one of {', '.join(bundled)}, however: {name!r} ({place})"
        )
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    frame: pd.DataFrame = bunch.frame
    if "target_names" in bunch:
        names = [str(label) for label in bunch.target_names]
        frame["target"] = frame["target"].map(dict(enumerate(names))).astype(object)
    return frame


def _generated(name: str) -> pd.DataFrame:
    """A synthetic table; a name always stands for the very same values."""
    import pandas as pd
    from sklearn import datasets

    def classes(**options: Any) -> tuple[Any, Any]:
        features, target = datasets.make_classification(random_state=0, **options)
        return features, [f"class {label}" for label in target]

    generators: dict[str, Callable[[], tuple[Any, Any]]] = {
        # Few rows, many useless features, one label in ten wrong: made to be overfitted.
        "noisy_100": lambda: classes(
            n_samples=600, n_features=100, n_informative=10, n_redundant=0, flip_y=0.2
        ),
        # The textbook's case: 1,000 rows, 100 inputs, two classes.
        "textbook_100": lambda: classes(
            n_samples=1000, n_features=100, n_informative=20, n_redundant=10, flip_y=0.1
        ),
        "blobs_10": lambda: classes(
            n_samples=2000, n_features=30, n_informative=15, n_classes=10, flip_y=0.05
        ),
        "friedman_100": lambda: datasets.make_friedman1(
            n_samples=600, n_features=100, noise=2.0, random_state=0
        ),
    }
    if name not in generators:
        raise ConfigError(
            f"a synthetic data set must be one of {', '.join(generators)}, "
            f"however: {name!r} (synthetic:{name})"
        )
    features, target = generators[name]()
    frame = pd.DataFrame(features, columns=[f"x{number}" for number in range(features.shape[1])])
    return frame.assign(target=target)


def _read_file(scheme: str, path: Path, place: str) -> pd.DataFrame:
    import pandas as pd

    if not path.exists():
        raise ConfigError(f"a table must be a file, however: it does not exist ({place})")
    if not path.is_file():
        raise ConfigError(f"a table must be a file, however: it is a folder ({place})")
    if path.stat().st_size == 0:
        raise ConfigError(f"a table must have rows, however: the file is empty ({place})")
    try:
        frame = _read_csv(path) if scheme == "csv" else pd.read_parquet(path)
    except Exception as error:  # pandas and pyarrow raise whatever their parsers raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"a table must be {scheme.upper()}, however: {reason} ({place})"
        ) from error
    # What a data frame was indexed by is a column like any other, unless it only counts rows.
    named = frame.index.nlevels > 1 or frame.index.name is not None
    return frame.reset_index() if named else frame


def _read_csv(path: Path) -> pd.DataFrame:
    """`pandas.read_csv` without its guesses about the header."""
    import pandas as pd

    frame = pd.read_csv(path)
    # With a header, pandas renames a second "x" to "x.1" and makes a column without a name the
    # index; without one, it refuses a second line that is longer than the first.
    names = pd.read_csv(path, header=None, nrows=2, dtype=str, keep_default_na=False).iloc[0]
    if all(_like_number(name) for name in names):
        raise ValueError(f"its first line is numbers ({names[0]!r}, ...), not column names")
    if names.duplicated().any():
        frame.columns = pd.Index(names)
    return frame


def _check_columns(frame: pd.DataFrame, place: str) -> None:
    if not all(isinstance(column, str) for column in frame.columns):
        frame.columns = frame.columns.map(str)
    if frame.columns.has_duplicates:
        repeated = frame.columns[frame.columns.duplicated()][0]
        raise ConfigError(f"column names must be distinct, however: {repeated!r} twice ({place})")
    if frame.shape[1] < 2:
        raise ConfigError(
            "a table must have a feature and a target column, "
            f"however: {frame.shape[1]} column ({place})"
        )
    if len(frame) < 5:
        raise ConfigError(f"a table must have at least 5 rows, however: {len(frame)} ({place})")


def _numeric_features(columns: pd.DataFrame, place: str) -> NDArray[np.float64]:
    import pandas as pd

    for name, column in columns.items():
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_complex_dtype(column):
            example = next((value for value in column if not _like_number(value)), column.iloc[0])
            raise ConfigError(
                f"a feature must be numeric, however: {example!r} ({place}, column {name!r})"
            )
    features: NDArray[np.float64] = columns.to_numpy(dtype=np.float64, na_value=np.nan)
    for rule, bad in (("missing", np.isnan(features)), ("infinite", np.isinf(features))):
        if bad.any():
            row, column = np.argwhere(bad)[0]
            count, name = int(bad[:, column].sum()), columns.columns[column]
            raise ConfigError(
                f"a numeric column must not have {rule} values, however: {count} of them "
                f"({place}, column {name!r}, first in row {row + 1})"
            )
    return features


def _like_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _read_target(
    column: pd.Series, config: DataConfig
) -> tuple[NDArray[np.float64], Task, tuple[str, ...]]:
    import pandas as pd

    place = f"{config.source}, column {column.name!r}"
    if column.isna().any():
        raise ConfigError(
            f"a target must not have missing values, however: {int(column.isna().sum())} ({place})"
        )
    quantity = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    values = column.to_numpy(dtype=np.float64) if quantity else None
    if values is not None and not np.isfinite(values).all():
        raise ConfigError(f"a target must be finite, however: infinity ({place})")
    whole = values is None or bool((values == np.round(values)).all())
    try:
        classes = sorted(column.unique(), key=lambda label: (str(type(label)), label))
    except TypeError as error:
        raise ConfigError(
            f"a target must be numbers or names, however: {column.iloc[0]!r} ({place})"
        ) from error

    task = config.task
    if task == "auto":
        quantity_like = values is not None and (not whole or len(classes) > MOST_CLASSES)
        task = "regression" if quantity_like else ("binary" if len(classes) == 2 else "multiclass")
        log.info("%s: the target is taken for %s (data.task overrules)", place, task)
    if task == "regression":
        if values is None:
            example = column.iloc[0]
            raise ConfigError(f"a quantity must be numeric, however: {example!r} ({place})")
        if len(classes) == 1:
            raise ConfigError(f"a target must vary, however: it is always {classes[0]} ({place})")
        return values, Task.REGRESSION, ()
    if len(classes) < 2:
        raise ConfigError(
            f"a target must have at least two classes, however: only "
            f"{_class_name(classes[0])!r} ({place})"
        )
    if task == "binary" and len(classes) != 2:
        raise ConfigError(f"a binary target must have 2 classes, however: {len(classes)} ({place})")
    if not whole:
        fraction = next(label for label in classes if label != round(label))
        raise ConfigError(f"a class must not be a fraction, however: {fraction} ({place})")
    numbers = column.map({label: number for number, label in enumerate(classes)})
    # Two classes declared "multiclass" are still one logit: softmax over two is the same model.
    kind = Task.BINARY if len(classes) == 2 else Task.MULTICLASS
    return numbers.to_numpy(dtype=np.float64), kind, tuple(map(_class_name, classes))


def _class_name(label: Any) -> str:
    return str(int(label)) if isinstance(label, float | np.floating) else str(label)


def _duplicate_groups(features: NDArray[np.float64]) -> Rows:
    """[N] group numbers; rows whose features are all equal share one."""
    import pandas as pd

    # + 0.0 turns -0.0 into 0.0: equal numbers must have equal hashes.
    hashes = pd.util.hash_pandas_object(pd.DataFrame(features + 0.0), index=False)
    return np.asarray(pd.factorize(hashes)[0], dtype=np.intp)


def _divide(
    groups: Rows,
    labels: NDArray[np.float64] | None,
    share: float,
    key: tuple[int, ...],
    table: Table,
) -> tuple[Rows, Rows]:
    """Divides group numbers at random, stratified by label: (the rest, `share` of them)."""
    from sklearn.model_selection import train_test_split

    strata = None if labels is None else labels[groups]
    state = int(np.random.SeedSequence(key).generate_state(1)[0])
    try:
        rest, part = train_test_split(groups, test_size=share, stratify=strata, random_state=state)
    except ValueError as error:
        raise _too_small(table, strata, " ".join(str(error).split())) from error
    return rest, part


def _check_classes(table: Table, parts: tuple[Rows, ...]) -> None:
    for rows in parts:
        if len(np.unique(table.target[rows])) < len(table.classes):
            raise _too_small(table, table.target, "a split has no row of it")


def _too_small(table: Table, strata: NDArray[np.float64] | None, detail: str) -> ConfigError:
    if strata is None:
        return ConfigError(
            f"a table must have rows for three splits, however: {detail} ({table.source})"
        )
    counts = np.bincount(strata.astype(int), minlength=len(table.classes))
    smallest = int(counts.argmin())
    return ConfigError(
        "every class must have enough distinct rows for three splits, however: "
        f"{table.classes[smallest]!r} has {counts[smallest]} ({table.source}, "
        f"column {table.target_name!r})"
    )


def r_squared(mean_squared_error: float, variance: float) -> float:
    """Share of a target's variance that is explained; 1 or 0 where it has none.

    scikit-learn's `r2_score` draws the same line for a constant target.
    """
    if variance == 0:
        return float(mean_squared_error == 0)
    return 1 - mean_squared_error / variance
