"""A worker process whose model needs no runtime: `python -m tests.engine.fake_worker`.

It is not confined, since its model talks to the tests through files beside it.
"""

import sys

import uvloop

from inferry.engine.worker import run_worker
from inferry.modeling import Protection
from tests.engine.fake_models import load, prepare

FREE = Protection(missing="tests want it so")

if __name__ == "__main__":
    control, listening = map(int, sys.argv[1:])
    run_worker(control, listening, load, prepare=prepare, run=uvloop.run, confine=lambda _: FREE)
