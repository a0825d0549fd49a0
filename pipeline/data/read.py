"""Owns the sources: what the study file names becomes a data frame, or is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import FILE_SOURCES, FRAME_SOURCE, ConfigError
from pipeline.data.csv_file import read_csv

if TYPE_CHECKING:
    import pandas as pd


def read_source(source: str) -> pd.DataFrame:
    """The data frame that a source stands for; the target is its last column unless named.

    Raises:
        ConfigError: There is no such source, or it cannot be read.
    """
    scheme, _, name = source.partition(":")
    if scheme in FILE_SOURCES:
        return _file(scheme, Path(name), source)
    if scheme == FRAME_SOURCE:
        raise ConfigError(
            "a data frame must be handed over anew (the argument `data`), "
            f"however: only its name is known ({source})"
        )
    readers = {"sklearn": _bundled, "synthetic": _generated, "openml": _openml}
    return readers[scheme](name, source)


def _file(scheme: str, path: Path, place: str) -> pd.DataFrame:
    _require_file(path, place)
    try:
        frame = read_csv(path, place) if scheme == "csv" else _parquet(path)
    except ConfigError:
        raise
    except Exception as error:  # pandas and pyarrow raise whatever their parsers raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"a table must be {scheme.upper()}, however: {reason} ({place})"
        ) from error
    return frame


def _require_file(path: Path, place: str) -> None:
    try:
        size = path.stat().st_size
        folder = path.is_dir()
    except FileNotFoundError:
        raise ConfigError(f"a table must be a file, however: it does not exist ({place})") from None
    except (OSError, ValueError) as error:  # a loop of links, a folder that may not be entered
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"a table must be a file, however: {reason} ({place})") from error
    if folder or not path.is_file():
        what = "a folder" if folder else "neither file nor folder"
        raise ConfigError(f"a table must be a file, however: it is {what} ({place})")
    if size == 0:
        raise ConfigError(f"a table must have rows, however: the file is empty ({place})")


def _parquet(path: Path) -> pd.DataFrame:
    """`pandas.read_parquet`, a column at a time: the table never stands in memory twice."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Unbuffered: the compressed file need not stand there beside what it holds, either.
    with pq.ParquetFile(path, pre_buffer=False) as file:
        schema = file.schema_arrow
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        # An index that has a name comes first, as `reset_index` has it; a nameless one counts rows.
        named = [name for name in index if name in schema.names]
        names = [*named, *(name for name in schema.names if name not in named)]
        names = [name for name in names if not re.fullmatch(r"__index_level_\d+__", name)]
        if len(set(schema.names)) < len(schema.names):
            return file.read().to_pandas()  # refused later: names must be distinct
        columns = {}
        for name in names:
            column = file.read(columns=[name]).column(name)
            # A copy is as large as the column; Arrow's own buffers are what they grew to.
            columns[name] = column.to_pandas().copy()
    pa.default_memory_pool().release_unused()
    return pd.DataFrame(columns, copy=False)


def _openml(name: str, place: str) -> pd.DataFrame:
    """A data set of openml.org by its number; scikit-learn keeps a copy."""
    import warnings

    from sklearn.datasets import fetch_openml

    try:
        with warnings.catch_warnings():
            # Of a network error that it tries to outlast, and of versions we did not ask for.
            warnings.simplefilter("ignore")
            bunch = fetch_openml(data_id=int(name), as_frame=True, parser="auto", n_retries=1)
    except OSError as error:  # of which urllib's errors are
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            "an openml data set must be in scikit-learn's cache or openml.org in reach, "
            f"however: {reason} ({place})"
        ) from error
    except Exception as error:  # an unknown number, an inactive or a damaged data set
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"an openml data set must exist, however: {reason} ({place})") from error
    frame: pd.DataFrame = bunch.frame
    targets = list(bunch.target_names or [])
    return frame[[*(name for name in frame.columns if name not in targets), *targets]]


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


def _generated(name: str, place: str) -> pd.DataFrame:
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
            f"however: {name!r} ({place})"
        )
    features, target = generators[name]()
    frame = pd.DataFrame(features, columns=[f"x{number}" for number in range(features.shape[1])])
    return frame.assign(target=target)
