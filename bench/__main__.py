"""Side-by-side benchmarks: `python -m bench [PART]...`; see README.md."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path

from bench.engine import PIECES, UPLOADS, measure_all_uploads, measure_engine
from bench.guards import measure_guards
from bench.load import generator
from bench.processes import cores
from bench.reads import measure_reads
from bench.report import Plan, Table, save
from bench.runs import measure_runs
from bench.scaling import measure_scaling
from bench.siege import measure_siege
from bench.streams import measure_streams
from bench.writes import measure_writes

_PARTS = {
    "reads": measure_reads,
    "writes": measure_writes,
    "runs": measure_runs,
    "streams": measure_streams,
    "engine": measure_engine,
    "uploads": measure_all_uploads,
    "scaling": measure_scaling,
    "guards": measure_guards,
    "siege": measure_siege,
}


def main() -> None:
    """Run the parts that were asked for and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(_PARTS)}; default all"
    )
    parser.add_argument("--seconds", type=float, default=4, help="of one run of load")
    parser.add_argument("--rounds", type=int, default=3, help="alternating runs per candidate")
    parser.add_argument("--stored", default="10,10000,100000", help="numbers of endpoints")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    known = {**_PARTS, **PIECES, **UPLOADS}
    unknown = set(given.parts) - set(known)
    if unknown:
        parser.error(f"unknown part [{min(unknown)}]")
    stored = tuple(int(number) for number in given.stored.split(","))
    measured, loading = cores()
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores;")
    print(f"gateway on core {measured}, load ({generator()}) and upstream on core {loading};")
    print(f"medians of {given.rounds} alternating runs of {given.seconds:g} s")
    tables: list[Table] = []
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(given.seconds, given.rounds, stored, Path(folder))
        for part in given.parts or _PARTS:
            found = known[part](plan)
            for table in found:
                table.show()
            tables += found
    if given.json:
        save(tables, given.json)


if __name__ == "__main__":
    main()
