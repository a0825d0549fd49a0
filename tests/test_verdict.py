"""What people read of a confirmation: the verdict, its doubts, its tables, the page, the words."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from markupsafe import escape

from pipeline.closing import print_result
from pipeline.confirm.comparison import pairs_frame, summary_frame
from pipeline.confirm.guardrails import guardrails
from pipeline.confirm.price import search_price
from pipeline.records import Confirmation, StudyRecord
from pipeline.report import doubts, render, short_table, summary_markdown, verdict
from pipeline.report.confirmation import HOW_TO_READ_DIFFERENCES, HOW_TO_READ_MEANS
from pipeline.report.finalists import differences_tables, finalists_table
from tests.commands import PROJECT
from tests.finalists import HOSTILE, SHAPES, SHORT, TWELVE, WHOLE, confirmation
from tests.test_report import Page, study, toml, trial

METRICS = ["val loss", "test loss", "test score", "gap", "overfit gap", "best epoch", "sparsity"]
UNCONFIRMED = "This is one split and one seed: it is not yet confirmed."


def confirmed(
    of: Confirmation | None = WHOLE, winner_loss: float = 0.2, **overrides: object
) -> StudyRecord:
    """A study of two trials, the winner one of them."""
    trials = [trial(0, val_loss=0.4), trial(41, val_loss=winner_loss)]
    return replace(study(trials, toml(**overrides)), confirmation=of)


def printed(record: StudyRecord, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    print_result(
        SimpleNamespace(
            record=record, champion=None, tracking_uri="sqlite:////nowhere/mlflow.db", view=False
        )
    )
    return capsys.readouterr().out


# --- the verdict ------------------------------------------------------------------------------


def test_switched_off_nothing_is_shown_of_it(capsys):
    record = confirmed(None)
    page = Page(render(record))
    assert verdict(record) == doubts(record) == []
    for text in (page.text, summary_markdown(record)):
        assert UNCONFIRMED in text
    for text in (page.text, summary_markdown(record), printed(record, capsys)):
        assert not re.search("fresh|finalist|onfirmation|hampion", text)
    assert not [attrs for _, attrs in page.tags if attrs.get("id") == "confirmation"]


def test_the_champion_and_each_guardrail_come_before_what_the_search_found(capsys):
    record = confirmed()
    said = verdict(record)
    assert said[0].startswith(
        "Of 12 finalists on 20 fresh replicates, the champion is the winner of the search "
        "(l2, lambda 2.3e-03, dropout 0.31, patience 12): it has the lowest mean validation loss, "
    )
    assert said[0].endswith("; its gap is 0.060 where the baseline's is 0.58.")
    assert said[1:] == [each.sentence for each in guardrails(WHOLE)]
    assert len(said) == 7
    search = "Trial 41 is best"
    html = render(record)
    places = [html.index(escape(sentence)) for sentence in (*said, search)]
    assert places == sorted(places)
    summary = summary_markdown(record)
    places = [summary.index(sentence) for sentence in (*said, search)]
    assert places == sorted(places)
    assert UNCONFIRMED not in html + summary
    closing = printed(record, capsys)
    assert all(f"\n{sentence}\n" in closing for sentence in said)


@pytest.mark.parametrize("shape", ["nothing trained yet", "one record", "unfinished"])
def test_an_unfinished_confirmation_says_so_and_settles_nothing(shape, capsys):
    record = confirmed(SHAPES[shape])
    ended = len(SHAPES[shape].records)
    sentence = f"The confirmation is not finished: {ended} of 240 trainings of the finalists"
    assert len(verdict(record)) == 1
    page = Page(render(record))
    for text in (page.text, summary_markdown(record)):
        assert sentence in text
        assert UNCONFIRMED in text
        assert not re.search("the champion is|No evidence|price of searching", text)
    assert sentence in printed(record, capsys)
    assert [attrs for _, attrs in page.tags if attrs.get("id") == "confirmation"]


def test_without_finalists_nothing_was_confirmed():
    record = confirmed(SHAPES["no finalists"])
    assert verdict(record) == ["There are no finalists, so nothing was confirmed."]
    assert UNCONFIRMED in summary_markdown(record)


def test_the_champion_is_chosen_by_the_studys_own_rule():
    close = confirmation(names=["baseline", "best_none", "best_elastic_net"])
    lowest = verdict(confirmed(close))[0]
    simplest = verdict(confirmed(close, **{"confirm.rule": "one_standard_error"}))[0]
    assert "it has the lowest mean validation loss, 0." in lowest
    assert "the simplest within one standard error of the lowest mean validation loss, with 0." in (
        simplest
    )
    assert "the champion is the best trial with elastic net (elastic_net, lambda" in lowest
    assert "the champion is the best trial without a penalty (none, dropout 0.42" in simplest
    assert verdict(replace(confirmed(close), study_toml="x = [")) == verdict(confirmed(close))


def test_there_may_be_no_champion_and_it_may_be_the_baseline():
    assert verdict(confirmed(SHAPES["all failed"]))[0] == (
        "No finalist ended every replicate, so there is no champion."
    )
    alone = verdict(confirmed(SHAPES["only the baseline"]))[0]
    assert alone.startswith("Of 1 finalist on 5 fresh replicates, the champion is the baseline ")
    assert alone.endswith("; no guardrail that was tried does better than none.")


# --- the doubts -------------------------------------------------------------------------------


WIDE = confirmation(20, ["baseline", "default_trial"], spread=0.6)
DOUBTS = {
    "nothing to doubt": (WHOLE, {}, []),
    "nothing trained yet": (SHAPES["nothing trained yet"], {"data.time": "day"}, []),
    "failures": (
        confirmation(11, failed={"winner": [2], "best_l1": [1, 2, 5]}),
        {},
        ["Replicates failed, of 11 each: winner 1, best l1 3."],
    ),
    "few": (confirmation(9), {}, ["rests on 9 replicates"]),
    "enough": (confirmation(10), {}, []),
    "wide": (WIDE, {}, ["too wide to tell: changes of test loss are known to 1.0 at best"]),
    "wide, but not finished": (replace(WIDE, records=WIDE.records[:-1]), {}, []),
    "by time": (WHOLE, {"data.time": "day"}, ["The rows are split by time (day)"]),
    "narrow, without an effect": (
        confirmation(20, ["baseline", "default_trial"], spread=0.02), {}, []
    ),
    "wide, but with an effect": (
        confirmation(20, ["baseline", "default_trial", "early_stopping"], spread=0.08), {}, []
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DOUBTS)
def test_what_weakens_the_verdict_is_said_with_it(case, capsys):
    of, params, expected = DOUBTS[case]
    record = confirmed(of)
    record = replace(record, params={**record.params, **params})
    found = doubts(record)
    assert len(found) == len(expected)
    html = render(record) if expected else ""
    for doubt, words in zip(found, expected, strict=True):
        assert words in doubt
        assert f"- **Warning**: {doubt}" in summary_markdown(record)
        assert f"warning: {doubt}\n" in printed(record, capsys)
        assert html.index(escape(doubt)) < html.index("Trial 41 is best")


def test_a_winner_that_was_not_worth_the_search_is_a_doubt():
    names = ["baseline", "first_trial", "default_trial"]
    worse = confirmation(names=names)
    first, default = worse.finalists[1:]
    late = replace(default, name="winner", roles=("winner",), trial=41)
    records = [
        replace(each, finalist="winner") if each.finalist == "default_trial" else each
        for each in worse.records
    ]
    record = confirmed(
        replace(worse, finalists=(worse.finalists[0], first, late), records=tuple(records))
    )
    price = search_price(record)
    assert price is not None
    assert price.overtuned
    (doubt,) = doubts(record)
    assert doubt.startswith("The search has overtuned: on test rows its winner, trial 41, is no")
    assert not any("overtuned" in doubt for doubt in doubts(confirmed()))


def test_replicates_split_by_time_are_not_called_new_splits():
    record = confirmed(SHORT)
    fresh = Page(render(record)).text
    by_time = Page(render(replace(record, params={**record.params, "data.time": "day"}))).text
    told = "Each is a split (720 training and 240 validation rows), an initialization, "
    assert told in fresh
    assert "no finalist is judged by what it was chosen by" in fresh
    assert (
        "on the same 720 training and 240 validation rows, as these are split by time." in by_time
    )
    assert "no finalist is judged by what it was chosen by" not in by_time


# --- the tables -------------------------------------------------------------------------------


def says(text: str, value: float) -> bool:
    """Whether a number is the value, rounded to the digits that it is given with."""
    _, _, decimals = text.partition(".")
    return abs(float(text) - value) <= 0.500001 * 10.0 ** -len(decimals)


def test_the_table_of_means_is_that_of_the_comparison():
    table = finalists_table(confirmed(), WHOLE)
    assert table["columns"] == [*METRICS[:4], "gap removed", *METRICS[4:]]
    frame = summary_frame(WHOLE)
    for row, values in zip(table["rows"], frame.to_dict("records"), strict=True):
        assert row["name"] == values["finalist"].replace("_", " ")
        cells = dict(zip(table["columns"], row["cells"], strict=True))
        for metric in METRICS:
            key = metric.replace(" ", "_")
            mean, low, high = (values[f"{key}_{what}"] for what in ("mean", "low", "high"))
            said = [cells[metric].text, *cells[metric].below[0].split(" to ")]
            assert all(map(says, said, (mean, low, high)))
        assert says(cells["gap removed"].text.removesuffix(" %"), 100 * values["gap_removed"])


def test_a_row_says_who_the_finalist_is():
    of = confirmation(11, failed={"winner": [2, 3]})
    rows = {row["name"]: row for row in finalists_table(confirmed(of), of)["rows"]}
    assert list(rows) == [roles.split()[0].replace("_", " ") for roles in TWELVE]
    winner = rows["winner"]
    assert (winner["roles"], winner["trial"]) == (["best l2"], 41)
    assert winner["what"] == "l2, lambda 2.3e-03, dropout 0.31, patience 12"
    assert winner["ended"] == "9 of 11 replicates ended"
    assert rows["baseline"]["ended"] == ""
    # Whatever its mean, who failed is no champion.
    assert [name for name, row in rows.items() if row["champion"]] == ["best elastic net"]
    text = Page(render(confirmed(of))).text
    for words in ("also best l2", "trial 41: l2, lambda 2.3e-03", "9 of 11 replicates ended"):
        assert words in text


@pytest.mark.parametrize("shape", ["no overfitting", "hardly any overfitting"])
def test_of_a_gap_that_may_be_none_no_share_is_told(shape):
    table = finalists_table(confirmed(SHAPES[shape]), SHAPES[shape])
    cells = {row["cells"][table["columns"].index("gap removed")].text for row in table["rows"]}
    assert cells == {line["gap removed"] for line in short_table(SHAPES[shape])} == {"\N{EN DASH}"}


def test_the_tables_of_differences_are_those_of_the_comparison():
    frame = pairs_frame(WHOLE)
    tables = differences_tables(WHOLE)
    assert [table["against"] for table in tables] == ["baseline", "winner"]
    sure = 0
    for table in tables:
        assert table["columns"] == METRICS
        assert len(table["rows"]) == 11
        for row in table["rows"]:
            for metric, cell in zip(METRICS, row["cells"], strict=True):
                (values,) = frame[
                    (frame["against"] == table["against"])
                    & (frame["finalist"] == row["name"].replace(" ", "_"))
                    & (frame["metric"] == metric.replace(" ", "_"))
                ].to_dict("records")
                mean = values["difference"]
                assert says(cell.text, mean)
                assert cell.text.startswith("+") == (mean > 0)
                assert cell.sure == (values["p_holm"] < 0.05)
                interval, chance = cell.below
                low, high = interval.split(" to ")
                assert says(low, values["low"])
                assert says(high, values["high"])
                p_value = 0.001 if chance == "p < 0.001" else float(chance.removeprefix("p "))
                assert values["p_holm"] == pytest.approx(p_value, rel=0.05, abs=0.001)
                sure += cell.sure
    assert 0 < sure < 2 * 11 * 7


@pytest.mark.parametrize(
    ("halves", "expected"),
    [
        ([0.012, 0.034, 0.056], "0.250"),
        ([0.012, 0.00011, 0.056], "0.250"),  # one that is narrow by chance adds no digits
        ([1.2, 3.4, 2.2], "0.2"),
        ([0.0, 0.0, 0.0], "0.2500"),  # no spread: four digits of the mean
        ([1e-7, 2e-7, 3e-7], "0.2500"),
    ],
)
def test_a_column_has_as_many_digits_as_its_intervals_deserve(halves, expected):
    def values(half: float) -> list[float]:
        # Three replicates with this half width, corrected for their overlap: t is 4.3027.
        side = half / (4.302653 * np.sqrt(1 / 3 + 240 / 720))
        return [0.25 - side, 0.25, 0.25 + side]

    three = confirmation(3, ["baseline", "winner best_l2", "early_stopping"])
    spread = [value for half in halves for value in values(half)]
    records = [
        replace(each, scalars=each.scalars | {"val_loss": value})
        for each, value in zip(three.records, spread, strict=True)
    ]
    found = short_table(replace(three, records=tuple(records)))
    assert {line["val loss"].split(" ± ")[0] for line in found} == {expected}


def test_the_closing_table_is_readable_in_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(confirmed(), capsys).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("finalists, on 20 fresh"))
    table = lines[at : at + 14]
    assert all(len(line.rstrip()) <= 80 for line in table)
    assert not any("…" in line for line in table)
    assert table[1].split() == ["finalist", "val", "loss", "test", "loss", "gap", "gap", "removed"]
    assert re.fullmatch(r"baseline +0\.\d+ ± 0\.\d+ +0\.\d+ ± 0\.\d+ +0\.\d+ +0 % *", table[2])
    assert table[-1].startswith("default trial ")
    # The answer is the last thing before the links.
    assert lines.index("") < at < len(lines)


def test_where_names_are_long_the_closing_table_breaks_them_not_the_numbers(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    long = tuple(replace(each, name="w" * 90) for each in SHORT.finalists[:1])
    records = tuple(replace(each, finalist="w" * 90) for each in SHORT.records[:5])
    text = printed(confirmed(replace(SHORT, finalists=long, records=records)), capsys)
    assert "…" not in text
    assert len(re.findall(r"0\.\d+ ± 0\.\d+", text)) == 2


# --- the page and the summary -----------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_confirmation_of_any_shape_can_be_read_everywhere(shape, capsys):
    record = confirmed(SHAPES[shape])
    page = Page(render(record))
    assert page.open == []
    assert sum(tag == "script" for tag, _ in page.tags) == 4
    summary = summary_markdown(record)
    tables: list[list[str]] = [[]]
    for line in summary.splitlines():
        tables[-1].append(line) if line.startswith("|") else tables.append([])
    for table in filter(None, tables):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
        assert len(cells) == 1
    for text in (page.text, summary, printed(record, capsys)):
        assert not re.search(r"\bnan\b|\binf\b|<NA>|\bNone\b", text)
        assert not re.search(r"\d{20}", text)


def test_text_from_a_confirmation_stays_text(capsys):
    record = confirmed(SHAPES["names of any kind"])
    html = render(record)
    assert "<script>alert" not in html
    assert HOSTILE in Page(html).text
    summary = summary_markdown(record)
    assert "<script>" not in summary
    assert r"\`a\|b\`" in summary
    assert "[red]" in printed(record, capsys)


def test_the_section_shows_tables_figure_price_and_how_to_read_them():
    record = confirmed(WHOLE)
    page = Page(render(record))
    assert HOW_TO_READ_MEANS in page.text
    assert HOW_TO_READ_DIFFERENCES in page.text
    price = search_price(record)
    assert price is not None
    assert " ".join(price.sentences) in page.text
    tables = [attrs for tag, attrs in page.tags if tag == "table"]
    assert [attrs.get("id") or attrs.get("data-against") for attrs in tables] == [
        "finalists", "baseline", "winner", "types", "trials",
    ]  # fmt: skip
    plots = [attrs["id"] for _, attrs in page.tags if attrs.get("class") == "plot"]
    assert plots[0] == "plot-finalists"
    assert plots.count("plot-finalists") == 1
    marks = [attrs for tag, attrs in page.tags if attrs.get("class") == "mark"]
    assert len(marks) == 1


def test_a_report_imports_no_scipy_and_a_studys_pictures_no_pandas():
    program = (
        "import sys; import pipeline.report; from pipeline import closing;"
        "print('scipy' in sys.modules)"
    )
    pictures = (
        "import sys; from tests.finalists import SHORT; from pipeline.records import StudyRecord;"
        "from pipeline.figures.finalists import finalists_plots;"
        "from pipeline.figures.matplotlib_renderer import study_figures;"
        "record = StudyRecord('s', 'r', '1', 'complete', {}, (), '', SHORT);"
        "print(*study_figures(finalists_plots(record)), {'pandas', 'optuna'} & {*sys.modules})"
    )
    for code, expected in ((program, "False"), (pictures, "finalists.png set()")):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
        )
        assert done.stdout.strip() == expected


def test_no_column_of_the_closing_table_is_ever_cut(capsys):
    wild = [
        replace(
            record,
            scalars=record.scalars
            | {"val_loss": 3e38 * record.replicate, "test_loss": -2e37, "gap": -5e30},
        )
        if record.finalist == "winner"
        else record
        for record in WHOLE.records
    ]
    text = printed(confirmed(replace(WHOLE, records=tuple(wild))), capsys)
    table = text.split("finalists, on ")[1].split("\n\n")[0]
    assert "\N{HORIZONTAL ELLIPSIS}" not in table
    assert all(len(line) <= 80 for line in table.splitlines()[1:])
    for name in ("baseline", "winner", "early", "stopping"):
        assert name in table


def test_doubts_of_a_baseline_without_loss_give_no_share():
    bare = [
        replace(
            record,
            scalars=record.scalars
            | {"test_loss": 0.0 if record.finalist == "baseline" else record.replicate - 3.0},
        )
        for record in SHORT.records
    ]
    (doubt,) = (
        d for d in doubts(confirmed(replace(SHORT, records=tuple(bare)))) if "too wide" in d
    )
    assert "at best. That" in doubt
