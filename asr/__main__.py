"""`python -m asr`."""

from asr.cli import run

run()
