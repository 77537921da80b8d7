"""`asr data`: what is in a corpus, what is wrong with it, and parts of it.

The commands stand in modules beside this one.
"""

import click

from asr.cli.data_selection import stats


@click.group()
def data() -> None:
    """Corpora: look at them, check them, cut them."""


data.add_command(stats)
