"""Several processes that run a recipe together: the first leads, the others follow.

All stages run in the first process alone, but for those that are shared.
"""

from collections.abc import Sequence
from dataclasses import replace

from asr import training
from asr.launch import find_launch
from asr.recipe import work_folder
from asr.recipe.stage import Stage, Work


def announce(stage: Stage, key: str, work: Work) -> str:
    """Have all processes know under which key a shared stage runs; empty when it does not."""
    if not stage.shared or find_launch().world_size == 1:
        return key
    return training.agree(key, work.device, work.folder)


def follow(stages: Sequence[Stage], work: Work) -> None:
    """Wait for the first process, and take part in the stages that are shared."""
    name = f"process {find_launch().rank}"
    report = work.report
    work = replace(work, report=lambda line: report(f"{name}: {line}"))
    for stage in stages:
        if stage.shared and (key := announce(stage, "", work)):
            with work_folder.system_errors(f"stage {stage.name}"):
                stage.run(replace(work, stage_key=key))
