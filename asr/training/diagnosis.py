"""What is going wrong with a training run: findings in words, each under the name of its kind."""

from collections.abc import Mapping, Sequence

import numpy as np

from asr.corpus import PackedCorpus

_PATIENCE = 10
_PLATEAU_SHARE = 0.2  # of the epochs, in which nothing need be learnt
_SHOWN = 3


def diagnose_sets(train_set: PackedCorpus, dev_set: PackedCorpus, budget: int) -> dict[str, str]:
    """What train and dev set have in common that they must not, and utterances too long."""
    findings = {}
    alike = np.flatnonzero(np.isin(train_set.digests, dev_set.digests)).tolist()
    by_digest = {int(train_set.digests[row]): train_set.utterances[row].id for row in alike}
    twice = [
        f"{u.id} is {by_digest[int(digest)]}"
        for u, digest in zip(dev_set.utterances, dev_set.digests, strict=True)
        if int(digest) in by_digest
    ]
    if twice:
        findings["same audio"] = (
            f"{len(twice)} dev utterances have the same audio as a training utterance "
            f"({_some(twice)}): dev error rates will look better than they are"
        )
    speakers = {*train_set.column("speaker")} & {*dev_set.column("speaker")}
    shared = sorted(speaker for speaker in speakers if speaker is not None)
    if shared:
        findings["same speakers"] = (
            f"{len(shared)} speakers are in train and dev ({_some(shared)}): dev error rates say "
            f"nothing about new speakers"
        )
    rows = np.flatnonzero(train_set.lengths > budget).tolist()
    long = [train_set.utterances[row].id for row in rows]
    if long:
        findings["long"] = (
            f"{len(long)} training utterances are longer than training.batch_seconds "
            f"({_some(long)}): each is a batch of its own"
        )
    return findings


def diagnose_history(history: Sequence[Mapping[str, float]], epochs: int) -> dict[str, str]:
    """What the last epoch's numbers, beside those before, say; but epoch 0, which has no loss."""
    history = [row for row in history if "loss" in row]
    if not history:
        return {}
    findings = {}
    losses = [row["loss"] for row in history]
    if len(losses) > 2 and min(losses[-2:]) > 1.5 * min(losses):
        findings["rising loss"] = (
            f"the loss has risen from {min(losses):.3f} to {losses[-1]:.3f}: the learning rate is "
            f"too high for this network; try half of training.learning_rate"
        )
    stood = len(losses) > _PATIENCE and losses[-1] > max(1.0, 0.98 * losses[-_PATIENCE])
    # Consistency training and deep networks stand still for a while before they learn.
    if stood and history[-1]["epoch"] > _PLATEAU_SHARE * epochs:
        findings["plateau"] = (
            f"the training loss has stood at {losses[-1]:.3f} for {_PATIENCE} epochs: raise "
            f"training.learning_rate or training.warmup_share, or look at the transcripts"
        )
    scored = [row for row in history if "dev_loss" in row]
    if not scored:
        return findings
    last = scored[-1]
    if last.get("dev_empty", 0.0) > 90 and last["epoch"] > max(3, _PLATEAU_SHARE * epochs):
        findings["blanks"] = (
            f"{last['dev_empty']:.0f} % of the dev hypotheses are empty at epoch "
            f"{last['epoch']:.0f}: the network writes blanks only; if it stays so, lower "
            f"encoder.dropout, augmentation or encoder.subsampling, or train for more epochs"
        )
    dev_losses = [row["dev_loss"] for row in scored]
    best = min(range(len(dev_losses)), key=dev_losses.__getitem__)
    # CTC's dev loss often rises a little while there are fewer and fewer errors.
    if len(dev_losses) - best > _PATIENCE and dev_losses[-1] > 1.2 * dev_losses[best] and best > 0:
        findings["by heart"] = (
            f"the dev loss was lowest at epoch {scored[best]['epoch']:.0f} "
            f"({dev_losses[best]:.3f}) and is {dev_losses[-1]:.3f} now: the network learns the "
            f"training set by heart; more augmentation, dropout or data would help"
        )
    return findings


def _some(names: Sequence[str]) -> str:
    rest = ", ..." if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
