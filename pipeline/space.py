"""Owns what varies per trial: regularization types, hyperparameters, the search space."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Off = Literal["off"]


class Regularization(StrEnum):
    """How weights are held down; `weight_decay` is decoupled, the others are penalties."""

    NONE = "none"
    L1 = "l1"
    L2 = "l2"
    ELASTIC_NET = "elastic_net"
    WEIGHT_DECAY = "weight_decay"


def _require(holds: bool, rule: str, received: object) -> None:
    if not holds:
        raise ValueError(f"{rule}, however: {received!r}")


@dataclass(frozen=True)
class Hyperparameters:
    """What distinguishes one trial from another trial of the same replicate.

    Attributes:
        regularization: The type of penalty on the kernels, or decoupled weight decay.
        lambda_: Its strength, 0 for `none`.
        l1_ratio: Share of the L1 part, scikit-learn's meaning; only for `elastic_net`.
        dropout: Probability with which a hidden activation is dropped, in [0, 1).
        patience: Epochs without improvement after which the trial ends, or "off".
        learning_rate: Adam's, where it varies by trial; None means the study's own.

    Raises:
        ValueError: A value is outside its domain.
    """

    regularization: Regularization = Regularization.NONE
    lambda_: float = 0.0
    l1_ratio: float | None = None
    dropout: float = 0.0
    patience: int | Off = "off"
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "regularization", Regularization(self.regularization))
        _require(
            math.isfinite(self.lambda_) and self.lambda_ >= 0,
            "lambda must be finite and at least 0",
            self.lambda_,
        )
        if self.regularization is Regularization.NONE:
            _require(self.lambda_ == 0, "lambda must be 0 without regularization", self.lambda_)
        if self.regularization is Regularization.ELASTIC_NET:
            inside = self.l1_ratio is not None and 0 <= self.l1_ratio <= 1
            _require(inside, "l1_ratio must be from 0 to 1 for elastic_net", self.l1_ratio)
        else:
            _require(
                self.l1_ratio is None, "l1_ratio must be absent but for elastic_net", self.l1_ratio
            )
        _require(0 <= self.dropout < 1, "dropout must be at least 0 and below 1", self.dropout)
        if self.patience != "off":
            _require(self.patience >= 1, 'patience must be at least 1 or "off"', self.patience)
        if self.learning_rate is not None:
            _require(self.learning_rate > 0, "learning_rate must be above 0", self.learning_rate)


Number = TypeVar("Number", int, float)


class Range(BaseModel, Generic[Number]):
    """An interval to search, both ends included; `low == high` fixes the hyperparameter."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    low: Number
    high: Number
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range[Number]:
        _require(self.low <= self.high, "low must be at most high", (self.low, self.high))
        if self.log and not self.fixed:
            _require(self.low > 0, "low must be above 0 on a log scale", self.low)
        return self

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to search."""
        return self.low == self.high

    @property
    def middle(self) -> Number:
        """The middle of the interval, on its own scale."""
        value = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        kind = type(self.low)
        # mypy reads this once per number type, and finds each time that it is clear.
        return kind(round(value) if kind is int else value)  # type: ignore[redundant-expr]


def _range_like(**default: Any) -> BeforeValidator:
    """Reads a single value as a fixed range and fills what a partial range leaves out."""

    def read(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {**default, **value}
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"low": value, "high": value}
        if isinstance(value, Range):
            return value
        raise ValueError(f"a range must be a number or a table of low and high, however: {value!r}")

    return BeforeValidator(read)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Epochs = Annotated[int, Field(ge=1)]
Step = Annotated[float, Field(gt=0, allow_inf_nan=False)]
RegularizationType = Annotated[Regularization, Field(strict=False)]


class SuggestingTrial(Protocol):
    """The part of `optuna.trial.BaseTrial` that a search space needs."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        """One of `choices`."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = ...) -> float:
        """A number from `low` to `high`."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = ...) -> int:
        """A whole number from `low` to `high`."""


class SearchSpace(BaseModel):
    """The space of a study. Conditional: lambda exists only where there is something to weigh.

    A fixed hyperparameter is not suggested, so the sampler never models it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    regularization: Annotated[
        tuple[RegularizationType, ...], BeforeValidator(_listed), Field(min_length=1, strict=False)
    ] = tuple(Regularization)
    lambda_: Annotated[Range[Strength], _range_like(low=1e-6, high=1e-1, log=True)] = Field(
        default=Range[Strength](low=1e-6, high=1e-1, log=True), alias="lambda"
    )
    l1_ratio: Annotated[Range[Share], _range_like(low=0.05, high=0.95)] = Range[Share](
        low=0.05, high=0.95
    )
    dropout: Annotated[Range[Rate], _range_like(low=0.0, high=0.7)] = Range[Rate](low=0.0, high=0.7)
    patience: Off | Annotated[Range[Epochs], _range_like(low=3, high=30)] = Range[Epochs](
        low=3, high=30
    )
    learning_rate: Annotated[Range[Step], _range_like(low=1e-4, high=1e-1, log=True)] | None = None

    @model_validator(mode="after")
    def _distinct(self) -> SearchSpace:
        _require(
            len(set(self.regularization)) == len(self.regularization),
            "regularization types must be distinct",
            [str(kind) for kind in self.regularization],
        )
        return self

    def suggest(self, trial: SuggestingTrial) -> Hyperparameters:
        """Asks `trial` for every hyperparameter that applies to the type it draws."""
        choices = [str(kind) for kind in self.regularization]
        name = choices[0]
        if len(choices) > 1:
            name = trial.suggest_categorical("regularization", choices)

        def number(key: str, interval: Range[float]) -> float:
            if interval.fixed:
                return interval.low
            return trial.suggest_float(key, interval.low, interval.high, log=interval.log)

        def integer(key: str, interval: Range[int]) -> int:
            if interval.fixed:
                return interval.low
            return trial.suggest_int(key, interval.low, interval.high, log=interval.log)

        return self._build(Regularization(name), number, integer)

    def ranges(self) -> dict[str, Range[int] | Range[float]]:
        """The intervals, fixed ones too, by the names under which they are suggested.

        Only those that apply to a type that is searched.
        """
        kinds = set(self.regularization)
        named = {
            "lambda": self.lambda_ if kinds != {Regularization.NONE} else None,
            "l1_ratio": self.l1_ratio if Regularization.ELASTIC_NET in kinds else None,
            "dropout": self.dropout,
            "patience": self.patience,
            "learning_rate": self.learning_rate,
        }
        return {name: each for name, each in named.items() if isinstance(each, Range)}

    def default(self, regularization: Regularization) -> Hyperparameters:
        """The middle of every range, for one regularization type."""
        return self._build(
            regularization, lambda _, interval: interval.middle, lambda _, interval: interval.middle
        )

    def unregularized(self) -> Hyperparameters | None:
        """No penalty, least dropout, longest patience; None where the space has no `none`."""
        if Regularization.NONE not in self.regularization:
            return None
        patience = self.patience if isinstance(self.patience, str) else self.patience.high
        return Hyperparameters(
            dropout=self.dropout.low,
            patience=patience,
            learning_rate=None if self.learning_rate is None else self.learning_rate.middle,
        )

    def free_parameters(self, hyperparameters: Hyperparameters) -> dict[str, Any]:
        """What `suggest` would have to draw to arrive at `hyperparameters`, by suggestion name."""
        drawn = _Recorder(hyperparameters)
        self.suggest(drawn)
        return drawn.parameters

    def _build(
        self,
        regularization: Regularization,
        number: Callable[[str, Range[float]], float],
        integer: Callable[[str, Range[int]], int],
    ) -> Hyperparameters:
        penalized = regularization is not Regularization.NONE
        mixed = regularization is Regularization.ELASTIC_NET
        searched_rate = self.learning_rate
        return Hyperparameters(
            regularization=regularization,
            lambda_=number("lambda", self.lambda_) if penalized else 0.0,
            l1_ratio=number("l1_ratio", self.l1_ratio) if mixed else None,
            dropout=number("dropout", self.dropout),
            patience="off" if self.patience == "off" else integer("patience", self.patience),
            learning_rate=None if searched_rate is None else number("learning_rate", searched_rate),
        )


class _Recorder:
    """Answers each suggestion with a known value and writes down that it was asked."""

    def __init__(self, hyperparameters: Hyperparameters) -> None:
        self._known = {
            "regularization": str(hyperparameters.regularization),
            "lambda": hyperparameters.lambda_,
            "l1_ratio": hyperparameters.l1_ratio,
            "dropout": hyperparameters.dropout,
            "patience": hyperparameters.patience,
            "learning_rate": hyperparameters.learning_rate,
        }
        self.parameters: dict[str, Any] = {}

    def _recall(self, name: str, *_: Any, **__: Any) -> Any:
        self.parameters[name] = self._known[name]
        return self._known[name]

    suggest_categorical = suggest_float = suggest_int = _recall
