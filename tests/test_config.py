"""A study file is read as it says, or refused in one line that names rule, value, file and key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config import (
    ConfigError,
    StudyConfig,
    load_config,
    parse_assignment,
    parse_config,
    parse_logged_config,
)
from pipeline.space import Range, Regularization, SearchSpace

LEAST = 'name = "least"\n[data]\nsource = "sklearn:iris"\n'


def parse(text: str, overrides: dict[str, Any] | None = None) -> StudyConfig:
    return parse_config(text, "study.toml", Path("/folder"), overrides)


def refusal(text: str, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, overrides)
    return str(caught.value)


class TestDefaults:
    def test_are_the_documented_ones(self) -> None:
        assert parse(LEAST).model_dump(by_alias=True) == {
            "name": "least",
            "seed": 0,
            "data": {
                "source": "sklearn:iris",
                "target": "",
                "task": "auto",
                "drop_missing_target": False,
                "drop": (),
                "numeric": (),
                "categorical": (),
                "dates": (),
                "scaling": "standard",
                "max_levels": 50,
                "group": "",
                "time": "",
                "test_size": 0.2,
                "validation_size": 0.2,
                "score": "auto",
            },
            "model": {
                "hidden": (64, 64),
                "activation": "relu",
                "penalized_layers": "all",
                "dropout_layers": "all",
                "l1": "proximal",
            },
            "training": {
                "max_epochs": 100,
                "batch_size": 32,
                "learning_rate": 1e-3,
                "min_delta": 0.0,
                "class_weight": "none",
                "device": "auto",
            },
            "search": {
                "n_trials": 100,
                "population": 16,
                "objective": "val_loss",
                "max_failures": 10,
                **{
                    key: value
                    for key, value in parse(LEAST).search.model_dump().items()
                    if key.startswith("pruner")
                },
            },
            "confirm": {"replicates": 20, "rule": "lowest", "champion": "average"},
            "tracking": {"give_up_after": 300},
            "space": {
                "regularization": tuple(Regularization),
                "lambda": {"low": 1e-6, "high": 1e-1, "log": True},
                "l1_ratio": {"low": 0.05, "high": 0.95, "log": False},
                "dropout": {"low": 0.0, "high": 0.7, "log": False},
                "patience": {"low": 3, "high": 30, "log": False},
                "learning_rate": None,
            },
        }

    def test_fill_what_a_partial_range_leaves_out(self) -> None:
        space = parse(LEAST + "[space]\nlambda = { high = 1.0 }\npatience = { low = 5 }").space
        assert space.lambda_ == Range[float](low=1e-6, high=1.0, log=True)
        assert space.patience == Range[int](low=5, high=30)

    def test_a_config_never_changes(self) -> None:
        config = parse(LEAST)
        with pytest.raises(ValidationError, match="frozen"):
            config.seed = 1  # type: ignore[misc]


class TestSingleValues:
    @pytest.mark.parametrize(
        ("line", "key", "value"),
        [
            ("lambda = 0.01", "lambda_", 0.01),
            ("lambda = 0", "lambda_", 0.0),
            ("l1_ratio = 0.5", "l1_ratio", 0.5),
            ("dropout = 0.5", "dropout", 0.5),
            ("patience = 7", "patience", 7),
            ("learning_rate = 1e-2", "learning_rate", 0.01),
        ],
    )
    def test_fix_a_hyperparameter(self, line: str, key: str, value: float) -> None:
        interval = getattr(parse(f"{LEAST}[space]\n{line}").space, key)
        assert interval.fixed
        assert interval.low == interval.high == value

    def test_fix_the_regularization_type(self) -> None:
        space = parse(f'{LEAST}[space]\nregularization = "l2"').space
        assert space.regularization == (Regularization.L2,)

    def test_switch_patience_off(self) -> None:
        assert parse(f'{LEAST}[space]\npatience = "off"').space.patience == "off"


# What is wrong, the value that was received, the key that holds it.
WRONG = [
    ("[modell]", "'modell'", "modell"),
    ("extra = 1", "'extra'", "data.extra"),
    ("[model]\nhidden = [0]", "0", "model.hidden"),
    ("[model]\nhidden = [-3]", "-3", "model.hidden"),
    ("[model]\nhidden = [64.5]", "64.5", "model.hidden"),
    ("[model]\nhidden = 64", "64", "model.hidden"),
    ("[model]\nhidden = ['64']", "'64'", "model.hidden"),
    ("[model]\nactivation = 'gelu'", "'gelu'", "model.activation"),
    ("[model]\npenalized_layers = [3]", "[3]", "model"),
    ("[model]\npenalized_layers = [-1]", "[-1]", "model"),
    ("[model]\npenalized_layers = 'some'", "'some'", "model.penalized_layers"),
    ("[model]\nl1 = 'lasso'", "'lasso'", "model.l1"),
    ("[model]\ndropout_layers = [2]", "[2]", "model"),
    ("[model]\ndropout_layers = [0, 0]", "[0, 0]", "model"),
    ("[training]\nmax_epochs = 0", "0", "training.max_epochs"),
    ("[training]\nmax_epochs = '5'", "'5'", "training.max_epochs"),
    ("[training]\nmax_epochs = 5.0", "5.0", "training.max_epochs"),
    ("[training]\nbatch_size = true", "True", "training.batch_size"),
    ("[training]\nbatch_size = 0", "0", "training.batch_size"),
    ("[training]\nlearning_rate = 0", "0", "training.learning_rate"),
    ("[training]\nlearning_rate = '1e-4'", "'1e-4'", "training.learning_rate"),
    ("[training]\nlearning_rate = inf", "inf", "training.learning_rate"),
    ("[training]\nmin_delta = -0.1", "-0.1", "training.min_delta"),
    ("[training]\nmin_delta = nan", "nan", "training.min_delta"),
    ("[search]\nn_trials = 0", "0", "search.n_trials"),
    ("[search]\nn_trials = -1", "-1", "search.n_trials"),
    ("[search]\npopulation = 0", "0", "search.population"),
    ("[search]\nmax_failures = -1", "-1", "search.max_failures"),
    ("[search]\npruner = 'x'", "'x'", "search.pruner"),
    ("[confirm]\nreplicates = 1", "1", "confirm.replicates"),
    ("[confirm]\nreplicates = -1", "-1", "confirm.replicates"),
    ("[confirm]\nreplicates = 1001", "1001", "confirm.replicates"),
    ("[confirm]\nrule = 'x'", "'x'", "confirm.rule"),
    ("[tracking]\ngive_up_after = 0", "0", "tracking.give_up_after"),
    ("[tracking]\ngive_up_after = -1.5", "-1.5", "tracking.give_up_after"),
    ("[tracking]\ngive_up_after = 86401", "86401", "tracking.give_up_after"),
    ("[tracking]\ngive_up_after = inf", "inf", "tracking.give_up_after"),
    ("[tracking]\ngive_up_after = 'x'", "'x'", "tracking.give_up_after"),
    ("[tracking]\ngive_up_after = true", "True", "tracking.give_up_after"),
    ("[confirm]\nchampion = 'x'", "'x'", "confirm.champion"),
    ("[search]\nobjective = 'x'", "'x'", "search.objective"),
    ("[space]\nlambda = -0.1", "-0.1", "space.lambda"),
    ("[space]\nlambda = inf", "inf", "space.lambda"),
    ("[space]\nlambda = 'x'", "'x'", "space.lambda"),
    ("[space]\nlambda = { low = -1.0 }", "-1.0", "space.lambda.low"),
    ("[space]\nlambda = { low = 1.0, high = 0.1 }", "(1.0, 0.1)", "space.lambda"),
    ("[space]\nlambda = { low = 0.0 }", "0.0", "space.lambda"),
    ("[space]\nlambda = { lo = 0.1 }", "'lo'", "space.lambda.lo"),
    ("[space]\nlambda_ = 0.1", "'lambda_'", "space.lambda_"),
    ("[space]\nl1_ratio = 1.5", "1.5", "space.l1_ratio"),
    ("[space]\ndropout = 1.0", "1.0", "space.dropout"),
    ("[space]\ndropout = 1", "1", "space.dropout"),
    ("[space]\ndropout = { high = 1.0 }", "1.0", "space.dropout.high"),
    ("[space]\ndropout = { low = 0.8 }", "(0.8, 0.7)", "space.dropout"),
    ("[space]\ndropout = { log = 1 }", "1", "space.dropout.log"),
    ("[space]\npatience = 0", "0", "space.patience"),
    ("[space]\npatience = { low = 0 }", "0", "space.patience.low"),
    ("[space]\npatience = 2.5", "2.5", "space.patience"),
    ("[space]\npatience = true", "True", "space.patience"),
    ("[space]\npatience = 'never'", "'never'", "space.patience"),
    ("[space]\nregularization = []", "[]", "space.regularization"),
    ("[space]\nregularization = ['l3']", "'l3'", "space.regularization"),
    ("[space]\nregularization = ['l1', 'l1']", "['l1', 'l1']", "space"),
    ("[space]\nlearning_rate = 0.0", "0.0", "space.learning_rate"),
    ("[space]\nlearning_rate = { high = 'x' }", "'x'", "space.learning_rate.high"),
]

WRONG_OVERRIDES = [
    ({"name": ""}, "''", "name"),
    ({"name": "two\nlines"}, "'two\\nlines'", "name"),
    ({"seed": -1}, "-1", "seed"),
    ({"seed": 2**63}, str(2**63), "seed"),
    ({"seed": 0.5}, "0.5", "seed"),
    ({"data": 3}, "3", "data"),
    ({"data.task": "ranking"}, "'ranking'", "data.task"),
    ({"data.source": "iris"}, "'iris'", "data.source"),
    ({"data.source": "csv:"}, "'csv:'", "data.source"),
    ({"data.source": "openml:iris"}, "'openml:iris'", "data.source"),
    ({"data.drop": "x"}, "'x'", "data.drop"),
    ({"data.max_levels": 0}, "0", "data.max_levels"),
    ({"data.scaling": "minmax"}, "'minmax'", "data.scaling"),
    ({"data.source": "http://example.org/t.csv"}, "'http://example.org/t.csv'", "data.source"),
    ({"data.test_size": 0.6, "data.validation_size": 0.4}, "1", "data"),
    ({"data.test_size": 0.0}, "0.0", "data.test_size"),
    ({"data.validation_size": 1.0}, "1.0", "data.validation_size"),
]


class TestRefusals:
    @pytest.mark.parametrize(("text", "received", "key"), WRONG)
    def test_name_rule_value_file_and_key_in_one_line(
        self, text: str, received: str, key: str
    ) -> None:
        line = refusal(LEAST + text)
        assert "\n" not in line
        assert f", however: {received} (study.toml, {key}" in line

    @pytest.mark.parametrize(("overrides", "received", "key"), WRONG_OVERRIDES)
    def test_of_an_override_read_the_same(
        self, overrides: dict[str, Any], received: str, key: str
    ) -> None:
        line = refusal(LEAST, overrides)
        assert "\n" not in line
        # Of cross-checks within a table the table is the place, of which only a part was given.
        place = "override of study.toml" if key in overrides else "study.toml"
        assert f", however: {received} ({place}, {key})" in line

    @pytest.mark.parametrize("key", ["name", "data"])
    def test_name_a_key_that_must_be_given(self, key: str) -> None:
        document = {"name": 'name = "x"\n', "data": "data.source = 'sklearn:iris'\n"}
        del document[key]
        line = refusal("".join(document.values()))
        assert line == f"{key} must be given, however: it is absent (study.toml, {key})"

    def test_name_the_layers_that_exist(self) -> None:
        line = refusal(LEAST + "[model]\nhidden = [3, 5]\npenalized_layers = [3]")
        assert "from 0 to 2" in line
        line = refusal(LEAST + "[model]\nhidden = [3, 5]\ndropout_layers = [2]")
        assert "from 0 to 1" in line

    @pytest.mark.parametrize("text", ["a = = b", "[data", 'name = "x', "x = 1\nx = 2"])
    def test_of_what_is_no_toml(self, text: str) -> None:
        line = refusal(text)
        assert line.startswith("the study must be TOML, however: ")
        assert line.endswith("(study.toml)")
        assert "\n" not in line

    def test_of_a_file_that_is_absent(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"readable file, however: .*absent\.toml\)$"):
            load_config(tmp_path / "absent.toml")

    def test_of_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="must be a readable file, however: Is a directory"):
            load_config(tmp_path)

    def test_of_a_file_that_is_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "study.toml"
        path.write_bytes(b"\xff\xfe\x00\x80")
        with pytest.raises(ConfigError, match=r"must be UTF-8 text, however: .*study\.toml\)$"):
            load_config(path)

    def test_of_an_empty_file(self, tmp_path: Path) -> None:
        path = tmp_path / "study.toml"
        path.touch()
        with pytest.raises(ConfigError, match=r"name must be given.*study\.toml, name\)$"):
            load_config(path)


class TestOverrides:
    def test_replace_values_of_the_file(self) -> None:
        config = parse(LEAST, {"seed": 7, "search.n_trials": 5, "model.hidden": [3]})
        assert (config.seed, config.search.n_trials, config.model.hidden) == (7, 5, (3,))

    def test_reach_into_ranges(self) -> None:
        space = parse(LEAST, {"space.dropout.high": 0.5}).space
        assert space.dropout == Range[float](low=0.0, high=0.5)
        space = parse(
            f"{LEAST}[space]\ndropout = {{ low = 0.1, high = 0.2 }}", {"space.dropout.high": 0.5}
        ).space
        assert space.dropout == Range[float](low=0.1, high=0.5)

    def test_replace_a_range_by_a_value_and_a_value_by_a_range(self) -> None:
        assert parse(LEAST, {"space.lambda": 0.5}).space.lambda_.fixed
        text = f"{LEAST}[space]\nlambda = 0.5"
        interval = parse(text, {"space.lambda": {"low": 0.1, "high": 0.2}}).space.lambda_
        assert (interval.low, interval.high) == (0.1, 0.2)

    def test_lead_through_tables_only(self) -> None:
        text = f"{LEAST}[space]\ndropout = 0.5"
        line = refusal(text, {"space.dropout.high": 0.7})
        assert line == (
            "an override's key must lead through tables, however: 'dropout' is a single value "
            "(--set space.dropout.high)"
        )

    @pytest.mark.parametrize("key", ["sed", "space.dropuot", "space.dropout.hihg", "model.x.y"])
    def test_of_unknown_keys_are_refused(self, key: str) -> None:
        line = refusal(LEAST, {key: 1})
        assert "a key must be one that the study file knows" in line
        assert "study.toml" in line

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("space.dropout.high=0.5", ("space.dropout.high", 0.5)),
            (" seed = 7 ", ("seed", 7)),
            ('space.patience="off"', ("space.patience", "off")),
            ("model.hidden=[3, 5]", ("model.hidden", [3, 5])),
            ("space.lambda={low=0.1, high=1.0}", ("space.lambda", {"low": 0.1, "high": 1.0})),
            ('name="a=b"', ("name", "a=b")),
        ],
    )
    def test_are_read_in_toml_syntax(self, text: str, expected: tuple[str, Any]) -> None:
        assert parse_assignment(text) == expected

    @pytest.mark.parametrize("text", ["seed", "=3", "", "seed=", "name=off", "a=1 2"])
    def test_that_are_none_are_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"an override.* however: .*\(--set") as caught:
            parse_assignment(text)
        assert "\n" not in str(caught.value)


class TestPaths:
    @pytest.mark.parametrize("scheme", ["csv", "parquet"])
    def test_are_relative_to_the_study_file(
        self, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "studies").mkdir()
        study = tmp_path / "studies" / "study.toml"
        study.write_text(f'name = "x"\n[data]\nsource = "{scheme}:tables/t"\n')
        monkeypatch.chdir(tmp_path)
        for path in (study, Path("studies/study.toml"), "studies/study.toml"):
            source = load_config(path).data.source
            assert source == f"{scheme}:{tmp_path / 'studies' / 'tables' / 't'}"

    def test_that_are_absolute_stay(self) -> None:
        assert parse(LEAST, {"data.source": "csv:/t.csv"}).data.source == "csv:/t.csv"

    def test_of_no_file_stay(self) -> None:
        assert parse(LEAST).data.source == "sklearn:iris"


class TestLayers:
    @pytest.mark.parametrize(
        ("lines", "penalized", "dropped"),
        [
            ("", (True, True, True), (True, True)),
            ("hidden = []", (True,), ()),
            ("penalized_layers = []\ndropout_layers = []", (False,) * 3, (False, False)),
            (
                "penalized_layers = [1]\ndropout_layers = [1]",
                (False, True, False),
                (False, True),
            ),
            ("penalized_layers = [2, 0]", (True, False, True), (True, True)),
        ],
    )
    def test_are_selected_by_number(
        self, lines: str, penalized: tuple[bool, ...], dropped: tuple[bool, ...]
    ) -> None:
        model = parse(f"{LEAST}[model]\n{lines}").model
        assert model.penalized == penalized
        assert model.dropped == dropped

    @pytest.mark.parametrize("lines", ["hidden = []", "dropout_layers = []"])
    def test_without_dropout_leave_no_rate_to_search(self, lines: str) -> None:
        config = parse(f"{LEAST}[model]\n{lines}")
        assert not config.has_dropout
        assert config.search_space.dropout.fixed
        assert config.search_space.dropout.low == 0
        assert config.search_space.model_copy(update={"dropout": None}) == config.space.model_copy(
            update={"dropout": None}
        )

    def test_with_dropout_leave_the_space_as_it_is(self) -> None:
        config = parse(LEAST)
        assert config.has_dropout
        assert config.search_space == config.space


def spans(low: float, high: float) -> st.SearchStrategy[Any]:
    number = st.floats(low, high, exclude_max=True)
    pair = st.tuples(number, number).map(lambda p: {"low": min(p), "high": max(p)})
    return st.one_of(number, pair)


documents = st.fixed_dictionaries(
    {
        "name": st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=20),
        "data": st.fixed_dictionaries(
            {"source": st.sampled_from(["sklearn:iris", "csv:/a b/ü.csv", 'csv:/"q"\\t.csv'])},
            optional={
                "drop": st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
                "scaling": st.sampled_from(["standard", "quantile", "none"]),
                "drop_missing_target": st.booleans(),
                "time": st.sampled_from(["", "when"]),
            },
        ),
    },
    optional={
        "seed": st.integers(0, 2**63 - 1),
        "model": st.fixed_dictionaries(
            {},
            optional={
                "hidden": st.lists(st.integers(1, 97), min_size=2, max_size=3),
                "activation": st.sampled_from(["relu", "tanh"]),
                "penalized_layers": st.sampled_from(["all", [], [1], [0, 2]]),
                "dropout_layers": st.sampled_from(["all", [], [1]]),
                "l1": st.sampled_from(["subgradient", "proximal"]),
            },
        ),
        "training": st.fixed_dictionaries(
            {},
            optional={
                "learning_rate": st.floats(1e-30, 1e30),
                "min_delta": st.floats(0, 1e30),
                "max_epochs": st.integers(1, 2**40),
            },
        ),
        "space": st.fixed_dictionaries(
            {},
            optional={
                "regularization": st.lists(
                    st.sampled_from([str(kind) for kind in Regularization]),
                    min_size=1,
                    unique=True,
                ),
                "lambda": spans(1e-9, 1e9),
                "dropout": spans(0, 1),
                "l1_ratio": spans(0, 1),
                "patience": st.one_of(st.just("off"), st.integers(1, 97)),
                "learning_rate": spans(1e-9, 1e9),
            },
        ),
    },
)


class TestToToml:
    @settings(max_examples=60)
    @given(document=documents)
    def test_is_read_back_as_an_equal_study(self, document: dict[str, Any]) -> None:
        config = StudyConfig.model_validate(document)
        text = config.to_toml()
        assert parse(text) == parse_logged_config(text, "study.toml") == config
        assert parse(text).to_toml() == text

    def test_spells_keys_as_the_study_file_does(self) -> None:
        document = tomllib.loads(parse(LEAST).to_toml())
        assert "lambda" in document["space"]
        assert "lambda_" not in document["space"]
        assert "learning_rate" not in document["space"]

    @pytest.mark.parametrize("logged", [LEAST, LEAST + "[model]\nhidden = [3]\n"])
    def test_of_a_study_older_than_a_key_means_what_was_done_then(self, logged: str) -> None:
        assert parse_logged_config(logged, "study.toml").model.l1 == "subgradient"
        assert parse(logged).model.l1 == "proximal"

    @pytest.mark.parametrize("logged", ["model = 3\n" + LEAST, "[model", LEAST + "[modell]"])
    def test_of_a_logged_study_that_is_wrong_is_refused(self, logged: str) -> None:
        with pytest.raises(ConfigError, match=r"however: .*study\.toml"):
            parse_logged_config(logged, "study.toml")

    def test_round_trips_through_a_file(self, tmp_path: Path) -> None:
        config = parse(LEAST, {"space.patience": "off", "data.source": "csv:/t.csv"})
        path = tmp_path / "study.toml"
        path.write_text(config.to_toml(), encoding="utf-8")
        assert load_config(path) == config
        assert isinstance(config.space, SearchSpace)
