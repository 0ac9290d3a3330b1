"""The losses against hand-worked cases and sentence-transformers; training on a tiny encoder, end to end."""

import math
import sys
from functools import partial

import numpy as np
import pytest
import torch
from test_config import composed
from tiny import ARCHITECTURE, MODEL, SETTINGS, corpus, encoder, train
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook

from pipeline import config
from pipeline.export import fill
from pipeline.sampling.hybrid import Hybrid
from pipeline.sampling.strategy import Corpus, batches
from pipeline.training import negatives
from pipeline.training.checkpoints import latest
from pipeline.training.fit import HELD_OUT_BATCHES, hold_out, with_dropout
from pipeline.training.losses import ABSENT, NOBODYS, info_nce, layerwise, matryoshka
from pipeline.training.module import Contrastive
from pipeline.values import Record, UserError


def unit(shape, seed):
    return functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def losses_of(curve):
    return [point["loss"] for point in curve]


def two_layers(**changes):
    return encoder(architecture=ARCHITECTURE | {"num_hidden_layers": 2}, **changes)


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


def test_hard_negatives_are_hand_worked():
    """Scores of query 0: its positive 1, the other's 0, hard negatives .6 and .8, the latter of its own group; the last
    only fills a gap. Query 1 has its positive at 1, and both hard negatives, .8 and .6, against it."""
    query = torch.eye(2)
    passage = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6], [1.0, 0.0]])
    first = math.log1p(math.exp(-1) + math.exp(-0.4))
    second = math.log1p(math.exp(-1) + math.exp(-0.2) + math.exp(-0.4))
    found = info_nce(query, passage, torch.tensor([3, 4, NOBODYS, 3, ABSENT]), 1.0)
    assert found.item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_hard_negatives_equal_sentence_transformers():
    """Triples: MultipleNegativesRankingLoss with two negatives an anchor."""
    losses = pytest.importorskip("sentence_transformers.losses")
    query, *passages = (unit((8, 16), seed) for seed in range(4))
    theirs = losses.MultipleNegativesRankingLoss(torch.nn.Identity(), scale=50.0)
    expected = theirs.compute_loss_from_embeddings([query, *passages], None)
    group = torch.cat([torch.arange(8), torch.full((16,), NOBODYS)])
    assert info_nce(query, torch.cat(passages), group, 0.02).item() == pytest.approx(expected.item(), rel=1e-5)


def test_layerwise_is_the_sum_over_exits():
    query, passage, group = unit((6, 3, 16), 1), unit((6, 3, 16), 2), torch.arange(6)
    expected = sum(matryoshka(query[:, exit], passage[:, exit], group, 0.05, [16, 8]) for exit in range(3))
    assert layerwise(query, passage, group, 0.05, [16, 8]).item() == pytest.approx(expected.item(), rel=1e-6)


# One step


def gradients(draws, model=None, **changes):
    """Of one batch, by parameter; and the number of parts."""
    torch.manual_seed(0)
    settings = SETTINGS | changes
    model, data = with_dropout((model or encoder()).train(), settings["dropout"]), corpus()
    row_NLK = np.arange(24 * 2 * 2).reshape(24, 2, 2) % 24
    row_NLK[5:9] = -1
    hard = partial(negatives.of_rows, data, row_NLK[:, :, : settings["hard_negatives"]])
    module = Contrastive(model, data, None, [], settings, hard, folder=None, seed=0)
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
        torch.testing.assert_close(found[name], value, atol=3e-6, rtol=1e-5)


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


@pytest.mark.parametrize(
    "changes",
    [{}, {"dropout": 0.3}, {"hard_negatives": 2, "matryoshka_widths": [32, 8], "exit_layers": [1]}],
    ids=["plain", "dropout", "all losses"],
)
def test_grad_cache_gives_the_same_gradient(draws, changes):
    expected, _ = gradients(draws, two_layers(), forward_tokens=60, **changes)
    found, parts = gradients(draws, two_layers(), forward_tokens=60, grad_cache=True, **changes)
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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"matryoshka_widths": [33, 16]}, r"trainer\.matryoshka_widths: 33 is wider than the embedding, 32\."),
        ({"exit_layers": [1]}, r"trainer\.exit_layers: 1 does not lie below the encoder's last layer, 1\."),
    ],
)
def test_what_the_encoder_lacks_names_its_key(tmp_path, changes, says):
    with pytest.raises(UserError, match=says):
        train(tmp_path, **changes)


@pytest.mark.parametrize(
    "changes", [{}, {"grad_cache": True, "hard_negatives": 2, "matryoshka_widths": [32, 8]}], ids=["plain", "all"]
)
def test_two_processes_train_as_one(tmp_path, changes):
    """Gloo on the CPU. AdamW's first moment after one step is a tenth of the gradient. Later weights are not compared:
    AdamW moves parameters whose true gradient is 0, as the attention's key bias, by the sign of rounding errors."""
    same = {"batch_size": 16, "forward_tokens": 60, **changes}
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


def test_an_exit_is_what_the_encoder_cut_there_gives(tmp_path):
    """Two layers, trained with an exit after the first; read off by what `pipeline.export` writes."""
    model, curve, _ = train(tmp_path, model=two_layers(), exit_layers=[1])
    assert curve[0]["loss"] > train(tmp_path / "last only", model=two_layers())[1][0]["loss"]
    (tmp_path / "exported").mkdir()
    choices = {"model": "tiny", "sampler": "hybrid", "data": "tiny"}
    record = Record("run", "1", "done", choices, {"model": MODEL}, 0, {"layers": 2, "commit": None})
    fill(tmp_path / "exported", model, record)
    cut = encoder(weights=str(tmp_path / "exported"), layers=1)
    assert len(cut.backbone.encoder.layer) == 1
    ids_NT, mask_NT = model.pad(model.tokenize(corpus().questions["en"], "query"))
    with torch.inference_mode():
        emb_NED = model.at_layers(ids_NT, mask_NT, [1])
        torch.testing.assert_close(emb_NED[:, 0], cut(ids_NT, mask_NT), atol=1e-6, rtol=0)
        torch.testing.assert_close(emb_NED[:, 1], model(ids_NT, mask_NT), atol=1e-6, rtol=0)
        assert (emb_NED[:, 0] - emb_NED[:, 1]).abs().max() > 1e-2


def test_adapters_train_alone_and_are_merged(tmp_path):
    """Only queries and values change, by their adapters' products; the encoder is saved and read like any other."""
    pytest.importorskip("peft")
    before, fresh = encoder().state_dict(), encoder()
    model, curve, _ = train(tmp_path, lora_rank=8, steps=60)
    assert np.mean(losses_of(curve)[-10:]) < 0.8 * np.mean(losses_of(curve)[:10])
    adapters = latest(tmp_path).weights
    assert len(adapters) == 4  # two of each projection: nothing else is in a checkpoint
    assert model.state_dict().keys() == before.keys()
    for name, value in model.state_dict().items():
        lora = [
            adapters.get(f"{name.removeprefix('backbone.').removesuffix('weight')}lora_{side}.default.weight")
            for side in "BA"
        ]
        expected = before[name] if None in lora else before[name] + lora[0] @ lora[1]
        torch.testing.assert_close(value, expected, atol=1e-7 if None not in lora else 0, rtol=0)
    model.save(tmp_path / "saved")
    fresh.restore(tmp_path / "saved")
    for name, value in model.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name])


def test_adapters_without_peft_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    install = r"pip install -c constraints\.txt -e '\.\[lora\]'"
    with pytest.raises(UserError, match=rf"^trainer\.lora_rank=2: peft is not installed: {install}\.$"):
        train(tmp_path, lora_rank=2)


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
    module = Contrastive(model, data, None, [], settings, lambda draw: [], folder=None, seed=0)
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
        ("trainer.exit_layers=[0]", r"trainer\.exit_layers=\[0\]: it must list positive numbers"),
        ("trainer.hard_negatives=-1", r"trainer\.hard_negatives=-1: it must not be negative"),
        ("trainer.lora_rank=0", r"trainer\.lora_rank=0: it must be positive, or null"),
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
