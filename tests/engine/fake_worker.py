"""A worker process whose model needs no runtime: `python -m tests.engine.fake_worker`."""

import asyncio
import sys

from inferry.engine.worker import run_worker
from tests.engine.fake_models import load, prepare

if __name__ == "__main__":
    control, listening = map(int, sys.argv[1:])
    run_worker(control, listening, load, prepare=prepare, run=asyncio.run)
