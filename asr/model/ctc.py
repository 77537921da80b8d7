"""Connectionist temporal classification: the loss (Graves et al. 2006).

Dimension names: batch (utterances), step (model outputs in time), token (the token table in
`log_probs`, the transcript's tokens in `targets`). Token 0 is the blank.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def ctc_loss(
    log_probs: Float[Tensor, "batch step token"],
    num_steps: Int[Tensor, " batch"],
    targets: Int[Tensor, "batch target"],
    num_tokens: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Negative log-probability of each transcript, in nats; 0 where no path exists.

    On a GPU lengths that lie there are read back, for which the host waits: give the host's.

    An utterance without a path adds no gradient: callers count such utterances with
    `asr.decoding.required_steps`, which is exact.
    """
    return torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1).float(),
        targets,
        num_steps,
        num_tokens,
        reduction="none",
        zero_infinity=True,
    )
