"""Studies side by side: what differs, which is better, and when that cannot be told."""

from __future__ import annotations

import io
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from pipeline.cli import main
from pipeline.compare import Side, print_comparison
from pipeline.compare.answer import answer
from pipeline.compare.comparable import same_rows, warnings
from pipeline.compare.settings import differences
from pipeline.compare.sides import MOST
from pipeline.compare.tables import tables
from pipeline.confirm.guardrails import Verdict, guardrails
from pipeline.confirm.measures import mean_of
from pipeline.confirm.statistics import difference
from pipeline.figures import COLOURS
from pipeline.figures.matplotlib_renderer import image
from pipeline.figures.parts import Plot
from pipeline.figures.studies import studies_plot
from pipeline.records import Confirmation, StudyRecord
from pipeline.report.verdict import champion
from pipeline.results import Array, StopReason
from pipeline.space import Regularization
from pipeline.study import run_study
from tests.builders import tiny_config
from tests.commands import with_store
from tests.finalists import SHAPES, WHOLE, confirmation
from tests.test_report import STUDIES, study, toml, trial

NONE, L1, L2 = Regularization.NONE, Regularization.L1, Regularization.L2
SETTINGS = {
    "study.name": "study",
    "study.seed": "0",
    "study.training.class_weight": "none",
    "data.test_size": "0.2",
    "data.validation_size": "0.2",
}


def record(
    of: Confirmation | None = None,
    losses: Mapping[Regularization, float] | None = None,
    params: Mapping[str, str | None] | None = None,
    **changes: object,
) -> StudyRecord:
    """A study with a complete trial of each of these types; a param of None is absent."""
    found = losses or {NONE: 0.5, L2: 0.4}
    trials = [trial(n, kind=kind, val_loss=loss) for n, (kind, loss) in enumerate(found.items())]
    built = study(trials, toml())
    told = {**built.params, **SETTINGS, **(params or {})}
    told = {key: value for key, value in told.items() if value is not None}
    return replace(built, params=told, confirmation=of, **changes)


def sides(*records: StudyRecord) -> list[Side]:
    named = (replace(each, run_id=f"{n:032x}"[::-1]) for n, each in enumerate(records, start=1))
    return [Side(letter, each) for letter, each in zip("ABCDEFGH", named, strict=False)]


def shifted(of: Confirmation, by: float, metrics: Sequence[str] = ("val_loss", "test_loss")):
    """The same confirmation with other losses, a little less alike from replicate to replicate."""
    records = []
    for each in of.records:
        here = by * (1 + each.replicate % 3 / 10)
        records.append(
            replace(each, scalars=each.scalars | {m: each.scalars[m] + here for m in metrics})
        )
    return replace(of, records=tuple(records))


def with_noise(noise: Array) -> Confirmation:
    """The finalists with other test losses, by replicate."""
    records = [
        replace(
            r, scalars=r.scalars | {"test_loss": r.scalars["test_loss"] + noise[r.replicate - 1]}
        )
        for r in WHOLE.records
    ]
    return replace(WHOLE, records=tuple(records))


def printed(compared: Sequence[Side], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    print_comparison(compared)
    return capsys.readouterr().out


# --- what differs, and what may be held against what ------------------------------------------


def test_settings_that_differ_are_listed_by_the_study_files_keys() -> None:
    first = record(params={"study.seed": "1", "study.model.hidden": "[8]", "n_trials": "3"})
    other = record(params={"study.seed": "2", "data.digest": "f", "study.name": "other"})
    assert differences(sides(first, other)) == {
        "data.digest": ["0123456789abcdef", "f"],
        "model.hidden": ["[8]", None],
        "seed": ["1", "2"],
    }


def test_equal_settings_are_said_to_be_equal(capsys: pytest.CaptureFixture[str]) -> None:
    alike = "Their settings and their data are the same."
    assert alike in printed(sides(record(), record()), capsys)
    assert alike not in printed(sides(record(), record(params={"study.seed": "1"})), capsys)


@pytest.mark.parametrize(
    ("params", "words", "told"),
    [
        ({"data.digest": "f"}, "The data differ .*A 0123456789abcdef, B f", False),
        ({"data.digest": None}, "The data differ .*B unknown", False),
        ({"data.task": "regression"}, "A multiclass none, B regression none", False),
        ({"study.training.class_weight": "balanced"}, "B multiclass balanced", False),
        ({"study.seed": "1"}, r"The splits differ \(seed\)", True),
        ({"data.test_size": "0.1"}, r"The splits differ \(data.test_size\)", True),
    ],
)
def test_a_difference_that_spoils_a_comparison_is_warned_of(
    params: dict[str, str | None], words: str, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = sides(record(WHOLE), record(shifted(WHOLE, 0.1), params=params))
    (warning,) = warnings(compared)
    assert re.search(words, warning)
    text = printed(compared, capsys)
    assert f"warning: {warning}\n" in text
    assert ("comes first" in text) == told
    assert ("cannot be told" in text) != told
    assert "in pairs on the same" not in text  # another seed's replicates are other rows


def test_two_studies_without_a_digest_are_not_taken_to_be_of_the_same_data() -> None:
    unknown = record(params={"data.digest": None})
    assert "unknown" in warnings(sides(unknown, unknown))[0]


def test_what_does_not_change_what_is_measured_is_not_warned_of() -> None:
    other = {"study.model.hidden": "[8]", "study.training.class_weight": None, "n_trials": "9"}
    assert warnings(sides(record(), record(params=other))) == []


def test_splits_by_time_do_not_depend_on_the_seed() -> None:
    by_time = {"data.time": "when"}
    assert same_rows(sides(record(params=by_time), record(params={**by_time, "study.seed": "1"})))
    assert not same_rows(sides(record(), record(params={"study.seed": "1"})))


@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_a_study_that_is_not_complete_is_warned_of(state: str) -> None:
    (warning,) = warnings(sides(record(), record(state=state)))
    assert warning.startswith(f"B is {state}")


# --- the answer ------------------------------------------------------------------------------


def test_validation_says_which_is_better_and_test_by_how_much_in_pairs() -> None:
    worse = shifted(WHOLE, 0.1)
    first, told, *_ = answer(sides(record(worse), record(WHOLE)))
    assert first.startswith("B comes first by validation")
    finalist = champion(record(WHOLE))
    assert finalist is not None
    loss = difference(
        worse.values(finalist.name, "test_loss"), WHOLE.values(finalist.name, "test_loss"),
        WHOLE.rows,
    )  # fmt: skip
    assert told.startswith(f"A's champion has a test loss higher than B's by {loss.mean:.3f} ")
    assert told.endswith("in pairs on the same 20 replicates: more than chance.")


def test_test_losses_choose_nothing() -> None:
    """The study with the lower validation loss comes first though its test loss is higher."""
    first, told, *_ = answer(
        sides(record(shifted(WHOLE, 0.1, ["val_loss"])), record(shifted(WHOLE, 0.2, ["test_loss"])))
    )
    assert first.startswith("B comes first")
    assert told.startswith("A's champion has a test loss lower than B's")


def test_a_difference_that_may_be_chance_is_called_so() -> None:
    noise = np.random.default_rng(1).normal(0, 0.05, 20)
    _, told, *_ = answer(sides(record(WHOLE), record(with_noise(noise))))
    assert told.endswith("this may be chance.")


def test_the_same_losses_are_called_the_same() -> None:
    _, told, *_ = answer(sides(record(WHOLE), record(WHOLE)))
    assert told == "B's champion has the same test loss as A's on every replicate."


def test_pairs_are_of_the_replicates_that_both_have() -> None:
    """Studies of 20 and of 5 replicates: the first five of one are those of the other."""
    few = replace(
        WHOLE,
        replicates=WHOLE.replicates[:5],
        records=tuple(each for each in WHOLE.records if each.replicate <= 5),
    )
    for compared in (sides(record(shifted(few, 0.1)), record(WHOLE)),
                     sides(record(WHOLE), record(shifted(few, 0.1)))):  # fmt: skip
        assert "in pairs on the same 5 replicates" in answer(compared)[1]


def test_pairs_are_by_the_replicates_numbers() -> None:
    """One study passed over the second replicate: what follows stays with its number."""
    lacking = replace(
        WHOLE,
        replicates=tuple(number for number in WHOLE.replicates if number != 2),
        records=tuple(each for each in WHOLE.records if each.replicate != 2),
    )
    told = answer(sides(record(WHOLE), record(lacking)))[1]
    assert re.search(r"has the same test loss as [AB]'s on every replicate\.$", told)


def test_p_values_are_corrected_for_how_many_studies_are_tested() -> None:
    """Holm's family is all studies but the first."""
    noise = np.random.default_rng(6).normal(0.012, 0.04, 20)
    other = record(with_noise(noise))
    (alone,) = re.findall(r"p ([\d.]+)\)", answer(sides(record(WHOLE), other))[1])
    told = answer(sides(record(WHOLE), other, other))[1]
    (of_two,) = re.findall(r"p ([\d.]+) after Holm's correction\)", told)
    assert float(of_two) == pytest.approx(2 * float(alone), rel=0.05)


def test_without_confirmation_in_all_the_search_is_told_and_called_unconfirmed() -> None:
    compared = sides(record(WHOLE, {L1: 0.5}), record(None, {L1: 0.3}))
    (told,) = answer(compared)
    assert told.startswith("B has the lowest validation loss of the search (B 0.3, A 0.5)")
    assert told.endswith("no fresh replicates have confirmed in B.")


def test_an_unfinished_confirmation_says_nothing_yet() -> None:
    half = replace(WHOLE, records=WHOLE.records[::2])
    compared = sides(record(WHOLE), record(half))
    assert "no fresh replicates have confirmed in B" in answer(compared)[0]
    assert len(answer(compared)) == 1
    for table in tables(compared)[1:]:
        assert {row[0] for row in table.rows} == {"A"}
    plot = studies_plot({"A": compared[0].record, "B": compared[1].record})
    assert all(name.endswith("A") for each in plot.panels[1].intervals for name in each.names)


def test_a_study_without_a_complete_trial_is_not_ranked() -> None:
    (told,) = answer(sides(record(), record(trials=(trial(0, StopReason.PRUNED),))))
    assert "not every study has a complete trial" in told


def test_guardrails_that_help_in_all_are_told_apart_from_those_that_differ() -> None:
    found = {each.name: each.verdict for each in guardrails(WHOLE)}
    assert found["early_stopping"] == Verdict.HELPS
    useless = [r if r.finalist != "early_stopping" else replace(r, scalars=r.scalars | {
        "test_loss": WHOLE.values("baseline", "test_loss")[r.replicate - 1]})
        for r in WHOLE.records]  # fmt: skip
    other = replace(WHOLE, records=tuple(useless))
    assert any("Early stopping" in s and s.endswith("help in A and B.")
               for s in answer(sides(record(WHOLE), record(WHOLE))))  # fmt: skip
    sentences = answer(sides(record(WHOLE), record(other)))
    assert not any("Early stopping" in each for each in sentences)
    assert any("differ on early stopping (A helps, B no evidence)" in each for each in sentences)


# --- the tables -------------------------------------------------------------------------------


def test_one_row_a_study_with_its_best_trial() -> None:
    pruned = trial(5, StopReason.PRUNED, kind=L1, val_loss=0.1)
    first = record(None, {NONE: 0.5, L2: 0.25})
    table = tables(sides(replace(first, trials=(*first.trials, pruned)), record(trials=())))[0]
    assert table.rows == [
        ("A", "study", "10000000", "l2", "3", "2", "0.25", "0.1"),
        ("B", "study", "20000000", "\N{EN DASH}", "0", "0", "\N{EN DASH}", "\N{EN DASH}"),
    ]


def test_winner_and_champion_stand_with_their_confirmed_losses() -> None:
    rows = tables(sides(record(WHOLE), record()))[1].rows
    winner, val_loss = WHOLE.finalist("winner"), mean_of(WHOLE, WHOLE.finalists[1], "val_loss")
    assert winner is WHOLE.finalists[1]
    half = (val_loss.high - val_loss.low) / 2
    ((letter, called, kind, shown, *_),) = rows
    assert (letter, called, kind) == ("A", "winner and champion", "l2")
    assert shown == f"{val_loss.mean:.3f} ± {half:.3f}"


def test_a_champion_that_is_not_the_winner_has_a_row_of_its_own() -> None:
    better = [replace(r, scalars=r.scalars | {"val_loss": 0.1}) if r.finalist == "best_l1" else r
              for r in WHOLE.records]  # fmt: skip
    rows = tables(sides(record(replace(WHOLE, records=tuple(better))), record()))[1].rows
    assert [row[1:3] for row in rows] == [("winner", "l2"), ("champion: best l1", "l1")]


def test_guardrails_verdicts_stand_side_by_side() -> None:
    table = tables(sides(record(WHOLE), record(), record(confirmation(5))))[-1]
    assert table.headings[1] == "early stopping"
    assert [row[0] for row in table.rows] == ["A", "C"]
    for row, of in zip(table.rows, (WHOLE, confirmation(5)), strict=True):
        for text, found in zip(row[1:], guardrails(of), strict=True):
            assert text.partition("\n")[0] == str(found.verdict)
            assert found.difference is not None
            assert float(text.partition("\n")[2]) == pytest.approx(found.difference.mean, rel=0.2)


def test_what_was_not_compared_is_a_dash() -> None:
    few = confirmation(5, ["baseline", "winner best_l2", "early_stopping"])
    (row,) = tables(sides(record(few), record()))[-1].rows
    assert row[3] == "\N{EN DASH}"  # L1


@pytest.mark.parametrize("number", [2, MOST])
def test_it_is_readable_in_80_columns(
    number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "a very long name of a study, [red] and all " * 4
    keys = {"study.space.learning_rate.high": "1e-3", "data.source": "\N{CURRENCY SIGN}" * 61}
    keyed = ({**keys, "study.seed": str(n)} for n in range(1, number))
    others = (record(WHOLE, name=name, params=each) for each in keyed)
    compared = sides(*others, record(WHOLE, params={"study.space.learning_rate.high": "0.25"}))
    shown = printed(compared, capsys)
    assert "…" not in shown
    # Broken, not cut: the whole of a name is there, and the whole of a value.
    assert shown.count("[red]") == 4 * (number - 1)
    assert shown.count("\N{CURRENCY SIGN}") == 61 * (number - 1)
    for word in ("seed", "space.learning_rate.high", "early stopping", "weight decay", "0.25"):
        assert word in shown
    assert all(len(line) <= 80 for line in shown.split("comes first")[0].splitlines()[:-1])


@pytest.mark.parametrize("shape", SHAPES)
def test_confirmations_of_any_shape_can_be_compared(
    shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = sides(record(WHOLE), record(SHAPES[shape]))
    assert printed(compared, capsys)
    assert drawn(studies_plot({"B": compared[1].record}))


@pytest.mark.parametrize("name", STUDIES)
def test_studies_of_any_shape_can_be_compared(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = sides(STUDIES[name], record())
    assert printed(compared, capsys)
    assert drawn(studies_plot({"A": compared[0].record}))


# --- the figure -------------------------------------------------------------------------------


def drawn(plot: Plot) -> tuple[int, int]:
    picture = Image.open(io.BytesIO(image(plot)))
    picture.load()
    return picture.size


def test_what_is_compared_stands_together_and_where_the_records_say() -> None:
    plot = studies_plot(
        {"A: x": record(WHOLE, {NONE: 0.5, L2: 0.4}), "B: y": record(None, {L2: 0.3})}
    )
    searched, again = plot.panels
    ticks = searched.y.ticks
    at = {(ticks[int(y)], float(x)) for each in searched.points
          for x, y in zip(each.x, each.y, strict=True)}  # fmt: skip
    assert at == {("none  A", 0.5), ("l2  A", 0.4), ("B", 0.3)}
    assert ticks.index("B") == ticks.index("l2  A") + 1
    assert "baseline  A" in ticks
    for each in again.intervals:
        for name, *numbers, place in zip(
            each.names, each.x, each.low, each.high, each.y, strict=True
        ):
            role, _, letter = name.rpartition(", ")
            finalist = WHOLE.finalist(role.replace(" ", "_"))
            assert finalist is not None
            found = mean_of(WHOLE, finalist, "test_loss")
            assert numbers == pytest.approx([found.mean, found.low, found.high])
            assert letter == "A"
            assert ticks[int(place)] == f"{role.removeprefix('best ')}  A"
            assert COLOURS[each.kind] == COLOURS[finalist.hyperparameters.regularization]
    assert {name for each in again.intervals for name in each.names} == {
        f"{role.replace('_', ' ')}, A"
        for role in ("baseline", "early_stopping", *(f"best_{kind}" for kind in Regularization))
    }


def test_without_a_confirmation_the_figure_is_of_the_search() -> None:
    plot = studies_plot({"A": record(), "B": record()})
    assert [panel.title for panel in plot.panels] == ["best of the search"]
    assert drawn(plot)


def test_a_few_wild_losses_are_left_off_the_axis_and_counted() -> None:
    """Negative ends keep the axis linear."""
    wild = {"test_loss": 500.0}
    records = [replace(r, scalars=r.scalars | wild) if (r.finalist, r.replicate) == ("baseline", 1)
               else r for r in WHOLE.records]  # fmt: skip
    others = {f"{letter}: x": record(WHOLE) for letter in "BCD"}
    plot = studies_plot({"A: x": record(replace(WHOLE, records=tuple(records))), **others})
    assert plot.panels[1].x.limits == pytest.approx((0.1, 0.8), abs=0.1)
    assert plot.note == "Test loss: 1 lies beyond the range shown."


def test_names_are_no_formulas_and_units_are_told() -> None:
    plot = studies_plot(
        {"A: $\\q$": record(), "B": record(params={"data.task": "regression"})}, "Mind."
    )
    assert drawn(plot)
    assert "units differ" in plot.panels[0].x.label
    assert plot.note == "Mind."


# --- the command ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def run_ids(store: Path) -> dict[str, str]:
    """Studies with another network, and with other data; and a trial of one of them."""
    base: dict[str, object] = {
        "data.source": "synthetic:blobs_10",
        "search.pruner": "none",
        "search.n_trials": 3,
        "training.max_epochs": 2,
    }
    changes: dict[str, dict[str, object]] = {
        "first": {"confirm.replicates": 2},
        "wider": {"confirm.replicates": 3, "model.hidden": [17]},
        "other data": {"data.source": "sklearn:iris", "seed": 4},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
        mlflow.set_tracking_uri(None)
        found = {
            name: run_study(tiny_config({**base, **changed})) for name, changed in changes.items()
        }
    child = found["first"].record.trials[0].run_id
    return {name: each.parent_run_id for name, each in found.items()} | {"trial": child}


@pytest.fixture
def compare(
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    """The command, given in a folder of its own: its code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    mlflow.set_tracking_uri(None)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            code = main(["compare", *arguments])
        except SystemExit as stopped:  # argparse's way
            code = int(stopped.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return code, *capfd.readouterr()

    return call


def test_studies_of_a_store_are_compared(compare, run_ids, tmp_path) -> None:
    first, wider = run_ids["first"], run_ids["wider"]
    code, shown, errors = compare(first, wider)
    assert (code, errors) == (0, "")
    assert re.search(r"model.hidden +\[11, 13\] +\[17\]", shown)
    assert re.search(r"confirm.replicates +2 +3", shown)
    assert "in pairs on the same 2 replicates" in shown or "on every replicate" in shown
    assert "warning" not in shown
    file = tmp_path / f"compare-{first[:8]}-{wider[:8]}.png"
    assert list(tmp_path.iterdir()) == [file]
    assert shown.endswith(f"figure: {file}\n")
    with Image.open(file) as picture:
        assert picture.size[0] >= 640


def test_studies_of_other_data_are_compared_with_a_warning(compare, run_ids) -> None:
    code, shown, _ = compare(",".join([run_ids["first"], run_ids["other data"]]))
    assert code == 0
    assert "warning: The data differ" in shown
    assert re.search("^seed +3 +4 *$", shown, flags=re.MULTILINE)
    digests = {MlflowClient().get_run(run_ids[name]).data.params["data.digest"]
               for name in ("first", "other data")}  # fmt: skip
    assert all(digest in shown for digest in digests)


def test_the_figure_goes_where_it_is_told_to_and_replaces_itself(
    compare, run_ids, tmp_path
) -> None:
    named = [run_ids["first"], run_ids["other data"], "--figure", "x.PNG"]
    for _ in range(2):
        code, shown, _ = compare(*named)
        assert code == 0
        assert f"figure: {tmp_path / 'x.PNG'}\n" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["x.PNG"]


WRONG = {
    "one run": (["first"], "2 to 8 runs, however: 1"),
    "too many": ([*"abcdefghi"], "2 to 8 runs, however: 9"),
    "none": ([","], "2 to 8 runs, however: 0"),
    "the same twice": (["first", "wider", "first"], "is named twice"),
    "a trial": (["first", "trial"], "must be a study's parent run"),
    "not in the store": (["first", "0" * 32], "must exist in the tracking store"),
    "a figure that is no PNG": (["first", "wider", "--figure=study.toml"], "must be a PNG file"),
    "a figure in no folder": (["first", "wider", "--figure=no/x.png"], "folder must exist"),
    "a folder that cannot be": (["first", "wider", f"--figure={'x' * 300}/x.png"], "must exist"),
    "a figure that cannot be": (["first", "wider", f"--figure={'x' * 300}.png"], "too long"),
    "a folder as a figure": (["first", "wider", "--figure=folder.png"], "Is a directory"),
    "nothing": ([], "RUN_ID"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_exit_code_2_and_nothing_written(
    case, compare, run_ids, tmp_path
) -> None:
    arguments, place = WRONG[case]
    (tmp_path / "study.toml").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    code, shown, errors = compare(*(run_ids.get(each, each) for each in arguments))
    assert (code, shown) == (2, "")
    assert len(errors.splitlines()) == 1
    assert place in errors
    assert (tmp_path / "study.toml").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"study.toml", "folder.png"}
