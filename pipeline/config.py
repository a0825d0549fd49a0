"""Owns what is fixed for a study: the study file, its validation, its overrides."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from pipeline.space import SearchSpace, Step

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
ScoreName = Literal["accuracy", "balanced_accuracy", "roc_auc", "log_loss", "r2", "rmse", "mae"]
# How an L1 penalty acts: as a slope in the gradient, or as a threshold after the step.
L1 = Literal["subgradient", "proximal"]
Names = Annotated[tuple[str, ...], Field(strict=False)]
FILE_SOURCES = ("csv", "parquet")
# A data frame handed over in Python: the name after the colon is for people.
FRAME_SOURCE = "frame"


# Of a value that is longer, a message shows no more than its ends.
LONGEST_MESSAGE = 1000


class ConfigError(ValueError):
    """The input is wrong: one line with the rule, what was received, and where."""

    def __str__(self) -> str:
        return shortened(printable(super().__str__()))


def printable(text: str) -> str:
    """Text on one line, with what a terminal would obey, or not show, as an escape."""
    lines = " ".join(text.split())
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in lines)


def shortened(message: str) -> str:
    """A message without the middle of what is too long to be read: its ends say rule and place."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    half = LONGEST_MESSAGE // 2
    return f"{message[:half]} ... {message[-half:]}"


class StudyError(RuntimeError):
    """A study cannot go on, and no input is wrong: one line that says why."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _known_source(source: str) -> str:
    scheme, _, name = source.partition(":")
    if scheme not in ("sklearn", "synthetic", "openml", FRAME_SOURCE, *FILE_SOURCES) or not name:
        raise ValueError(
            "source must be csv:PATH, parquet:PATH, openml:ID, sklearn:NAME or synthetic:NAME, "
            f"however: {source!r}"
        )
    if scheme == "openml" and not (name.isascii() and name.isdigit()):
        raise ValueError(f"an openml source must be openml:ID, a number, however: {source!r}")
    return source


class DataConfig(_Section):
    """Which table, what its columns are, what becomes of them, and how its rows are split."""

    source: Annotated[str, AfterValidator(_known_source)]
    target: str = ""
    task: Literal["auto", "binary", "multiclass", "regression"] = "auto"
    drop_missing_target: bool = False
    drop: Names = ()
    numeric: Names = ()
    categorical: Names = ()
    dates: Names = ()
    scaling: Literal["standard", "quantile", "none"] = "standard"
    max_levels: Count = 50
    group: str = ""
    time: str = ""
    test_size: Fraction = 0.2
    validation_size: Fraction = 0.2
    score: Literal["auto", ScoreName] = "auto"

    def handed_over(self) -> DataConfig:
        """The same of a data frame that is handed over, whatever the source was."""
        return self.model_copy(update={"source": f"{FRAME_SOURCE}:data"})

    @model_validator(mode="after")
    def _rows_left_to_train_on(self) -> DataConfig:
        taken = self.test_size + self.validation_size
        if taken >= 1:
            raise ValueError(f"test_size + validation_size must be below 1, however: {taken:g}")
        return self


class ModelConfig(_Section):
    """The network that every trial of the study trains."""

    hidden: Annotated[tuple[Count, ...], Field(strict=False)] = (64, 64)
    activation: Literal["relu", "tanh", "sigmoid", "elu"] = "relu"
    penalized_layers: Literal["all"] | Annotated[tuple[int, ...], Field(strict=False)] = "all"
    dropout_layers: Literal["all"] | Annotated[tuple[int, ...], Field(strict=False)] = "all"
    l1: L1 = "proximal"

    @model_validator(mode="after")
    def _layers_exist(self) -> ModelConfig:
        for key, layers, count in (
            ("penalized_layers", self.penalized_layers, len(self.hidden) + 1),
            ("dropout_layers", self.dropout_layers, len(self.hidden)),
        ):
            if layers != "all" and (
                len(set(layers)) < len(layers) or not set(layers) <= set(range(count))
            ):
                raise ValueError(
                    f'{key} must be "all" or distinct layer numbers from 0 to {count - 1}, '
                    f"however: {list(layers)}"
                )
        return self

    @property
    def penalized(self) -> tuple[bool, ...]:
        """Per kernel, the output layer's last: does the penalty (or the decay) weigh it?"""
        return self._selected(self.penalized_layers, len(self.hidden) + 1)

    @property
    def dropped(self) -> tuple[bool, ...]:
        """Per hidden layer: does dropout follow its activation?"""
        return self._selected(self.dropout_layers, len(self.hidden))

    @staticmethod
    def _selected(layers: str | Sequence[int], count: int) -> tuple[bool, ...]:
        return tuple(layers == "all" or layer in layers for layer in range(count))


class TrainingConfig(_Section):
    """How every trial of the study is trained."""

    max_epochs: Count = 100
    batch_size: Count = 32
    learning_rate: Step = 1e-3
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    class_weight: Literal["none", "balanced"] = "none"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class SearchConfig(_Section):
    """How many trials, how many at a time, which are cut short, and how many may raise.

    A trial that diverges has not raised: that is a result, and as many may as do.
    """

    n_trials: Count = 100
    population: Count = 16
    objective: Literal["val_loss"] = "val_loss"
    pruner: Literal["none", "median", "quartile", "pace"] = "pace"
    pruner_warmup: Annotated[int, Field(ge=0)] = 10
    max_failures: Annotated[int, Field(ge=0)] = 10


class ConfirmConfig(_Section):
    """How often the finalists of a search are trained again, and which of them is the champion."""

    replicates: Annotated[int, Field(ge=0, le=1000)] = 20
    rule: Literal["lowest", "one_standard_error"] = "lowest"
    champion: Literal["average", "single"] = "average"

    @field_validator("replicates")
    @classmethod
    def _enough_to_vary(cls, replicates: int) -> int:
        if replicates == 1:
            raise ValueError(
                f"replicates must be 0 (no confirmation) or at least 2, however: {replicates}"
            )
        return replicates


class TrackingConfig(_Section):
    """How long a study that runs waits for its tracking store."""

    give_up_after: Annotated[float, Field(gt=0, le=86400)] = 300


class StudyConfig(_Section):
    """A whole study file, validated."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: DataConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    search: SearchConfig = SearchConfig()
    space: SearchSpace = SearchSpace()
    confirm: ConfirmConfig = ConfirmConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def has_dropout(self) -> bool:
        """Whether any layer is followed by dropout; if none is, the rate means nothing."""
        return any(self.model.dropped)

    @property
    def search_space(self) -> SearchSpace:
        """`space` without what this study's network cannot have."""
        if self.has_dropout:
            return self.space
        nothing = type(self.space.dropout)(low=0.0, high=0.0)
        return self.space.model_copy(update={"dropout": nothing})

    def to_toml(self) -> str:
        """The study as a file that `load_config` reads back as an equal study."""
        return tomli_w.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True))


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> StudyConfig:
    """Reads a study file.

    Args:
        path: The TOML file. Relative paths in it are relative to its folder.
        overrides: Values by dotted key (`{"space.dropout.high": 0.5}`) that replace the file's.

    Raises:
        ConfigError: The file or an override is wrong.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"the study must be a readable file, however: {reason} ({path.absolute()})"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the study must be UTF-8 text, however: {error} ({path})") from error
    return parse_config(text, str(path), path.absolute().parent, overrides)


def parse_config(
    text: str, place: str, folder: Path, overrides: Mapping[str, Any] | None = None
) -> StudyConfig:
    """`load_config` of a text; `place` names it in errors, `folder` anchors its relative paths."""
    return _parse(_document(text, place), place, folder, overrides)


def parse_logged_config(text: str, place: str) -> StudyConfig:
    """`parse_config` of the file that a study left in the store, which states every key.

    One that it lacks came later, and stands for what was done before it was there.
    """
    document = _document(text, place)
    model = document.setdefault("model", {})
    if isinstance(model, dict):
        model.setdefault("l1", "subgradient")
    return _parse(document, place, Path("/"), None)


def _document(text: str, place: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the study must be TOML, however: {error} ({place})") from error
    except RecursionError as error:
        raise ConfigError(
            f"the study must be TOML, however: it is nested too deep ({place})"
        ) from error


def _parse(
    document: dict[str, Any], place: str, folder: Path, overrides: Mapping[str, Any] | None
) -> StudyConfig:
    for key, value in (overrides or {}).items():
        _assign(document, key, value)
    _anchor(document, folder)
    try:
        return StudyConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigError(_describe(error, document, place, overrides or {})) from error


def parse_assignment(text: str) -> tuple[str, Any]:
    """Reads one `KEY=VALUE` of the command line, the value in TOML syntax.

    Raises:
        ConfigError: It is no assignment, or the value is no TOML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"an override must be KEY=VALUE, however: {text!r} (--set)")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"an override's value must be TOML (strings in quotes), however: {value!r} "
            f"(--set {key.strip()})"
        ) from error


def _assign(document: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    place = document
    for table in tables:
        place = place.setdefault(table, {})
        if not isinstance(place, dict):
            raise ConfigError(
                f"an override's key must lead through tables, however: {table!r} is a single value "
                f"(--set {key})"
            )
    place[last] = value


def _anchor(document: dict[str, Any], folder: Path) -> None:
    """Makes the path of a file source absolute, so that the logged study finds it again."""
    data = document.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    if isinstance(source, str):
        scheme, _, name = source.partition(":")
        if scheme in FILE_SOURCES and name:
            data["source"] = f"{scheme}:{folder / Path(name).expanduser()}"  # type: ignore[index]


# What pydantic calls by its own types.
_RULES = {
    "tuple_type": "must be a list",
    "too_short": "must have at least one entry",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}


def _describe(
    error: ValidationError,
    document: Mapping[str, Any],
    place: str,
    overrides: Mapping[str, Any],
) -> str:
    """One line for the first thing that is wrong: rule, received value, place."""
    details = error.errors(include_url=False)
    # Of a union's branches, the one that is not a fixed word explains best what was wrong.
    first = next((d for d in details if d["type"] != "literal_error"), details[0])
    key = _key(first, document)
    last = next((part for part in reversed(key.split(".")) if not part.isdigit()), key)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        line = f"a key must be one that the study file knows, however: {last!r}"
    elif first["type"] == "missing":
        line = f"{last} must be given, however: it is absent"
    elif "however:" in message:
        line = message
    elif first["type"] in _RULES:
        line = f"{last} {_RULES[first['type']]}, however: {first['input']!r}"
    else:
        rule = message[0].lower() + message[1:]
        rule = rule.replace("input should be", f"{last} must be", 1)
        rule = rule if rule.startswith(f"{last} must") else f"{last}: {rule}"
        line = f"{rule}, however: {first['input']!r}"
    if any(key == given or key.startswith(f"{given}.") for given in overrides):
        place = f"override of {place}"
    return f"{line} ({place}, {key})" if key else f"{line} ({place})"


def _key(detail: ErrorDetails, document: Mapping[str, Any]) -> str:
    """The dotted key as the file spells it: pydantic's location without its union branches."""
    place: Any = document
    key: list[str] = []
    for part in detail["loc"]:
        if isinstance(place, Mapping) and (part in place or detail["type"] == "missing"):
            place = place.get(part)
        elif isinstance(place, Sequence) and not isinstance(place, str) and isinstance(part, int):
            place = place[part]
        else:
            continue
        key.append(str(part))
    return ".".join(key)
