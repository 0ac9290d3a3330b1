"""The loss against a hand-worked case and sentence-transformers; training on a tiny encoder, end to end."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.encoder import load
from pipeline.sampling.hybrid import Hybrid
from pipeline.sampling.strategy import Corpus, batches
from pipeline.training import Contrastive, Pairs, fit, info_nce
from pipeline.values import ParallelText

TINY = {
    "model_type": "bert",
    "vocab_size": 1000,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
SETTINGS = {
    "steps": 6,
    "batch_size": 4,
    "learning_rate": 2e-2,
    "weight_decay": 0.01,
    "warmup_fraction": 0.5,
    "temperature": 0.05,
    "dropout": 0.0,
    "precision": "float32",
    "log_every": 1,
}


def unit(shape, seed):
    return functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def encoder():
    return load(
        family="tiny",
        weights="random",
        revision=None,
        layers=None,
        pooling="mean",
        query_prefix="query: ",
        passage_prefix="passage: ",
        max_query_tokens=16,
        max_passage_tokens=32,
        freeze_word_embeddings=True,
        architecture=TINY,
        seed=0,
    )


def corpus():
    texts = {language: [f"{language} text number {row}" for row in range(12)] for language in ("de", "en")}
    return ParallelText(
        name="tiny",
        languages=("de", "en"),
        ids=[str(row) for row in range(12)],
        questions=texts,
        passages=texts,
        available_NL=np.ones((12, 2), dtype=bool),
        passage_group=np.arange(12) // 2,
    )


def train(seed=0):
    torch.manual_seed(99)  # fit must not depend on what ran before
    model, data = encoder(), corpus()
    draws = batches(Hybrid(), Corpus(data.languages, data.available_NL), 4, steps=6, seed=seed)
    return model, *fit(model, data, draws, SETTINGS, device="cpu", seed=seed)


def test_info_nce_is_hand_worked():
    """Scores [[1, 0], [0.6, 0.8]] at temperature 1: mean of log(1 + e^-1) and log(1 + e^-0.2)."""
    query, passage = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-0.2))) / 2
    assert info_nce(query, passage, torch.tensor([0, 1]), 1.0).item() == pytest.approx(expected, abs=1e-6)
    assert info_nce(query, passage, torch.tensor([5, 5]), 1.0).item() == pytest.approx(0, abs=1e-6)


def test_info_nce_equals_sentence_transformers():
    """MultipleNegativesRankingLoss at scale 1 / temperature."""
    losses = pytest.importorskip("sentence_transformers.losses")
    query, passage = unit((8, 16), 1), unit((8, 16), 2)
    theirs = losses.MultipleNegativesRankingLoss(torch.nn.Identity(), scale=50.0)
    expected = theirs.compute_loss_from_embeddings([query, passage], None)
    assert info_nce(query, passage, torch.arange(8), 0.02).item() == pytest.approx(expected.item(), rel=1e-5)


def test_passages_of_one_group_are_no_negatives():
    query, passage = unit((6, 16), 1), unit((6, 16), 2)
    group = torch.tensor([0, 1, 2, 0, 4, 5])
    score = query @ passage.T / 0.02
    score[0, 3] = score[3, 0] = -math.inf
    expected = -torch.log_softmax(score, dim=1).diagonal().mean()
    assert info_nce(query, passage, group, 0.02).item() == pytest.approx(expected.item(), rel=1e-6)


def test_training_lowers_the_loss_keeps_frozen_weights_and_logs_what_it_drew():
    before = encoder().state_dict()
    model, curve, pairs = train()
    assert [point["step"] for point in curve] == [1, 2, 3, 4, 5, 6]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert sum(pairs.values()) == 6 * 4
    assert set(pairs) <= {"de-de", "en-en", "de-en", "en-de"}
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not any("word_embeddings" in name for name in changed)
    assert any("query" in name for name in changed)


def test_learning_rate_warms_up_then_falls_to_zero():
    """6 steps, 3 of warm-up: 1/3, 2/3, 1 of the rate, then 1, 2/3, 1/3; the curve shows the rate of the next step."""
    _, curve, _ = train()
    rates = [point["learning_rate"] / SETTINGS["learning_rate"] for point in curve]
    np.testing.assert_allclose(rates, [2 / 3, 1, 1, 2 / 3, 1 / 3, 0], atol=1e-9)


def test_same_seed_same_weights():
    first, second, other = train(), train(), train(seed=1)
    for name, value in first[0].state_dict().items():
        assert torch.equal(value, second[0].state_dict()[name])
    assert [point["loss"] for point in first[1]] == [point["loss"] for point in second[1]]
    assert [point["loss"] for point in first[1]] != [point["loss"] for point in other[1]]


def test_a_loss_that_is_not_a_number_ends_the_training():
    model, data = encoder(), corpus()
    with torch.no_grad():
        model.backbone.encoder.layer[0].output.dense.weight.fill_(float("nan"))
    draws = batches(Hybrid(), Corpus(data.languages, data.available_NL), 4, steps=6, seed=0)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 0"):
        fit(model, data, draws, SETTINGS, device="cpu", seed=0)


def test_parts_of_like_length_give_the_loss_and_gradient_of_one_padded_batch(monkeypatch):
    monkeypatch.setattr("pipeline.training.TOKEN_BUDGET", 40)  # several parts, though the texts are short
    model, data = encoder(), corpus()
    draws = next(batches(Hybrid(), Corpus(data.languages, data.available_NL), 4, steps=1, seed=0))
    step = Pairs(model, data)[draws]
    assert len(step.parts) > 1
    Contrastive(model, SETTINGS).training_step(step, 0).backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    sides = [("query", [f"{q} text number {row}" for row, q, _ in draws])]
    sides += [("passage", [f"{p} text number {row}" for row, _, p in draws])]
    query_ND, passage_ND = (model(*model.pad(model.tokenize(texts, side))) for side, texts in sides)
    info_nce(query_ND, passage_ND, step.group_N, SETTINGS["temperature"]).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-4)
