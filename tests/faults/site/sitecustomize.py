"""Kills the program, or hands over its place, when a function is entered or left for the nth time.

Python imports this by itself where its folder is on the path. So a study dies between two lines of
its own code, without a line of it being changed for that. What to do stands in KILL_AT:
`pipeline/search.py:Search._end:call:3`: the third call of that function, or `return`.
"""

import os
import signal
import sys

AT = os.environ.get("KILL_AT", "")


def _watch() -> None:
    file, name, moment, count = AT.rsplit(":", 3)
    left = int(count)

    def profile(frame, event, _) -> None:
        nonlocal left
        if event != moment:
            return
        code = frame.f_code
        if code.co_qualname == name and code.co_filename.endswith(file):
            left -= 1
            if not left:
                # All of its processes: what a machine that dies does.
                os.killpg(os.getpgrp(), signal.SIGKILL)

    sys.setprofile(profile)


if AT:
    _watch()
