"""A source is read as it is, or refused in one line that names rule, value and place."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils import Bunch

from pipeline.config import ConfigError, DataConfig
from pipeline.data import Task, load_table, split
from tests.data.frames import CONFIG, N, configured, frame, lines, on_every_task, refusal, table


def csv(path: Path, content: str | bytes) -> DataConfig:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return DataConfig(source=f"csv:{path}")


# What stands in the file, what the error says of it.
BAD_CSV = [
    ("", "the file is empty"),
    ("\n\n\n", "a table must be CSV, however: No columns"),
    ("x0,x1,target\n", "at least 5 rows, however: 0"),
    ("x0,target\n1,a\n2,b\n3,a\n4,b", "at least 5 rows, however: 4"),
    ("x0\n1\n2\n3\n4\n5\n6", "a feature and a target column, however: 1 column"),
    (b"\x89PNG\r\n\x1a\n\x00\xff\xfe" * 9, "a table must be CSV, however: "),
    (bytes(range(256)) * 3, "a table must be CSV, however: "),
    (lines("1,2,a,4"), "a table must be CSV, however: "),
    (lines("1,2"), "a table must be CSV, however: line 25 has 2 fields, the header 3"),
    (lines("1", "2,3,a", "4,5,a"), "a table must be CSV, however: line 25 has 1 fields"),
    (lines("1,2,"), r"a target must not have missing values .*however: 1 .*column 'target'"),
    (lines().replace(",", ";"), "separated by commas, however: by ';'"),
    (lines().replace(",", "\t"), "separated by commas, however: by tabs"),
    (lines().replace(",", "|"), "separated by commas, however: by '|'"),
    (lines().replace(",", ";").replace("2", "2,5"), "separated by commas, however: by ';'"),
    (lines().encode("utf-16"), "a table must be CSV, however: it is UTF-16"),
    (lines('1,"1,234",a', '1,"2,345.5",b'), "without thousands separators, however: '1,234'"),
    (lines('1,"1,5",a', '1,"2,5",b'), "with a decimal point, however: '1,5'"),
    (lines("inf,2,a"), r"must not have infinite values, however: 1 .*column 'x0'"),
    (lines("1,-inf,a"), r"must not have infinite values, however: 1 .*column 'x1'"),
    (lines("1,many,a"), r"must hold nothing else .*however: the text 'many' .*column 'x1'"),
    (lines("1,2020-02-30,a"), r"must hold nothing else .*column 'x1'"),
    (lines("1,2,c"), "every class must have enough distinct rows .* however: 'c' has 1"),
    (lines("50,2,c", "51,2,c"), "every class must have enough distinct rows .* however: 'c'"),
    (lines(*["50,2,c"] * 17), "every class must have enough distinct rows .* however: 'c' has 1"),
    (lines().replace(",b", ",a"), "at least two classes, however: only 'a'"),
    (lines().replace(",a", ",1.5").replace(",b", ",1.5"), "must vary, however: it is always 1.5"),
    (
        "x,t\n" + "\n".join(f"{n},{n / 7}" for n in range(23)) + "\n1,inf",
        "a target must be finite, however: infinity",
    ),
    (lines(header="x,x,target"), "column names must be distinct, however: 'x'"),
    (lines(header="x,target"), "a table must be CSV, however: "),  # a field more than names
]


class TestRefusals:
    @pytest.mark.parametrize(("content", "expected"), BAD_CSV)
    def test_of_bad_csv_name_rule_value_and_place(
        self, content: str | bytes, expected: str, tmp_path: Path
    ) -> None:
        config = csv(tmp_path / "t.csv", content)
        with pytest.raises(ConfigError, match=expected):
            split(load_table(config), CONFIG, 0)
        assert f"({config.source}" in refusal(config)

    @pytest.mark.parametrize(
        "content", [b"", b"PAR1", b"x0,x1,target\n1,2,a\n" * 9, bytes(range(256)) * 3]
    )
    def test_of_what_is_no_parquet(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        path.write_bytes(content)
        line = refusal(DataConfig(source=f"parquet:{path}"))
        assert line.startswith("a table must ")
        assert f"(parquet:{path})" in line

    def test_of_parquet_read_as_csv(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        frame().to_parquet(path)
        assert refusal(DataConfig(source=f"csv:{path}")).startswith("a table must be CSV")

    @pytest.mark.parametrize("scheme", ["csv", "parquet"])
    def test_of_a_file_that_is_absent_or_a_folder(self, scheme: str, tmp_path: Path) -> None:
        absent = f"{scheme}:{tmp_path / 'absent'}"
        assert refusal(DataConfig(source=absent)) == (
            f"a table must be a file, however: it does not exist ({absent})"
        )
        folder = f"{scheme}:{tmp_path}"
        assert refusal(DataConfig(source=folder)) == (
            f"a table must be a file, however: it is a folder ({folder})"
        )

    @pytest.mark.parametrize("source", ["sklearn:iriss", "synthetic:moons", "sklearn:__doc__"])
    def test_of_an_unknown_data_set_list_the_known_ones(self, source: str) -> None:
        line = refusal(DataConfig(source=source))
        assert f"{source.partition(':')[2]!r} ({source})" in line
        assert "must be one of " in line

    def test_of_a_loop_of_links_and_of_what_is_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").symlink_to(tmp_path / "b.csv")
        (tmp_path / "b.csv").symlink_to(tmp_path / "a.csv")
        line = refusal(DataConfig(source=f"csv:{tmp_path}/a.csv"))
        assert "a table must be a file, however: Too many levels of symbolic links" in line
        line = refusal(DataConfig(source="csv:/dev/null"))
        assert "however: it is neither file nor folder" in line
        line = refusal(DataConfig(source=f"csv:{tmp_path}/{'x' * 300}"))
        assert "however: File name too long" in line

    def test_of_a_name_alone(self) -> None:
        assert "must be handed over anew" in refusal(DataConfig(source="frame:data"))

    @given(content=st.binary(max_size=200) | st.text(alphabet='ab1,;\n"\t .-', max_size=80))
    def test_of_anything_else_is_one_line(
        self, content: str | bytes, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        config = csv(tmp_path_factory.mktemp("any") / "t.csv", content)
        try:
            split(load_table(config), config, 0)
        except ConfigError:
            refusal(config)


class TestLongFiles:
    def test_of_long_lines_are_separated_as_their_whole_lines_are(self, tmp_path: Path) -> None:
        """The last line of the head that is looked at is cut off somewhere."""
        row = ";".join(["1.5"] * 5000)
        text = "\n".join([";".join(f"x{n}" for n in range(5000)), *[row] * 9])
        assert "by commas, however: by ';'" in refusal(csv(tmp_path / "t.csv", text))

    def test_are_read_in_one_piece(self, tmp_path: Path) -> None:
        """By chunks, a column would be numbers here and text there."""
        header = ",".join(["x", *(f"z{n}" for n in range(400)), "y"])  # wide: chunks are short
        rows = ["1.50" + ",1" * 400 + ",0"] * 3000 + ["a" + ",1" * 400 + ",1"] * 3000
        found = load_table(csv(tmp_path / "t.csv", "\n".join([header, *rows])))
        assert list(found.frame["x"].cat.categories) == ["1.50", "a"]


class TestEncodings:
    def test_a_byte_order_mark_is_read_with_a_note(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        found = load_table(csv(tmp_path / "t.csv", b"\xef\xbb\xbf" + lines().encode()))
        assert found.feature_names == ("x0", "x1")
        assert "byte order mark" in caplog.text

    def test_latin_1_is_read_with_a_note(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        text = lines().replace(",a", ",ärger").replace("x1", "größe")
        found = load_table(csv(tmp_path / "t.csv", text.encode("latin-1")))
        assert found.classes == ("b", "ärger")
        assert found.feature_names == ("x0", "größe")
        assert "was read as Latin-1" in caplog.text
        utf8 = load_table(csv(tmp_path / "t.csv", text))
        assert utf8.digest == found.digest

    def test_utf_8_needs_no_note(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            load_table(csv(tmp_path / "t.csv", lines().replace(",a", ",ärger")))
        assert not caplog.records

    def test_a_cut_in_the_middle_of_a_letter_is_none_in_the_file(self, tmp_path: Path) -> None:
        """The head of a file ends where it ends: in a letter of two bytes, or in a line."""
        for shift in range(2):
            rows = [f"{n},{'ä' * 50},{'ab'[n % 2]}" for n in range(1500)]
            text = "\n".join(["x" * (shift + 1) + ",name,target", *rows])
            assert load_table(csv(tmp_path / "t.csv", text)).n_rows == 1500


class TestFiles:
    @on_every_task
    @pytest.mark.parametrize("scheme", ["csv", "parquet"])
    def test_hold_the_same_table_as_the_frame(
        self, task: Task, scheme: str, tmp_path: Path
    ) -> None:
        path, source = tmp_path / f"t.{scheme}", frame(task)
        if scheme == "csv":
            source.to_csv(path, index=False)
        else:
            source.to_parquet(path)
        found, expected = load_table(DataConfig(source=f"{scheme}:{path}")), table(task)
        pd.testing.assert_frame_equal(found.frame, expected.frame, check_exact=True)
        assert np.array_equal(found.target, expected.target)
        assert found.digest == expected.digest
        assert (found.task, found.classes, found.feature_names) == (
            task,
            expected.classes,
            ("x0", "x1", "x2"),
        )

    @pytest.mark.parametrize("scheme", ["csv", "parquet"])
    def test_hold_numbers_text_booleans_dates_and_gaps(self, scheme: str, tmp_path: Path) -> None:
        path = tmp_path / f"t.{scheme}"
        source = frame().assign(target=["no", "yes"] * 48 + ["no"])
        source.insert(0, "whole", np.arange(N))
        source.insert(0, "flag", np.arange(N) % 2 == 0)
        source.insert(0, "colour", ["red", None, "blue"] * 32 + ["red"])
        source.insert(0, "gaps", np.where(np.arange(N) % 3 == 0, np.nan, np.arange(N)))
        source.insert(0, "day", pd.date_range("2020-01-01", periods=N))
        if scheme == "csv":
            source.to_csv(path, index=False)
        else:
            source.to_parquet(path, row_group_size=20)
        config = DataConfig(source=f"{scheme}:{path}", dates=("day",))
        found = load_table(config)
        assert [str(kind) for kind in found.kinds] == [
            *("date", "numeric", "categorical", "categorical", "numeric"),
            *("numeric",) * 3,
        ]
        assert found.digest == load_table(config, source).digest
        assert [column.missing for column in found.columns] == [0, 33, 32, *[0] * 6]

    def test_of_parquet_may_have_any_column_names(self, tmp_path: Path) -> None:
        """Arrow reads "a" as the beginning of "a.b", too."""
        source = frame()
        source.columns = ["a.b.c", "a.b", "a", "y"]
        source.to_parquet(tmp_path / "t.parquet")
        found = load_table(DataConfig(source=f"parquet:{tmp_path}/t.parquet"))
        pd.testing.assert_frame_equal(found.frame, source.drop(columns="y"), check_exact=True)

    def test_of_parquet_without_an_index_name_are_read_without_the_index(
        self, tmp_path: Path
    ) -> None:
        frame().iloc[::-1].to_parquet(tmp_path / "t.parquet")
        found = load_table(DataConfig(source=f"parquet:{tmp_path}/t.parquet"))
        assert found.feature_names == ("x0", "x1", "x2")


class TestNamedSets:
    @pytest.mark.parametrize(
        ("source", "task", "shape", "n_outputs"),
        [
            ("sklearn:breast_cancer", Task.BINARY, (569, 30), 1),
            ("sklearn:digits", Task.MULTICLASS, (1797, 64), 10),
            ("sklearn:iris", Task.MULTICLASS, (150, 4), 3),
            ("sklearn:wine", Task.MULTICLASS, (178, 13), 3),
            ("sklearn:diabetes", Task.REGRESSION, (442, 10), 1),
            ("synthetic:noisy_100", Task.BINARY, (600, 100), 1),
            ("synthetic:textbook_100", Task.BINARY, (1000, 100), 1),
            ("synthetic:blobs_10", Task.MULTICLASS, (2000, 30), 10),
            ("synthetic:friedman_100", Task.REGRESSION, (600, 100), 1),
        ],
    )
    def test_are_what_they_are_called_and_always_the_same(
        self, source: str, task: Task, shape: tuple[int, int], n_outputs: int
    ) -> None:
        config = DataConfig(source=source)
        found = load_table(config)
        assert (found.task, found.frame.shape, found.n_outputs) == (task, shape, n_outputs)
        assert (found.n_rows, found.n_features) == shape
        assert found.digest == load_table(config).digest
        splits = split(found, config, 0)
        varying = shape[1] - 5 * (source == "sklearn:digits")  # of its pixels, 5 are constant
        assert (splits.n_features, splits.n_outputs) == (varying, n_outputs)


class TestWhatWasOnceGuessed:
    def test_a_csv_without_a_header_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("1.5,2\n" * 30, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"its first line is numbers \('1.5', ...\)"):
            load_table(DataConfig(source=f"csv:{tmp_path}/t.csv"))

    def test_a_named_parquet_index_is_a_column(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"a": np.arange(31.0), "y": np.arange(31) % 2})
        frame.index = pd.Index(np.arange(31.0) ** 2, name="when")
        frame.to_parquet(tmp_path / "t.parquet")
        table = load_table(DataConfig(source=f"parquet:{tmp_path}/t.parquet"))
        assert table.feature_names == ("when", "a")

    def test_an_index_that_was_written_along_is_left_out(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        frame().to_csv(tmp_path / "t.csv")
        config = DataConfig(source=f"csv:{tmp_path}/t.csv")
        assert load_table(config).digest == table().digest
        assert "has no name and counts rows" in caplog.text
        frame().set_index(np.arange(N) * 2).to_csv(tmp_path / "t.csv")
        assert load_table(config).feature_names[0] == "Unnamed: 0"

    @pytest.mark.parametrize("column", ["a", "y"])
    def test_values_too_large_to_average_are_refused(self, tmp_path: Path, column: str) -> None:
        draw = np.random.default_rng(0)
        frame = pd.DataFrame(draw.normal(size=(31, 3)), columns=["a", "b", "y"])
        frame[column] *= 1e300
        frame.to_csv(tmp_path / "t.csv", index=False)
        config = DataConfig(source=f"csv:{tmp_path}/t.csv")
        with pytest.raises(ConfigError, match=rf"must be finite.*however: .*column '{column}'"):
            split(load_table(config), config, 0)

    def test_a_target_that_is_constant_where_it_is_trained_on_is_refused(
        self, tmp_path: Path
    ) -> None:
        frame = pd.DataFrame({"a": np.arange(31.0), "y": 1.5})
        frame.loc[0, "y"] = 2.5
        frame.to_csv(tmp_path / "t.csv", index=False)
        config = DataConfig(source=f"csv:{tmp_path}/t.csv", task="regression")
        refused = 0
        for seed in range(20):
            try:
                split(load_table(config), config, seed)
            except ConfigError as error:
                refused += "deviation not 0" in str(error)
        assert 0 < refused < 20  # wherever the odd row is not among the training rows


class TestDataFrames:
    def test_stay_as_they_are(self) -> None:
        source = frame()
        source.columns = [0, 1, 2, "target"]
        source.index = pd.Index(np.arange(N) * 2)
        before = source.copy()
        found = load_table(configured(), source)
        pd.testing.assert_frame_equal(source, before)
        assert found.feature_names == ("0", "1", "2")

    def test_are_the_table_whatever_the_source_says(self) -> None:
        config = configured().handed_over()
        assert config.source == "frame:data"
        assert load_table(config, frame()).digest == table().digest
        assert "(frame:data)" in refusal(config, frame()[["x0"]])


class TestOpenML:
    """Nothing is fetched: what scikit-learn's fetcher gives, or how it fails, is made up."""

    def test_gives_the_default_target(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: dict[str, Any] = {}

        def fetch(**options: Any) -> Bunch:
            asked.update(options)
            first = frame()[["target", "x0", "x1", "x2"]]
            return Bunch(frame=first, target_names=["target"])

        monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
        found = load_table(DataConfig(source="openml:31"))
        assert asked["data_id"] == 31
        assert (found.target_name, found.digest) == ("target", table().digest)

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (URLError("Name or service not known"), "openml.org in reach, however: .*not known"),
            (TimeoutError("timed out"), "openml.org in reach, however: timed out"),
            (ValueError("Dataset 0\nnot found"), "must exist, however: Dataset 0 not found"),
        ],
    )
    def test_out_of_reach_is_one_line(
        self, error: Exception, expected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(**_: Any) -> None:
            raise error

        monkeypatch.setattr("sklearn.datasets.fetch_openml", fail)
        config = DataConfig(source="openml:31")
        with pytest.raises(ConfigError, match=expected):
            load_table(config)
        assert "(openml:31)" in refusal(config)
