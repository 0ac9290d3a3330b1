"""The losses against hand-worked cases and sentence-transformers; training on a tiny encoder, end to end."""

import math

import numpy as np
import pytest
import torch
from test_config import composed
from tiny import SETTINGS, corpus, encoder, train
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook

from pipeline import config
from pipeline.checkpoints import latest
from pipeline.contrastive import Contrastive
from pipeline.losses import info_nce, matryoshka
from pipeline.sampling.hybrid import Hybrid
from pipeline.sampling.strategy import Corpus, batches
from pipeline.training import HELD_OUT_BATCHES, hold_out, with_dropout
from pipeline.values import UserError


def unit(shape, seed):
    return functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def losses_of(curve):
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


def test_matryoshka_is_hand_worked():
    """At width 1 the queries are [1] and [1], the passages [1] and [-1]: scores [[1, -1], [1, -1]] at temperature 1."""
    query, passage = torch.tensor([[0.8, 0.6], [0.6, 0.8]]), torch.tensor([[1.0, 0.0], [-0.6, 0.8]])
    group = torch.tensor([0, 1])
    narrow = (math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2
    assert matryoshka(query, passage, group, 1.0, [1]).item() == pytest.approx(narrow, abs=1e-6)
    full = info_nce(query, passage, group, 1.0).item()
    assert matryoshka(query, passage, group, 1.0, [2, 1]).item() == pytest.approx(full + narrow, abs=1e-6)
    assert matryoshka(query, passage, group, 1.0, []).item() == full


# One step


def gradients(draws, **changes):
    """Of one batch, by parameter; and the number of parts."""
    torch.manual_seed(0)
    settings = SETTINGS | changes
    model = with_dropout(encoder().train(), settings["dropout"])
    module = Contrastive(model, corpus(), None, [], settings, folder=None, seed=0)
    step = module.prepare(draws)
    module.training_step(step, 0).backward()
    grads = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return grads, len(step.parts)


@pytest.fixture(scope="module")
def draws():
    """16 of 24 rows in groups of two: some are in one group, whatever the draw."""
    data = corpus()
    return next(batches(Hybrid(), Corpus(data.languages, data.available_NL), 16, steps=1, seed=0))


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)


def test_parts_of_like_length_give_the_gradient_of_one_padded_batch(draws):
    found, parts = gradients(draws, forward_tokens=60)
    assert parts > 3
    model, data = encoder(), corpus()
    texts = [("query", [data.text(draw.row, draw.query_language, "query") for draw in draws])]
    texts += [("passage", [data.text(draw.row, draw.passage_language, "passage") for draw in draws])]
    query_ND, passage_ND = (model(*model.pad(model.tokenize(rows, side))) for side, rows in texts)
    group_N = torch.tensor([data.passage_group[draw.row] for draw in draws])
    assert len(set(group_N.tolist())) < len(draws)
    info_nce(query_ND, passage_ND, group_N, SETTINGS["temperature"]).backward()
    assert_close(found, {name: value.grad for name, value in model.named_parameters() if value.grad is not None})


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_grad_cache_gives_the_same_gradient(draws, dropout):
    expected, _ = gradients(draws, forward_tokens=60, dropout=dropout)
    found, parts = gradients(draws, forward_tokens=60, dropout=dropout, grad_cache=True)
    assert parts > 3
    assert_close(found, expected)


def most_alive(draws, **changes):
    """Of how many parts the activations were in memory at once."""
    storages, counts = [], []

    def count(module, inputs, output):
        if type(module).__name__ == "BertIntermediate":
            storages.append(StorageWeakRef(output.untyped_storage()))
            counts.append(sum(not storage.expired() for storage in storages))

    with register_module_forward_hook(count):
        gradients(draws, forward_tokens=60, **changes)
    return max(counts)


def test_grad_cache_holds_the_activations_of_one_part(draws):
    assert most_alive(draws) > 3
    assert most_alive(draws, grad_cache=True) == 1


# Whole trainings


def test_training_lowers_the_loss_keeps_frozen_weights_and_logs_what_it_drew(tmp_path):
    before = encoder().state_dict()
    model, curve, pairs = train(tmp_path, steps=40, learning_rate=2e-3)
    assert [point["step"] for point in curve] == list(range(1, 41))
    assert np.mean(losses_of(curve)[-10:]) < np.mean(losses_of(curve)[:10]) / 2
    assert sum(pairs.values()) == 40 * 4
    assert set(pairs) <= {"de-de", "en-en", "de-en", "en-de"}
    assert not model.training
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not any("word_embeddings" in name for name in changed)
    assert any("query" in name for name in changed)


def test_learning_rate_warms_up_then_falls_to_zero(tmp_path):
    """6 steps, 3 of warm-up: 1/3, 2/3, 1 of the rate, then 1, 2/3, 1/3; the curve shows the rate of the next step."""
    _, curve, _ = train(tmp_path)
    rates = [point["learning_rate"] / SETTINGS["learning_rate"] for point in curve]
    np.testing.assert_allclose(rates, [2 / 3, 1, 1, 2 / 3, 1 / 3, 0], atol=1e-9)


def test_same_seed_same_weights(tmp_path):
    first, second, other = (
        train(tmp_path / name, seed=seed, dropout=0.1) for name, seed in [("first", 0), ("second", 0), ("other", 1)]
    )
    for name, value in first[0].state_dict().items():
        assert torch.equal(value, second[0].state_dict()[name])
    assert losses_of(first[1]) == losses_of(second[1])
    assert losses_of(first[1]) != losses_of(other[1])


@pytest.mark.parametrize("devices", [1, 2])
def test_a_loss_that_is_not_a_number_ends_the_training(tmp_path, devices):
    model = encoder()
    with torch.no_grad():
        model.backbone.encoder.layer[0].output.dense.weight.fill_(float("nan"))
    with pytest.raises((FloatingPointError, RuntimeError), match=r"the loss is nan at step 0$"):
        train(tmp_path, model=model, devices=devices)


def test_too_wide_a_matryoshka_width_names_its_key(tmp_path):
    with pytest.raises(UserError, match=r"trainer\.matryoshka_widths: 33 is wider than the embedding, 32\."):
        train(tmp_path, matryoshka_widths=[33, 16])


@pytest.mark.parametrize("grad_cache", [False, True])
def test_two_processes_train_as_one(tmp_path, grad_cache):
    """Gloo on the CPU. AdamW's first moment after one step is a tenth of the gradient. Later weights are not compared:
    AdamW moves parameters whose true gradient is 0, as the attention's key bias, by the sign of rounding errors."""
    same = {"batch_size": 16, "grad_cache": grad_cache, "forward_tokens": 60}
    moments = []
    for devices in (1, 2):
        folder = tmp_path / f"first step of {devices}"
        train(folder, steps=1, devices=devices, **same)
        moments.append(latest(folder).state["optimizer"]["state"])
    for index, one in moments[0].items():
        torch.testing.assert_close(moments[1][index]["exp_avg"], one["exp_avg"], atol=1e-6, rtol=1e-4)
    (_, one, pairs), (model, two, pairs_of_two) = (
        train(tmp_path / f"{devices}", devices=devices, learning_rate=1e-3, **same) for devices in (1, 2)
    )
    np.testing.assert_allclose(losses_of(two), losses_of(one), rtol=1e-4)
    assert pairs_of_two == pairs
    before = encoder().state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


# Early stopping


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.95])
def test_groups_are_held_out_whole(fraction):
    data, settings = corpus(), SETTINGS | {"patience": 1, "holdout_fraction": fraction}
    train_NL, held_NL = hold_out(data, settings, seed=0)
    assert (train_NL ^ held_NL).all()
    for group in range(12):
        assert len({tuple(row) for row in held_NL[data.passage_group == group]}) == 1
    assert held_NL.sum() == 2 * 2 * round(fraction * 12)
    assert (hold_out(data, settings, seed=1)[1] != held_NL).any()
    assert hold_out(data, settings | {"patience": None}, seed=0)[0].all()


def test_training_stops_when_the_held_out_loss_no_longer_falls_and_keeps_the_best_weights(tmp_path):
    """A learning rate at which it falls, then rises: the best weights are neither the first nor the last."""
    changes = {"steps": 60, "learning_rate": 3e-3, "patience": 2, "validate_every": 3, "warmup_fraction": 1.0}
    model, curve, _ = train(tmp_path, **changes)
    validated = [point["held_out_loss"] for point in curve if "held_out_loss" in point]
    best = int(np.argmin(validated))
    assert 0 < best == len(validated) - 1 - changes["patience"]
    assert curve[-1]["step"] == 3 * len(validated) < 60

    data, settings = corpus(), SETTINGS | changes
    held_out = Corpus(data.languages, hold_out(data, settings, seed=0)[1])
    drawn = batches(Hybrid(), held_out, settings["batch_size"], steps=HELD_OUT_BATCHES, seed=0)
    module = Contrastive(model, data, None, [], settings, folder=None, seed=0)
    with torch.no_grad():
        again = np.mean([module.loss(module.prepare(draws)).item() for draws in drawn])
    assert again == pytest.approx(validated[best], rel=1e-6)


def test_too_few_held_out_rows_name_the_fraction(tmp_path):
    with pytest.raises(UserError, match=r"trainer\.holdout_fraction=0\.1 holds out too few rows: .*the 2 rows"):
        train(tmp_path, patience=1, holdout_fraction=0.1)


# The config


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trainer.steps=0", r"trainer\.steps=0: it must be positive"),
        ("trainer.checkpoint_every=0", r"trainer\.checkpoint_every=0: it must be positive"),
        ("trainer.patience=0", r"trainer\.patience=0: it must be positive, or null"),
        ("trainer.holdout_fraction=1", r"trainer\.holdout_fraction=1\.0: it must lie in \(0, 1\)"),
        ("trainer.matryoshka_widths=[384,0]", r"trainer\.matryoshka_widths=\[384, 0\]: it must list positive numbers"),
        ("trainer.devices=3", r"trainer\.devices=3: it must divide trainer\.batch_size"),
    ],
)
def test_impossible_values_name_their_key(override, says):
    with pytest.raises(UserError, match=says):
        config.check(composed(override))


def test_what_only_moves_memory_and_time_does_not_train_again():
    def inputs(*overrides):
        return config.inputs(config.plain(composed(*overrides)))["train"]

    harmless = ["trainer.checkpoint_every=7", "trainer.forward_tokens=512", "trainer.grad_cache=true"]
    assert inputs(*harmless) == inputs() != inputs("trainer.patience=3")
