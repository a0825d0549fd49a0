"""Owns MLflow: the only part that knows it. One study is a parent run, one trial a child run.

What a study writes is written in the writing process (`writer`), which alone imports MLflow while a
study runs: the training process hands over and waits (`recorder`).

`client` is the way to the store, `readiness` does beforehand what a study would wait for,
`opening` begins or takes up a study there, `finding` finds it, `view` prepares what the UI shows of
it, `writing` writes runs (`transaction`: as one database transaction), `reading` reads them back,
`recovery` does so after a fault, `model` is what MLflow keeps of a study's champion, `registry` its
versions. `patience` waits for a store that went away.
"""

from pipeline.tracking.client import Caller, Parent, download, log_file, tracking_uri
from pipeline.tracking.finding import close_adopted
from pipeline.tracking.opening import Opened, open_study
from pipeline.tracking.patience import Patience
from pipeline.tracking.readiness import get_ready, warm_up
from pipeline.tracking.reading import (
    LoggedTraining,
    read_model,
    read_study,
    read_training,
    read_weights,
)
from pipeline.tracking.recovery import deliver, recover_study
from pipeline.tracking.writing import (
    close_study,
    delete_runs,
    write_runs,
    write_trial,
)

__all__ = [
    "Caller",
    "LoggedTraining",
    "Opened",
    "Parent",
    "Patience",
    "close_adopted",
    "close_study",
    "delete_runs",
    "deliver",
    "download",
    "get_ready",
    "log_file",
    "open_study",
    "read_model",
    "read_study",
    "read_training",
    "read_weights",
    "recover_study",
    "tracking_uri",
    "warm_up",
    "write_runs",
    "write_trial",
]
