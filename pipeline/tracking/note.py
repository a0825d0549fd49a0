"""Owns an experiment's description, which is ours to write only as long as nobody else did."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from pipeline.tracking.patience import patience_with
from pipeline.tracking.view import NOTE_TAG, links

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Short digests of what we wrote.
OWN_TAG = "study.note"

logger = logging.getLogger(__name__)


def describe_experiment(client: MlflowClient, experiment_id: str, note: str) -> bool:
    """Writes an experiment's description, unless a person wrote or changed the one that is there.

    Args:
        client: Of the store.
        experiment_id: The experiment.
        note: Its description, in Markdown.

    Returns:
        Whether it was written. No study fails for the want of it.
    """
    try:
        tags = client.get_experiment(experiment_id).tags
        before = tags.get(NOTE_TAG, "")
        if not _ours(before, experiment_id, tags.get(OWN_TAG, "")):
            return False
        # Both, and before the text: a program that dies in between leaves one that is known.
        client.set_experiment_tag(experiment_id, OWN_TAG, f"{_digest(note)} {_digest(before)}")
        client.set_experiment_tag(experiment_id, NOTE_TAG, note)
    except Exception as error:
        if patience_with(error):
            raise
        logger.debug("experiment %s was not described", experiment_id, exc_info=True)
        return False
    return True


def _ours(note: str, experiment_id: str, digests: str) -> bool:
    """Whether a description is empty or one that a study wrote: the links alone, at its start."""
    started = {links(experiment_id, saved=saved) for saved in (True, False)}
    return not note.strip() or note in started or _digest(note) in digests.split()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
