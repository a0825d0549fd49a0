"""Whatever a study file or a table holds: it is read, or refused in one line. Nothing else.

A few examples run with the other tests. For longer: FUZZ_EXAMPLES=20000 pytest tests/test_fuzz.py
"""

from __future__ import annotations

import io
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.cli import main
from pipeline.config import ConfigError, StudyConfig, parse_assignment, parse_config

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= 60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

STUDY = StudyConfig.model_validate({"name": "s", "data": {"source": "csv:/table.csv"}}).to_toml()

anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["auto", "off", "none", "l1", "csv:", "csv:~nobody/x", "sklearn:", "all"])
    | st.text(alphabet="a\n\x00\x1f\u202e\U0001f600'\"<>/.\\", max_size=300),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
SECTIONS = ("data", "model", "training", "search", "space", "confirm")


def keys() -> list[str]:
    """Every key of a study file, dotted."""
    document = StudyConfig.model_validate({"name": "s", "data": {"source": "csv:x"}})
    dumped = document.model_dump(mode="json", by_alias=True)
    of_sections = [f"{name}.{key}" for name in SECTIONS for key in dumped[name]]
    return ["name", "seed", *SECTIONS, *of_sections, "space.lambda.low", "space.dropout.log"]


def without_none(value: Any) -> Any:
    """What TOML can hold."""
    if isinstance(value, dict):
        return {key: without_none(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_none(each) for each in value if each is not None]
    return value


def spliced(text: str | bytes, cut: tuple[int, int], middle: Any) -> Any:
    start, length = cut[0] % (len(text) + 1), cut[1]
    return text[:start] + middle + text[start + length :]


def assert_read_or_refused(text: str, overrides: dict[str, Any] | None = None) -> None:
    try:
        config = parse_config(text, "study.toml", Path("/"), overrides)
    except ConfigError as error:
        assert_one_line(str(error))
    else:
        assert parse_config(config.to_toml(), "again", Path("/")) == config


def assert_one_line(message: str) -> None:
    assert message
    assert message.isprintable(), message
    assert len(message) < 3000


@fuzzed
@given(st.text(max_size=200))
def test_any_text_as_a_study(text: str) -> None:
    assert_read_or_refused(text)


@fuzzed
@given(st.tuples(st.integers(0, 5000), st.integers(0, 30)), st.text(max_size=20))
def test_a_study_with_a_torn_line(cut: tuple[int, int], middle: str) -> None:
    assert_read_or_refused(spliced(STUDY, cut, middle))


@fuzzed
@given(st.dictionaries(st.sampled_from(keys()), anything, min_size=1, max_size=3))
def test_a_study_with_any_values(values: dict[str, Any]) -> None:
    assert_read_or_refused(STUDY, values)
    document: dict[str, Any] = {}
    for key, value in values.items():
        document[key.split(".")[0]] = value
    assert_read_or_refused(tomli_w.dumps(without_none(document)))


@fuzzed
@given(st.text(max_size=60))
def test_any_assignment(text: str) -> None:
    try:
        key, value = parse_assignment(text)
    except ConfigError as error:
        assert_one_line(str(error))
    else:
        assert_read_or_refused(STUDY, {key: value})


@pytest.mark.parametrize("depth", [200, 5000])
def test_a_study_as_deep_as_a_tower(depth: int) -> None:
    assert_read_or_refused("name = " + "[" * depth + "]" * depth)
    assert_read_or_refused("[" + ".".join(["a"] * depth) + "]")


TABLE = (
    "age,city,income,date,target\n"
    + "".join(
        f"{20 + n % 40},{'abc'[n % 3]},{n * 1.5},2024-01-{1 + n % 28:02},{n % 2}\n"
        for n in range(60)
    )
).encode()

cells = st.text(max_size=12) | st.sampled_from(
    ["", "NA", "1e999", "inf", "-0", "1,5", '"', '"a\nb"', "\x00", "é", "\u202e", "=1+1", "9" * 400]
)


def assert_table_read_or_refused(folder: Path, content: bytes, *options: str) -> None:
    path = folder / "table.csv"
    path.write_bytes(content)
    said, complained = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(complained):
        code = main(["data", f"csv:{path}", *options])
    if code:
        assert code == 2
        # Notes may stand before it, the error is the last line.
        assert_one_line(complained.getvalue().rstrip("\n").split("\n")[-1])
    else:
        assert said.getvalue()


@fuzzed
@given(content=st.binary(max_size=400))
def test_any_bytes_as_a_table(tmp_path: Path, content: bytes) -> None:
    assert_table_read_or_refused(tmp_path, content)


@fuzzed
@given(
    cut=st.tuples(st.integers(0, len(TABLE)), st.integers(0, 40)),
    middle=st.binary(max_size=30) | cells.map(lambda text: text.encode("utf-8", "surrogatepass")),
)
def test_a_table_with_something_torn_out(
    tmp_path: Path, cut: tuple[int, int], middle: bytes
) -> None:
    assert_table_read_or_refused(tmp_path, spliced(TABLE, cut, middle))


@fuzzed
@given(
    header=st.lists(cells, min_size=1, max_size=4),
    rows=st.lists(st.lists(cells, min_size=1, max_size=4), max_size=30),
    target=cells,
)
def test_a_table_of_any_cells(
    tmp_path: Path, header: list[str], rows: list[list[str]], target: str
) -> None:
    text = "\n".join(",".join(row) for row in [header, *rows])
    options = [f"--target={target}"] if target else []
    assert_table_read_or_refused(tmp_path, text.encode("utf-8", "surrogatepass"), *options)
