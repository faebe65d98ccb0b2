"""Prints the pairs of services and SDKs, and what may differ between them."""

from __future__ import annotations

from tests.oracles.allowances import ALLOWANCES
from tests.oracles.oracle import all_oracles


def main() -> None:
    """Print a table."""
    for oracle in all_oracles():
        print(f"{oracle}: {', '.join(oracle.tasks)}")  # noqa: T201
        for allowance in ALLOWANCES:
            if (allowance.service, allowance.package) == (oracle.service, oracle.package):
                print(f"    allowed: {allowance.why}")  # noqa: T201


if __name__ == "__main__":
    main()
