"""`asr data`: what is in a corpus, what is wrong with it, and parts of it.

The commands stand in modules beside this one.
"""

import click

from asr.cli.data_check import check
from asr.cli.data_exchange import export, import_, shard
from asr.cli.data_label import label
from asr.cli.data_pick import pick
from asr.cli.data_selection import filter_, split, stats, subset


@click.group()
def data() -> None:
    """Corpora: look at them, check them, cut them."""


for command in (check, stats, split, subset, filter_, import_, export, shard, label, pick):
    data.add_command(command)
