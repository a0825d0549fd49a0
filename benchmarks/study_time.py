"""Measures where the time of whole studies goes: training, asking, and waiting for the store.

    python -m benchmarks.study_time [STUDY ...]

Each study is a fresh process in an empty folder with a fresh sqlite store: imports, set-up of the
store, all artifacts and the report count. `track` is what the study waited for its runs to be
written, with the writer's own work beside training not counted: it is what tracking adds. Without
confirmation, which `confirm_time` measures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.fresh import ROOT, timed
from benchmarks.whole_study import outside_training, read_ours

DEFAULT = [ROOT / "studies" / f"{name}.toml" for name in ("breast_cancer", "noisy_100", "digits")]
PHASES = ("train", "ask", "tell", "track", "conclude")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("studies", nargs="*", type=Path, default=DEFAULT)
    print("| study | trials | wall, s | " + " | ".join(f"{p}, s" for p in PHASES) + " | outside |")
    print("|---" * (len(PHASES) + 4) + "|")
    for study in parser.parse_args().studies:
        wall, outcome = timed(
            "pipeline", "run", str(study.absolute()), "--quiet", "--replicates=0", read=read_ours
        )
        cells = " | ".join(f"{outcome.phases[phase]:.1f}" for phase in PHASES)
        share = outside_training(outcome.phases)
        print(
            f"| {study.stem} | {outcome.trials} | {wall:.1f} | {cells} | {share:.0%} |", flush=True
        )


if __name__ == "__main__":
    main()
