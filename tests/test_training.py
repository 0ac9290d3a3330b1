"""Losses against hand-worked cases and sentence-transformers; whole trainings of a tiny encoder."""

import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from test_config import composed
from tiny import SETTINGS, corpus, encoder, train, trainer_config, two_layers
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook

from pipeline import config
from pipeline.encoder import model_folder
from pipeline.launch.request import stage_inputs, stage_keys
from pipeline.parts import check_held_out
from pipeline.sampling.hybrid import Hybrid
from pipeline.sampling.mixed import Mixed
from pipeline.sampling.strategy import Corpus, batches
from pipeline.training import negatives
from pipeline.training.checkpoints import latest
from pipeline.training.fit import HELD_OUT_BATCHES, hold_out
from pipeline.training.lightning import set_dropout
from pipeline.training.losses import NO_GROUP, PADDING, info_nce, layerwise, matryoshka
from pipeline.training.module import Contrastive
from pipeline.values import UserError

ROOT = Path(__file__).parent.parent


def unit(shape, seed):
    return functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def losses(curve):
    return [point["loss"] for point in curve]


# The losses


def test_info_nce_is_hand_worked():
    """Scores [[1, 0], [0.6, 0.8]] at temperature 1: mean of log(1 + e^-1) and log(1 + e^-0.2)."""
    query, passage = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-0.2))) / 2
    assert info_nce(query, passage, torch.tensor([0, 1]), 1.0).item() == pytest.approx(expected, abs=1e-6)
    assert info_nce(query, passage, torch.tensor([5, 5]), 1.0).item() == pytest.approx(0, abs=1e-6)


def test_info_nce_equals_sentence_transformers():
    """MultipleNegativesRankingLoss at scale 1 / temperature."""
    reference = pytest.importorskip("sentence_transformers.losses")
    query, passage = unit((8, 16), 1), unit((8, 16), 2)
    theirs = reference.MultipleNegativesRankingLoss(torch.nn.Identity(), scale=50.0)
    expected = theirs.compute_loss_from_embeddings([query, passage], None)
    assert info_nce(query, passage, torch.arange(8), 0.02).item() == pytest.approx(expected.item(), rel=1e-5)


def test_passages_of_one_group_are_not_negatives():
    query, passage = unit((6, 16), 1), unit((6, 16), 2)
    group = torch.tensor([0, 1, 2, 0, 4, 5])
    score = query @ passage.T / 0.02
    score[0, 3] = score[3, 0] = -math.inf
    expected = -torch.log_softmax(score, dim=1).diagonal().mean()
    assert info_nce(query, passage, group, 0.02).item() == pytest.approx(expected.item(), rel=1e-6)


def test_matryoshka_is_hand_worked():
    """At width 1 the queries are [1] and [1], the passages [1] and [-1]: scores [[1, -1], [1, -1]] at temperature 1."""
    query, passage = torch.tensor([[0.8, 0.6], [0.6, 0.8]]), torch.tensor([[1.0, 0.0], [-0.6, 0.8]])
    group = torch.tensor([0, 1])
    narrow = (math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2
    assert matryoshka(query, passage, group, 1.0, [1]).item() == pytest.approx(narrow, abs=1e-6)
    full = info_nce(query, passage, group, 1.0).item()
    assert matryoshka(query, passage, group, 1.0, [2, 1]).item() == pytest.approx(full + narrow, abs=1e-6)
    assert matryoshka(query, passage, group, 1.0, []).item() == full


def test_hard_negatives_are_hand_worked():
    """Query 0: its positive scores 1, the other positive 0, hard negatives .6 and .8 (masked: its own group). Query 1:
    its positive scores 1, the other positive 0, hard negatives .8 and .6. The last passage is padding."""
    query = torch.eye(2)
    passage = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6], [1.0, 0.0]])
    first = math.log1p(math.exp(-1) + math.exp(-0.4))
    second = math.log1p(math.exp(-1) + math.exp(-0.2) + math.exp(-0.4))
    loss = info_nce(query, passage, torch.tensor([3, 4, NO_GROUP, 3, PADDING]), 1.0)
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_hard_negatives_equal_sentence_transformers():
    """MultipleNegativesRankingLoss with two hard negatives per query."""
    reference = pytest.importorskip("sentence_transformers.losses")
    query, *passages = (unit((8, 16), seed) for seed in range(4))
    theirs = reference.MultipleNegativesRankingLoss(torch.nn.Identity(), scale=50.0)
    expected = theirs.compute_loss_from_embeddings([query, *passages], None)
    group = torch.cat([torch.arange(8), torch.full((16,), NO_GROUP)])
    assert info_nce(query, torch.cat(passages), group, 0.02).item() == pytest.approx(expected.item(), rel=1e-5)


def test_layerwise_is_the_sum_over_exits():
    query, passage, group = unit((6, 3, 16), 1), unit((6, 3, 16), 2), torch.arange(6)
    expected = sum(matryoshka(query[:, exit], passage[:, exit], group, 0.05, [16, 8]) for exit in range(3))
    assert layerwise(query, passage, group, 0.05, [16, 8]).item() == pytest.approx(expected.item(), rel=1e-6)


# One step


def gradients(draws, model=None, **changes):
    """The gradients of one batch, by parameter, and the number of its parts."""
    torch.manual_seed(0)
    trainer, model, data = trainer_config(**changes), model or encoder(), corpus()
    set_dropout(model.train(), trainer.dropout)
    row_NLK = np.arange(24 * 2 * 2).reshape(24, 2, 2) % 24
    row_NLK[5:9] = -1
    hard_negatives = partial(negatives.from_rows, data, row_NLK[:, :, : trainer.hard_negatives])
    module = Contrastive(model, data, None, [], trainer, hard_negatives, folder=None, seed=0)
    batch = module.prepare(draws)
    module.training_step(batch, 0).backward()
    grads = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return grads, len(batch.texts.parts)


@pytest.fixture(scope="module")
def draws():
    """16 of 24 rows in groups of two, so some share a group in any draw."""
    data = corpus()
    return next(batches(Hybrid(), Corpus(data.languages, data.available_NL), 16, steps=1, seed=0))


def assert_close(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=3e-6, rtol=1e-5)


def test_parts_of_similar_length_give_the_gradient_of_one_padded_batch(draws):
    actual, parts = gradients(draws, forward_tokens=60)
    assert parts > 3
    model, data = encoder(), corpus()
    texts = [("query", [data.text(draw.row, draw.query_language, "query") for draw in draws])]
    texts += [("passage", [data.text(draw.row, draw.passage_language, "passage") for draw in draws])]
    query_ND, passage_ND = (model(*model.pad(model.tokenize(rows, side))) for side, rows in texts)
    group_N = torch.tensor([data.passage_group[draw.row] for draw in draws])
    assert len(set(group_N.tolist())) < len(draws)
    info_nce(query_ND, passage_ND, group_N, SETTINGS["temperature"]).backward()
    assert_close(actual, {name: value.grad for name, value in model.named_parameters() if value.grad is not None})


@pytest.mark.parametrize(
    "changes",
    [{}, {"dropout": 0.3}, {"hard_negatives": 2, "matryoshka_widths": [32, 8], "exit_layers": [1]}],
    ids=["plain", "dropout", "all losses"],
)
def test_grad_cache_gives_the_same_gradient(draws, changes):
    expected, _ = gradients(draws, two_layers(), forward_tokens=60, **changes)
    actual, parts = gradients(draws, two_layers(), forward_tokens=60, grad_cache=True, **changes)
    assert parts > 3
    assert_close(actual, expected)


def most_parts_in_memory(draws, **changes):
    """The largest number of parts whose activations were in memory at once."""
    storages, counts = [], []

    def count(module, inputs, output):
        if type(module).__name__ == "BertIntermediate":
            storages.append(StorageWeakRef(output.untyped_storage()))
            counts.append(sum(not storage.expired() for storage in storages))

    with register_module_forward_hook(count):
        gradients(draws, forward_tokens=60, **changes)
    return max(counts)


def test_grad_cache_holds_the_activations_of_one_part(draws):
    assert most_parts_in_memory(draws) > 3
    assert most_parts_in_memory(draws, grad_cache=True) == 1


# Whole trainings


def test_training_lowers_the_loss_keeps_frozen_weights_and_counts_language_pairs(tmp_path):
    before = encoder().state_dict()
    model, curve, pairs = train(tmp_path, steps=40, learning_rate=2e-3)
    assert [point["step"] for point in curve] == list(range(1, 41))
    assert np.mean(losses(curve)[-10:]) < np.mean(losses(curve)[:10]) / 2
    assert sum(pairs.values()) == 40 * 4
    assert set(pairs) <= {"de-de", "en-en", "de-en", "en-de"}
    assert not model.training
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not any("word_embeddings" in name for name in changed)
    assert any("query" in name for name in changed)


def test_learning_rate_warms_up_then_falls_to_zero(tmp_path):
    """6 steps, 3 of them warm-up: 1/3, 2/3, 1, 1, 2/3, 1/3 of the rate; the curve shows the rate of the next step."""
    _, curve, _ = train(tmp_path)
    rates = [point["learning_rate"] / SETTINGS["learning_rate"] for point in curve]
    np.testing.assert_allclose(rates, [2 / 3, 1, 1, 2 / 3, 1 / 3, 0], atol=1e-9)


def test_same_seed_same_weights(tmp_path):
    first, second, other = (
        train(tmp_path / name, seed=seed, dropout=0.1) for name, seed in [("first", 0), ("second", 0), ("other", 1)]
    )
    for name, value in first[0].state_dict().items():
        assert torch.equal(value, second[0].state_dict()[name])
    assert losses(first[1]) == losses(second[1])
    assert losses(first[1]) != losses(other[1])


def test_a_nan_loss_ends_the_training(tmp_path):
    model = encoder()
    with torch.no_grad():
        model.backbone.encoder.layer[0].output.dense.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"^the loss is nan at step 0$"):
        train(tmp_path, model=model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"matryoshka_widths": [33, 16]}, r"trainer\.matryoshka_widths: 33 exceeds the embedding width, 32\."),
        ({"exit_layers": [1]}, r"trainer\.exit_layers: 1 is not below the encoder's last layer, 1\."),
    ],
)
def test_settings_beyond_the_encoder_name_their_key(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        train(tmp_path, **changes)


def test_precision_must_be_resolved(tmp_path):
    with pytest.raises(AssertionError, match=r"trainer\.precision=auto: resolve it to float32 or bfloat16"):
        train(tmp_path, precision="auto")


def test_bfloat16_rounds_the_loss_but_not_the_weights(tmp_path):
    (model, coarse, _), (_, exact, _) = (train(tmp_path / name, precision=name) for name in ("bfloat16", "float32"))
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert losses(coarse) != losses(exact)
    assert losses(coarse)[0] == pytest.approx(losses(exact)[0], rel=0.05)


def test_scores_of_the_loss_are_float32_under_autocast():
    torch.manual_seed(0)
    query_ND, passage_PD = (functional.normalize(torch.randn(64, 32), dim=1) for _ in range(2))
    group_P = torch.arange(64)
    exact = info_nce(query_ND, passage_PD, group_P, 0.01)
    with torch.autocast("cpu", torch.bfloat16):
        assert info_nce(query_ND, passage_PD, group_P, 0.01) == exact
        rounded = functional.cross_entropy((query_ND @ passage_PD.T).float() / 0.01, group_P)
    assert abs(rounded - exact) > 1e-3  # what autocast would make of it


def test_validation_computes_the_loss_that_training_does(tmp_path, monkeypatch):
    """In bfloat16 too: the held-out batch is the training batch, weights do not move, and nothing is dropped out."""
    from pipeline.training import fit as training

    monkeypatch.setattr(training, "HELD_OUT_BATCHES", 1)
    monkeypatch.setattr(training, "hold_out", lambda data, trainer, seed: (data.available_NL, data.available_NL))
    monkeypatch.setattr("tiny.hold_out", training.hold_out)
    changes = {"steps": 1, "patience": 1, "validate_every": 1, "learning_rate": 1e-12, "weight_decay": 0.0}
    for precision in ("float32", "bfloat16"):
        _, (point,), _ = train(tmp_path / precision, precision=precision, **changes)
        assert point["held_out_loss"] == pytest.approx(point["loss"], abs=1e-6)


def test_an_exit_gives_the_embeddings_of_the_encoder_truncated_there(tmp_path):
    """Two layers, trained with an exit after the first, exported and loaded with one layer."""
    model, curve, _ = train(tmp_path, model=two_layers(), exit_layers=[1])
    assert curve[0]["loss"] > train(tmp_path / "last only", model=two_layers())[1][0]["loss"]
    model_folder.write(model, tmp_path / "exported", "")
    truncated = encoder(weights=str(tmp_path / "exported"), layers=1)
    assert len(truncated.backbone.encoder.layer) == 1
    ids_NT, mask_NT = model.pad(model.tokenize(corpus().questions["en"], "query"))
    with torch.inference_mode():
        emb_NED = model.at_layers(ids_NT, mask_NT, [1])
        torch.testing.assert_close(emb_NED[:, 0], truncated(ids_NT, mask_NT), atol=1e-6, rtol=0)
        torch.testing.assert_close(emb_NED[:, 1], model(ids_NT, mask_NT), atol=1e-6, rtol=0)
        assert (emb_NED[:, 0] - emb_NED[:, 1]).abs().max() > 1e-2


def test_adapters_train_alone_and_are_merged(tmp_path):
    """Only query and value projections change, by the products of their adapters; saving and loading need no peft."""
    pytest.importorskip("peft")
    before, fresh = encoder().state_dict(), encoder()
    model, curve, _ = train(tmp_path, lora_rank=8, steps=60)
    assert np.mean(losses(curve)[-10:]) < 0.8 * np.mean(losses(curve)[:10])
    adapters = latest(tmp_path).weights
    assert len(adapters) == 4  # two per projection, and nothing else
    assert model.state_dict().keys() == before.keys()
    for name, value in model.state_dict().items():
        lora = [adapters.get(f"{name.removesuffix('weight')}lora_{side}.default.weight") for side in "BA"]
        expected = before[name] if None in lora else before[name] + lora[0] @ lora[1]
        torch.testing.assert_close(value, expected, atol=1e-7 if None not in lora else 0, rtol=0)
    model.save(tmp_path / "saved")
    fresh.restore(tmp_path / "saved")
    for name, value in model.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name])


def test_adapters_without_peft_name_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    install = r"pip install -c constraints\.txt -e '\.\[lora\]'"
    with pytest.raises(UserError, match=rf"^trainer\.lora_rank=2: peft is not installed: {install}\.$"):
        train(tmp_path, lora_rank=2)


# Early stopping


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.95])
def test_groups_are_held_out_whole(fraction):
    data, trainer = corpus(), trainer_config(patience=1, holdout_fraction=fraction)
    train_NL, held_out_NL = hold_out(data, trainer, seed=0)
    assert (train_NL ^ held_out_NL).all()
    for group in range(12):
        assert len({tuple(row) for row in held_out_NL[data.passage_group == group]}) == 1
    assert held_out_NL.sum() == 2 * 2 * round(fraction * 12)
    assert (hold_out(data, trainer, seed=1)[1] != held_out_NL).any()
    assert hold_out(data, trainer_config(patience=None), seed=0)[0].all()


def test_training_stops_when_the_held_out_loss_stops_falling_and_keeps_the_best_weights(tmp_path):
    """At this learning rate the loss falls, then rises: the best weights are neither the first nor the last."""
    changes = {"steps": 60, "learning_rate": 3e-3, "patience": 2, "validate_every": 3, "warmup_fraction": 1.0}
    model, curve, _ = train(tmp_path, **changes)
    validated = [point["held_out_loss"] for point in curve if "held_out_loss" in point]
    best = int(np.argmin(validated))
    assert 0 < best == len(validated) - 1 - changes["patience"]
    assert curve[-1]["step"] == 3 * len(validated) < 60

    data, trainer = corpus(), trainer_config(**changes)
    held_out = Corpus(data.languages, hold_out(data, trainer, seed=0)[1])
    held_out_batches = batches(Hybrid(), held_out, trainer.batch_size, steps=HELD_OUT_BATCHES, seed=0)
    module = Contrastive(model, data, None, [], trainer, lambda draw: [], folder=None, seed=0)
    with torch.no_grad():
        loss = np.mean([module.loss(module.prepare(draws)).item() for draws in held_out_batches])
    assert loss == pytest.approx(validated[best], rel=1e-6)


@pytest.mark.parametrize("strategy", [Hybrid(), Mixed()])
def test_too_few_held_out_rows_name_the_fraction(strategy):
    """Before any work; Mixed counted all rows, and then drew for ever."""
    data, trainer = corpus(), trainer_config(patience=1, holdout_fraction=0.1)
    held_out = Corpus(data.languages, hold_out(data, trainer, seed=0)[1])
    with pytest.raises(UserError, match=r"trainer\.holdout_fraction=0\.1 holds out too few rows: .*the 2 rows"):
        check_held_out(strategy, held_out, trainer)


# The config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.steps=0", r"trainer\.steps=0: it must lie in \[1, 1,000,000,000\]\."),
        ("trainer.checkpoint_every=0", r"trainer\.checkpoint_every=0: it must lie in \[1, "),
        ("trainer.patience=0", r"trainer\.patience=0: it must lie in \[1, "),
        ("trainer.holdout_fraction=1", r"trainer\.holdout_fraction=1\.0: it must lie in \(0, 1\)"),
        ("trainer.matryoshka_widths=[384,0]", r"trainer\.matryoshka_widths\[1\]=0: it must lie in \[1, "),
        ("trainer.exit_layers=[0]", r"trainer\.exit_layers\[0\]=0: it must lie in \[1, "),
        ("trainer.hard_negatives=-1", r"trainer\.hard_negatives=-1: it must lie in \[0, "),
        ("trainer.lora_rank=0", r"trainer\.lora_rank=0: it must lie in \[1, "),
        ("trainer.devices=3", r"trainer\.devices=3 x trainer\.num_nodes=1 must divide trainer\.batch_size"),
    ],
)
def test_impossible_values_name_their_key(override, message):
    with pytest.raises(UserError, match=message):
        config.check(composed(override))


def test_settings_that_only_change_memory_and_time_keep_the_cache_key():
    def key(*overrides):
        return stage_keys(stage_inputs(config.check(composed(*overrides))))["train"]

    harmless = ["trainer.checkpoint_every=7", "trainer.forward_tokens=512", "trainer.grad_cache=true"]
    assert key(*harmless) == key() != key("trainer.patience=3")
