"""The descriptions of a run and of an experiment: the answer first, and never more than fits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from pipeline.config import FRAME_SOURCE
from pipeline.confirm import words
from pipeline.confirm.guardrails import Verdict, guardrails
from pipeline.confirm.measures import mean_of
from pipeline.records import Confirmation, Origin, StudyRecord
from pipeline.report import experiment_markdown, short_answer, summary_markdown, verdict
from pipeline.report.markdown import LONGEST_NAME, LONGEST_TEXT, MORE, code, escaped, fitted, table
from pipeline.report.summary import EXPERIMENT_LIMIT, RUN_LIMIT
from tests.finalists import HOSTILE, SHAPES, SHORT, WHOLE, confirmation
from tests.test_report import STUDIES, study, toml, trial
from tests.test_verdict import UNCONFIRMED, confirmed

LINKS = "Every trial is a run: [all of them](#/experiments/1/runs)."
PAGE = "#/experiments/1/runs/parent?workflowType=machine_learning"
COMMAND = "python -m pipeline run studies/a.toml --n-trials 20"
MADE = Origin(COMMAND, None, "c0ffee", False)

RECORDS: Mapping[str, StudyRecord] = {
    **STUDIES,
    **{f"confirmed: {name}": confirmed(of) for name, of in SHAPES.items()},
}


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?]) +", text.strip())


# --- the short answer -------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDS)
def test_it_is_three_sentences_at_most_and_stands_at_the_beginning(name):
    record = RECORDS[name]
    said = short_answer(record)
    assert 1 <= len(said) <= 3
    assert all(len(sentences(each)) == 1 for each in said)
    text = " ".join(said)
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b|\d{20}", text)
    # Of a run's description three lines are to be seen, of an experiment's one.
    assert summary_markdown(record, LINKS).splitlines()[:4] == [escaped(text), "", LINKS, ""]
    note = experiment_markdown(record, LINKS, PAGE)
    assert note.splitlines()[:4] == [LINKS, "", escaped(text), ""]


def test_of_a_confirmation_it_tells_the_drift_the_guardrails_and_the_champion():
    drift, helping, champion = short_answer(confirmed())
    gap = words.with_interval(mean_of(WHOLE, WHOLE.finalists[0], "gap"))
    assert drift == (
        f"Without guardrails the network overfits: validation loss stands {gap} above training "
        "loss."
    )
    assert "0.580 (95 % interval" in drift
    by_name = {each.name: each.verdict for each in guardrails(WHOLE)}
    assert set(by_name.values()) == {Verdict.HELPS, Verdict.HARMS, Verdict.NO_EVIDENCE}
    assert helping == (
        "Early stopping, dropout and L2 help; weight decay harms; there is no evidence that any of "
        "L1 and elastic net helps."
    )
    loss = words.with_interval(mean_of(WHOLE, WHOLE.finalists[1], "test_loss"))
    assert champion == (
        "The champion is the winner of the search (l2, lambda 2.3e-03, dropout 0.31, patience 12): "
        f"its test loss is {loss}."
    )


def test_guardrails_stand_with_what_was_found_of_them():
    for shape in ("whole", "failures", "two replicates", "only the baseline", "no spread"):
        helping = short_answer(confirmed(SHAPES[shape]))[1].lower()
        parts = {
            Verdict.HELPS: r"([^;]*) helps?(?:;|\.)",
            Verdict.HARMS: r"([^;]*) harms?(?:;|\.)",
            Verdict.NO_EVIDENCE: r"there is no evidence that ([^;]*) helps",
            Verdict.NOT_COMPARED: r"([^;]*) (?:was|were) not compared",
        }
        for each in guardrails(SHAPES[shape]):
            found = [m[1] for m in re.finditer(parts[each.verdict], helping)]
            assert any(words.GUARDRAILS[each.name].lower() in part for part in found), shape


def test_a_network_that_may_not_overfit_is_not_said_to():
    for shape in ("no overfitting", "hardly any overfitting"):
        drift = short_answer(confirmed(SHAPES[shape]))[0]
        assert drift.startswith("There is no evidence that the network overfits without guardrails")


def test_without_a_baseline_the_search_tells_of_the_drift():
    for shape in ("no baseline", "the baseline failed"):
        drift = short_answer(confirmed(SHAPES[shape]))[0]
        assert drift == (
            "Without regularization the network overfits: validation loss stands 0.72 above "
            "training loss at its last epoch, 9."
        )


def test_without_a_champion_it_says_so():
    record = confirmed(SHAPES["all failed"])
    assert short_answer(record)[-1] == verdict(record)[0]
    assert "there is no champion" in short_answer(record)[-1]


def overtuned() -> StudyRecord:
    """Its winner does worse on test than the first trial."""
    late = replace(WHOLE.finalists[-1], name="winner", roles=("winner",), trial=41)
    kept = [each for each in WHOLE.finalists if each.name in ("baseline", "first_trial")]
    names = {"baseline": "baseline", "first_trial": "first_trial", "default_trial": "winner"}
    records = [
        replace(each, finalist=names[each.finalist])
        for each in WHOLE.records
        if each.finalist in names
    ]
    return confirmed(replace(WHOLE, finalists=(*kept, late), records=tuple(records)))


def test_a_search_that_overtuned_is_told_with_the_champion():
    said = short_answer(overtuned())
    assert len(said) == 3
    assert "; the search has overtuned, its winner is no better than what it" in said[2]
    assert not any("overtuned" in each for each in short_answer(confirmed()))


@pytest.mark.parametrize("of", [None, SHAPES["unfinished"], SHAPES["nothing trained yet"]])
def test_before_a_confirmation_is_finished_the_search_answers(of: Confirmation | None):
    record = replace(study([trial(0, val_loss=0.8), trial(2, val_loss=0.4)]), confirmation=of)
    assert " ".join(short_answer(record)) == (
        "Without regularization the network overfits: validation loss stands 1.04 above training "
        "loss at its last epoch, 9. Against that, the best trial lowers validation loss by 50% and "
        "lowers the gap by 50% at the epochs kept; this is one split and one seed, not yet "
        "confirmed. The best is trial 2 (l2, lambda 1.0e-03, dropout 0.20, patience 5): validation "
        "loss 0.4."
    )
    # What is left out above still stands below.
    assert UNCONFIRMED in summary_markdown(record)


def test_where_nothing_beats_none_or_there_is_no_best_the_short_answer_says_so():
    said = short_answer(study([trial(0, val_loss=0.1), trial(1)]))
    assert said[1] == "No guardrail that was tried did better than none, on this one split."
    assert short_answer(STUDIES["empty"]) == ["No trial has ended yet."]
    assert len(short_answer(STUDIES["no complete trial"])) == 2
    assert "nothing to hold it against" in short_answer(STUDIES["one type"])[1]


# --- the descriptions -------------------------------------------------------------------------


def test_both_descriptions_tell_data_space_cost_types_and_how_to_run_it_again():
    record = replace(confirmed(), origin=MADE)
    for note in (summary_markdown(record, LINKS), experiment_markdown(record, LINKS, PAGE)):
        for expected in (
            "digest 0123456789abcdef",
            "1797 rows x 64 features",
            "train / validation / test 1077 / 360 / 360",
            "- **Trials**: 2: 2 complete, 0 pruned, 0 failed",
            "182 saved by early stopping (91%)",
            "| regularization | trials |",
            "The command was (commit c0ffee, without changes):",
            f"```\n{COMMAND}\n```",
            "python -m pipeline reproduce run41",
        ):
            assert expected in note


def test_the_experiments_description_leads_to_the_study_it_tells_of():
    note = experiment_markdown(confirmed(), LINKS, PAGE)
    assert f"[study]({PAGE})" in note
    hostile = experiment_markdown(study([trial(0)], name=HOSTILE), LINKS, PAGE)
    assert f"[{escaped(HOSTILE)}]({PAGE})" in hostile
    assert "<script>" not in hostile


def test_without_a_command_the_study_file_tells_how():
    note = summary_markdown(study([trial(0)]))
    assert "command" not in note.split("### How to run it again")[1]
    assert 'run_study(load_config("study.toml"))' in note
    told = summary_markdown(replace(study([trial(0)]), origin=Origin(commit="c0ffee", dirty=True)))
    assert "No command is known of it (commit c0ffee, with changes to tracked files)." in told


def test_a_table_that_was_handed_over_must_be_handed_over_again():
    handed = study([trial(0)], toml(**{"data.source": f"{FRAME_SOURCE}:data"}))
    note = summary_markdown(handed)
    assert 'run_study(load_config("study.toml"), data=table)' in note
    assert "mlflow run" not in note
    assert "reproduce" not in note


# --- what fits --------------------------------------------------------------------------------


LONG = "n`*[<&|" * 1500


def long_record() -> StudyRecord:
    """Everything in it is as long as it can be."""
    record = replace(confirmed(), name=LONG, origin=replace(MADE, command="x" * 1000))
    params = {"data.source": f"csv:/{LONG}/table.csv", "data.time": LONG}
    return replace(record, params={**record.params, **params})


@pytest.mark.parametrize("name", [*RECORDS, "long"])
@pytest.mark.parametrize("limit", [300, 1200, 2500, EXPERIMENT_LIMIT, RUN_LIMIT])
def test_a_description_is_never_longer_than_there_is_room_for(name, limit):
    record = long_record() if name == "long" else RECORDS[name]
    for note in (
        summary_markdown(record, LINKS, limit),
        experiment_markdown(record, LINKS, PAGE, limit),
    ):
        assert len(note) <= limit


@pytest.mark.parametrize("limit", range(1500, 6500, 250))
def test_what_is_cut_is_cut_whole_and_how_to_run_it_again_is_the_last_to_go(limit):
    record = replace(confirmed(), origin=MADE)
    whole = summary_markdown(record, LINKS, 10**6)
    note = summary_markdown(record, LINKS, limit)
    again = whole.split("### How to run it again")[1]
    kept, told = note.split("### How to run it again")
    assert told == again
    assert (MORE in kept) == (note != whole)
    lines = kept.replace(f"\n{MORE}\n", "").strip().splitlines()
    assert lines == whole.splitlines()[: len(lines)]
    # Neither half a table nor a heading with nothing below it.
    assert not lines[-1].startswith("#")
    tables = re.findall(r"(?:^\|.*\n)+", note, flags=re.MULTILINE)
    assert all(each in whole for each in tables)


def test_the_answer_survives_however_long_everything_else_is():
    record = long_record()
    for note in (summary_markdown(record, LINKS), experiment_markdown(record, LINKS, PAGE)):
        assert escaped(" ".join(short_answer(record))) in note
        assert f"\n{'x' * 1000}\n" in note
        assert "digest 0123456789abcdef" in note


def test_fitted_drops_the_end_only_when_nothing_else_is_left():
    end = ["", "## End", "", "a", "b"]
    assert fitted(["one", "two"], end, 100) == "one\ntwo\n\n## End\n\na\nb\n"
    just = f"one\n\n{MORE}\n\n## End\n\na\nb\n"
    assert fitted(["one", "# Two", "x" * 90], end, len(just)) == just
    alone = f"{MORE}\n\n## End\n\na\nb\n"
    assert fitted(["one", "x" * 90], end, len(just) - 1) == alone
    assert fitted(["x" * 90], end, len(alone) - 1) == f"{MORE}\n\n## End\n\na\n"
    assert fitted(["x" * 90], end, len(MORE) + 1) == f"{MORE}\n"
    assert fitted(["x" * 90], end, 5) == ""


def test_text_table_and_command_stay_what_they_are():
    assert len(escaped("x" * 5000)) == LONGEST_TEXT
    assert len(summary_markdown(study([], name="x" * 5000)).split("## ")[1].split("\n")[0]) == (
        LONGEST_NAME
    )
    assert escaped("a\n b") == "a b"
    assert table(["a", "b"], [["1|2", "x\ny"]]) == "| a | b |\n|---|---|\n| 1\\|2 | x y |"
    assert code(["a `b` ```` c"]) == "`````\na `b` ```` c\n`````"
    spaced = fitted([code(["a '\n\n\n'"])], [], 100)
    assert "a '\n\n\n'" in spaced


def test_short_of_a_confirmation_of_one_replicate_there_is_no_interval():
    said = short_answer(confirmed(confirmation(1, ["baseline", "winner best_l2"])))
    assert "(one replicate, no interval)" in " ".join(said)


def test_a_baseline_that_is_champion_is_named():
    assert SHORT.finalists[0].name == "baseline"
    said = short_answer(confirmed(SHAPES["only the baseline"]))
    assert said[2].startswith("The champion is the baseline (none, dropout 0.00, patience off)")
