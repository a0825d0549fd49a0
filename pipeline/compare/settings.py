"""Owns what differs between studies: their settings and their data, by the study file's keys."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.compare.sides import Side

# A study's name says which one it is, not what was done; how many trials may raise, nothing of
# those that did not.
NO_SETTING = {"study.name", "study.search.max_failures", "study.tracking.give_up_after"}


def differences(sides: Sequence[Side]) -> dict[str, list[str | None]]:
    """By key, what each study has there; keys in which all agree are left out.

    Keys are those of the study file, and `data.digest`, `data.rows` and the like, which tell of the
    table that was read. None stands for a key that the study lacks.
    """
    keys = {key for side in sides for key in side.record.params} - NO_SETTING
    found = {
        key.removeprefix("study."): [side.record.params.get(key) for side in sides]
        for key in sorted(keys)
        if key.startswith(("study.", "data."))
    }
    return {key: values for key, values in found.items() if len(set(values)) > 1}
