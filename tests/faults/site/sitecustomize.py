"""Kills the program when a function is entered or left for the nth time, or sets its clock wrong.

Python imports this by itself where its folder is on the path. So a study dies between two lines of
its own code, without a line of it being changed for that. What to do stands in KILL_AT:
`pipeline/search.py:Search._end:call:3`: the third call of that function, or `return`. CLOCK is by
how many seconds the program's clock goes wrong.
"""

import os
import signal
import sys
import time

AT = os.environ.get("KILL_AT", "")
CLOCK = int(os.environ.get("CLOCK", "0"))


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
if CLOCK:
    _time, _time_ns = time.time, time.time_ns
    time.time = lambda: _time() + CLOCK
    time.time_ns = lambda: _time_ns() + CLOCK * 10**9
