"""`python -m inferry` is the command `inferry`."""

from inferry.cli import main

main()
