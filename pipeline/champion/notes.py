"""Owns what a person reads of a registered champion, in Markdown."""

from __future__ import annotations

from pipeline.champion.answer import PREDICTION
from pipeline.champion.choice import Champion
from pipeline.confirm.statistics import Estimate
from pipeline.figures.style import describe


def notes(champion: Champion, parent_run_id: str, uri: str) -> str:
    """What it is, how good it is, and how it is loaded.

    Args:
        champion: It.
        parent_run_id: Of the study's run.
        uri: Under which MLflow finds it, `models:/NAME/VERSION`.
    """
    n_networks = len(champion.run_ids)
    what = "One network, the best of its replicates."
    if n_networks > 1:
        what = f"The answers of {n_networks} networks, averaged: one for each fresh replicate."
    roles = ", ".join(role.replace("_", " ") for role in champion.finalist.roles)
    return "\n".join(
        [
            f"**{describe(champion.finalist.hyperparameters)}** ({roles})",
            "",
            what,
            "",
            "| | mean over replicates | 95 % interval |",
            "|---|---|---|",
            _row("validation loss", champion.val_loss),
            _row("test loss", champion.test_loss),
            "",
            f"Study run `{parent_run_id}`, data digest `{champion.data_digest}`.",
            "",
            "```python",
            "import mlflow",
            f'model = mlflow.pyfunc.load_model("{uri}")',
            "# rows: a pandas data frame, with the columns and values of the study's table",
            f"model.predict(rows)  # {PREDICTION!r}, and of each class 'probability of CLASS'",
            "```",
            "",
            "```sh",
            f'mlflow models serve --env-manager local --model-uri "{uri}" --port 5001',
            "```",
            "",
        ]
    )


def _row(name: str, estimate: Estimate) -> str:
    return f"| {name} | {estimate.mean:.4g} | {estimate.low:.4g} to {estimate.high:.4g} |"
