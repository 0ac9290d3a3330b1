"""Distillation: a small encoder, the student, learns the vectors of a larger one, the teacher.

Reimers & Gurevych 2020 (https://arxiv.org/abs/2004.09813): the teacher's vectors are computed once; the student's
come near them, of the same text or of its translations. No relevance is needed, so any text will do.

Legend: N texts per batch, D embedding width, U distinct texts that the teacher encodes, B of them in the bank.
"""

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, mse_loss, normalize

from pipeline.encoder.model import Encoder
from pipeline.groups import DistillConfig, DistillLoss
from pipeline.training import checkpoints
from pipeline.training.lightning import run, set_dropout
from pipeline.training.resumable import OnPoint, Resumable, TokenParts
from pipeline.training.teacher import DistillTexts

BANK = 16_384  # at most: vectors of the teacher that the loss `scores` compares a text with


def distill(
    student: Encoder,
    texts: DistillTexts,
    emb_UD: np.ndarray,
    config: DistillConfig,
    *,
    folder: Path,
    device: str,
    on_point: OnPoint = lambda point: None,
) -> list[dict[str, float]]:
    """Train `student` in place toward the teacher's vectors, and leave it in evaluation mode.

    A student of another width first gets a projection (Head.project), which stays a part of it; the loss `similarity`
    needs none.

    Args:
        emb_UD: of `teacher.teach`.
        folder: holds the checkpoints, from which a call that was killed resumes, bit-identical on a CPU.
        device: cpu or cuda.

    Returns:
        The curve: step, loss, learning_rate and pairs_per_s (texts) of each logged step.

    Raises:
        FloatingPointError: for a NaN or infinite loss.
    """
    width = emb_UD.shape[1]
    if config.loss is not DistillLoss.similarity and student.width != width:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            student.head.project(width)
    checkpoint = checkpoints.latest(folder)
    if checkpoint is None or not checkpoint.state["progress"]["finished"]:
        student.train()
        set_dropout(student, config.dropout)
        module = Distilling(student, texts, emb_UD, config, folder=folder, on_point=on_point)
        if checkpoint:
            module.resume(checkpoint)
        run(module, config.precision, device)
        checkpoint = checkpoints.latest(folder)
    assert checkpoint is not None, "training ends with a checkpoint"
    student.load_state_dict(checkpoint.weights, strict=False)
    student.to(device).eval()
    curve: list[dict[str, float]] = checkpoint.state["progress"]["curve"]
    return curve


class Lesson(NamedTuple):
    """A tokenised batch, and the teacher's vectors for it."""

    texts: TokenParts
    target_ND: Tensor


class Distilling(Resumable):
    """Trains a student by the loss that the config names."""

    bank_BD: Tensor

    def __init__(
        self,
        encoder: Encoder,
        texts: DistillTexts,
        emb_UD: np.ndarray,
        config: DistillConfig,
        *,
        folder: Path,
        on_point: OnPoint = lambda point: None,
    ):
        super().__init__(encoder, self.permuted, config, folder=folder, seed=config.seed, on_point=on_point)
        self.texts, self.emb_UD, self.distill_config = texts, emb_UD, config
        if config.loss is DistillLoss.scores:
            bank = np.random.default_rng(self.seed).permutation(len(emb_UD))[:BANK]
            self.register_buffer("bank_BD", torch.from_numpy(emb_UD[bank]), persistent=False)

    def permuted(self, *, steps: int, start: int = 0) -> Iterator[list[int]]:
        """Yield the texts of each step: one random permutation of all texts after another."""
        count, size = len(self.texts.student), self.steps_config.batch_size

        @cache
        def epoch(number: int) -> np.ndarray:
            return np.random.default_rng([self.seed, number]).permutation(count)

        for step in range(start, steps):
            yield [int(epoch(place // count)[place % count]) for place in range(step * size, (step + 1) * size)]

    def prepare(self, draws: list[int]) -> Lesson:
        """Read and tokenise a batch."""
        drawn = [self.texts.student[place] for place in draws]
        rows = [self.encoder.tokenize([text], side)[0] for side, text in drawn]
        target_ND = torch.from_numpy(self.emb_UD[self.texts.target_S[draws]])
        return Lesson(self.tokenize(rows), target_ND)

    def loss(self, batch: Lesson) -> Tensor:
        """Return the loss of a batch; both encoders are compared by cosine."""
        own, order = batch.texts
        emb_ND = normalize(torch.cat(self.in_parts(self.encoder, own))[order], dim=-1)
        if self.distill_config.loss is DistillLoss.regression:
            return mse_loss(emb_ND, batch.target_ND)
        if self.distill_config.loss is DistillLoss.scores:
            return scores(emb_ND, batch.target_ND, self.bank_BD, self.steps_config.temperature)
        return similarity(emb_ND, batch.target_ND, self.steps_config.temperature)


def scores(emb_ND: Tensor, target_ND: Tensor, bank_BD: Tensor, temperature: float) -> Tensor:
    """Return how far a student's scores of the teacher's vectors are from the teacher's own scores of them.

    The mean over texts of KL(p || q), where p and q are the softmax over the bank of the teacher's and the student's
    scores, divided by the temperature. So the student learns where its text lies among others, in the teacher's space.
    Regression spends most of its error on what all vectors have in common, as those of E5 have.

    Args:
        emb_ND, target_ND: unit vectors of the same texts, by student and teacher.
        bank_BD: unit vectors of the teacher.

    Example: the teacher's scores of two vectors are 1 and 0, the student's 0 and 1. At temperature 1, p = (.731, .269)
    and q = (.269, .731), so KL(p || q) = .731 - .269 = .462.

    >>> bank_BD = torch.eye(2)
    >>> round(scores(bank_BD[[1]], bank_BD[[0]], bank_BD, 1.0).item(), 3)
    0.462
    """
    with torch.autocast(emb_ND.device.type, enabled=False):
        log_q_NB, log_p_NB = (
            log_softmax(vectors.float() @ bank_BD.T / temperature, dim=1) for vectors in (emb_ND, target_ND)
        )
        return kl_div(log_q_NB, log_p_NB, reduction="batchmean", log_target=True)


def similarity(emb_ND: Tensor, target_ND: Tensor, temperature: float) -> Tensor:
    """Return how far the student's similarities within a batch are from the teacher's.

    The mean over texts of KL(p || q), where p and q are the softmax of the teacher's and the student's scores of a
    text with all others of the batch, divided by the temperature.

    Args:
        emb_ND, target_ND: unit vectors, of any two widths.

    Example: to the first text the teacher's scores of the two others are 1 and 0, the student's 0 and 1. At
    temperature 1, p = (.731, .269) and q = (.269, .731), so KL(p || q) = .731 - .269 = .462.

    >>> teacher_ND = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> total = similarity(teacher_ND[[0, 2, 1]], teacher_ND, 1.0) * 3
    >>> round(total.item(), 3)  # of the three texts: .462 + .111 + .120
    0.693
    """
    with torch.autocast(emb_ND.device.type, enabled=False):
        own_NN = torch.eye(len(emb_ND), dtype=torch.bool, device=emb_ND.device)
        student_NN, teacher_NN = (
            (vectors.float() @ vectors.float().T / temperature).masked_fill(own_NN, -math.inf)
            for vectors in (emb_ND, target_ND)
        )
        log_q_NN, log_p_NN = log_softmax(student_NN, dim=1), log_softmax(teacher_NN, dim=1)
        differences_NN = (log_p_NN - log_q_NN).masked_fill(own_NN, 0.0)  # of a text to itself: both are -inf
        return (log_p_NN.exp() * differences_NN).sum(1).mean()
