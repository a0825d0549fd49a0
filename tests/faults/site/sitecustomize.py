"""Kills the program when a function is entered or left for the nth time, or sets its clock wrong.

Python imports this by itself where its folder is on the path. So a study dies between two lines of
its own code, without a line of it being changed for that. What to do stands in KILL_AT:
`pipeline/search.py:Search._end:call:3`: the third call of that function, or `return`. CLOCK is by
how many seconds the program's clock goes wrong.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import sys
import time

AT = os.environ.get("KILL_AT", "")
CLOCK = int(os.environ.get("CLOCK", "0"))


class Watch:
    """Exchanges the function once its module is there: nothing else of the program is slower."""

    def __init__(self, at: str) -> None:
        file, self._name, self._moment, count = at.rsplit(":", 3)
        self._module = file.removesuffix(".py").replace("/", ".")
        self._left = int(count)
        if self._module in sys.modules:
            self._exchange(sys.modules[self._module])
        else:
            sys.meta_path.insert(0, self)

    def find_spec(self, name, path, target=None):
        """As Python asks whoever may find a module."""
        if name != self._module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module) -> None:
            execute(module)
            self._exchange(module)

        spec.loader.exec_module = exec_module
        return spec

    def _exchange(self, module) -> None:
        *owners, name = self._name.split(".")
        owner = functools.reduce(getattr, owners, module)
        function = getattr(owner, name)

        @functools.wraps(function)
        def watched(*args, **kwargs):
            if self._moment == "call":
                self._count()
            try:
                return function(*args, **kwargs)
            finally:
                if self._moment == "return":
                    self._count()

        setattr(owner, name, watched)
        # Who imported it by its name before.
        for each in [m for key, m in sys.modules.items() if key.startswith("pipeline")]:
            for key in [key for key, value in vars(each).items() if value is function]:
                setattr(each, key, watched)

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            # All of its processes: what a machine that dies does.
            os.killpg(os.getpgrp(), signal.SIGKILL)


if AT:
    Watch(AT)
if CLOCK:
    _time, _time_ns = time.time, time.time_ns
    time.time = lambda: _time() + CLOCK
    time.time_ns = lambda: _time_ns() + CLOCK * 10**9
