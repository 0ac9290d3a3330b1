"""A student learns its teacher's vectors, through a kill too; losses as others compute them, and worked by hand."""

import shutil
import signal
import time
from dataclasses import replace
from functools import partial

import forked
import numpy as np
import pytest
import torch
from command import TINY, inside, records
from test_cache_keys import changed_stages, requested
from test_resume_training import assert_same, steps
from tiny import ARCHITECTURE, SETTINGS, corpus, encoder

from pipeline.encoder import model_folder
from pipeline.encoder.layers import keep, kept
from pipeline.encoder.starts import restore_distilled
from pipeline.groups import DistillConfig, DistillLoss, KeptLayers, Precision, StepsConfig, TextSide
from pipeline.store.results import ResultStore
from pipeline.training import lightning
from pipeline.training.distillation import Distilling, distill, scores, similarity
from pipeline.training.teacher import distill_texts, teach
from pipeline.values import UserError

STEPS = {name: SETTINGS[name] for name in StepsConfig.__dataclass_fields__}
DEEP = ARCHITECTURE | {"num_hidden_layers": 4}


def config(**changes):
    return DistillConfig(**STEPS | {"precision": Precision.float32, "seed": 0, "batch_size": 8} | changes)


def teacher(**changes):
    return encoder(architecture=DEEP | changes)


def student(**changes):
    return encoder(architecture=DEEP, layers=2, kept_layers=KeptLayers.even, **changes)


def distilled(folder, start=None, **changes):
    """The student, its curve, and the loss at its end over all texts."""
    torch.set_num_threads(1)
    torch.manual_seed(99)  # distill must not depend on what ran before
    settings, small = config(**changes), start or student()
    texts = distill_texts(corpus(), settings)
    curve = distill(small, texts, teach(teacher(), texts.teacher), settings, folder=folder, device="cpu")
    return small, curve, {}


# Layers


def test_evenly_spaced_layers_compute_what_those_layers_compute():
    whole, half = teacher(), student()
    hidden = whole.backbone.embeddings(torch.tensor([[5, 6, 7]]))
    for number in (1, 3):
        hidden = whole.backbone.encoder.layer[number](hidden, attention_mask=None)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    actual = half.backbone(torch.tensor([[5, 6, 7]])).last_hidden_state
    torch.testing.assert_close(actual, hidden)
    assert half.backbone.config.num_hidden_layers == 2


@pytest.mark.parametrize("which", KeptLayers)
@pytest.mark.parametrize("available", [1, 2, 7, 12])
def test_as_many_distinct_layers_are_kept_as_are_asked_for(which, available):
    for count in range(1, available + 1):
        numbers = kept(count, available, which)
        assert len(set(numbers)) == count
        assert numbers == sorted(numbers)
        assert set(numbers) <= set(range(available))
        assert which is KeptLayers.first or numbers[-1] == available - 1


def test_layers_that_cannot_be_told_apart_are_refused():
    backbone = teacher().backbone
    backbone.more = torch.nn.ModuleList(torch.nn.Identity() for _ in range(4))
    with pytest.raises(UserError, match="kept_layers=last: the layers of bert were not found"):
        keep(backbone, 2, KeptLayers.last)


# Texts


def test_every_text_of_both_sides_and_all_languages_is_learned_once():
    data = corpus()
    texts = distill_texts(data, config())
    expected = {(side, text) for side in ("query", "passage") for column in data.questions.values() for text in column}
    assert set(texts.student) == expected
    assert len(texts.student) == len(expected)
    assert [texts.teacher[place] for place in texts.target_S] == texts.student


def test_a_translation_learns_the_vector_of_its_source():
    data = corpus()
    data.available_NL[3, 1] = False  # a row without its source
    texts = distill_texts(data, config(source_language="en", sides=[TextSide.query]))
    targets = dict(zip(texts.student, (texts.teacher[place] for place in texts.target_S), strict=True))
    assert len(targets) == 2 * 23
    assert targets["query", data.questions["de"][5]] == ("query", data.questions["en"][5])
    assert targets["query", data.questions["en"][5]] == ("query", data.questions["en"][5])
    assert len(texts.teacher) == 23


def test_the_teacher_reads_each_text_as_its_side_does():
    both = teacher()
    (query,), (passage,) = (teach(both, [(side, "a text")]) for side in ("query", "passage"))
    assert not np.allclose(query, passage)
    with torch.inference_mode():
        expected = both.embed(both.tokenize(["a text"], "query"))[0]
    np.testing.assert_allclose(query, expected, atol=1e-6)


# Training


def test_a_log_says_how_far_a_training_is(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(lightning, "LINE_EVERY_S", 0)
    distilled(tmp_path)
    steps = config().steps
    lines = [f"    step {step} of {steps}, about 0 min to go" for step in range(1, steps + 1)]
    assert capfd.readouterr().err.splitlines() == lines


# Losses


def test_regression_is_the_loss_of_sentence_transformers(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MSELoss

    small, settings = student(), config(sides=[TextSide.passage])  # sentence-transformers has one maximum length
    texts = distill_texts(corpus(), settings)
    target_UD = teach(teacher(), texts.teacher)
    module = Distilling(small, texts, target_UD, settings, folder=tmp_path)
    draws = [0, 3, 40, 7, 21]
    actual = module.loss(module.prepare(draws))
    model_folder.write(small, tmp_path / "student", "")
    theirs = SentenceTransformer(str(tmp_path / "student"), device="cpu")
    prefixed = [small.prefixes[side] + text for side, text in (texts.student[place] for place in draws)]
    features = theirs.preprocess(prefixed)
    expected = MSELoss(theirs)([features], torch.from_numpy(target_UD[texts.target_S[draws]]))
    assert actual.item() == pytest.approx(expected.item(), rel=1e-5)


def test_similarity_is_0_for_a_rotation_and_its_gradient_is_finite():
    generator = torch.Generator().manual_seed(0)
    target_ND = torch.nn.functional.normalize(torch.randn(6, 4, generator=generator), dim=1)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator))
    rotated_ND = (target_ND @ rotation).requires_grad_()
    loss = similarity(rotated_ND, target_ND, 0.05)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(rotated_ND.grad).all()
    assert similarity(target_ND.flip(0), target_ND, 0.05) > 0.1


def test_scores_are_compared_as_scipy_does_it():
    from scipy.special import rel_entr, softmax

    generator = torch.Generator().manual_seed(0)
    emb_ND, target_ND, bank_BD = torch.nn.functional.normalize(torch.randn(3, 5, 4, generator=generator), dim=2)
    p_NB, q_NB = (softmax((vectors @ bank_BD.T).double().numpy() / 0.05, axis=1) for vectors in (target_ND, emb_ND))
    assert scores(emb_ND, target_ND, bank_BD, 0.05).item() == pytest.approx(rel_entr(p_NB, q_NB).sum(1).mean())
    assert scores(target_ND, target_ND, bank_BD, 0.05).item() == pytest.approx(0, abs=1e-6)


def test_a_student_comes_near_its_teacher(tmp_path):
    _, curve, _ = distilled(tmp_path, steps=40, learning_rate=5e-3)
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]


@pytest.mark.parametrize(("loss", "width"), [(DistillLoss.similarity, 32), (DistillLoss.scores, 2)])
def test_a_student_learns_what_a_teacher_of_another_width_tells_apart(tmp_path, loss, width):
    """Two kinds of texts. Scores are those of the teacher's vectors, so they need a projection."""
    settings = config(loss=loss, steps=40, learning_rate=5e-3, batch_size=16)
    texts = distill_texts(corpus(), settings)
    emb_UD = np.array([[1.0, 0.0] if text.startswith("de") else [0.0, 1.0] for _, text in texts.teacher], np.float32)
    small = student()
    curve = distill(small, texts, emb_UD, settings, folder=tmp_path, device="cpu")
    assert curve[-1]["loss"] < 0.2 * curve[0]["loss"]
    assert small.width == width


# A kill


@pytest.mark.slow
def test_a_killed_distillation_resumes_and_ends_bit_identical(tmp_path):
    settings = {"steps": 60, "checkpoint_every": 10, "dropout": 0.1}
    whole = distilled(tmp_path / "whole", **settings)
    folder = tmp_path / "killed"
    process = forked.start(partial(distilled, **settings), folder, stderr=tmp_path / "stderr")
    while process.is_alive() and not (folder / "step-00000020").exists():
        time.sleep(0.001)
    process.kill()
    assert forked.finish(process) == -signal.SIGKILL, (tmp_path / "stderr").read_text()
    assert 20 <= steps(folder)[-1] < 60
    assert_same(distilled(folder, **settings), whole)


# Another width


def test_a_narrower_student_ends_in_the_teachers_space_and_is_restored(tmp_path):
    narrow = {"architecture": ARCHITECTURE | {"hidden_size": 16, "intermediate_size": 32}}
    small, curve, _ = distilled(tmp_path / "distill", encoder(**narrow), steps=40, learning_rate=5e-3)
    assert small.width == 32
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]
    store = ResultStore(tmp_path / "results")
    small.save(store.stage_dir("distill", "key") / "encoder")
    store.finish("distill", "key", {"projected_width": 32})
    fresh = encoder(**narrow)
    for _ in range(2):  # a second time changes nothing
        restore_distilled(fresh, store, "key")
    assert fresh.state_dict().keys() == small.state_dict().keys()
    for name, value in small.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name


# Runs


def test_strategies_and_seeds_share_a_start(tmp_path, monkeypatch):
    """The teacher is a folder, of another width and depth than the student."""
    model_folder.write(encoder(layers=1, architecture=ARCHITECTURE | {"vocab_size": 500}), tmp_path / "teacher", "")
    distilling = ["+distill@model.distill=default", "model.distill.teacher=teacher", "model.distill.steps=2"]
    for sampler in ("none", "hybrid"):
        code, _, err = inside(*TINY, *distilling, f"sampler={sampler}", "seed=1", cwd=tmp_path)
        assert code == 0, err
    assert err.count("  distill …") + err.count("  teach …") == 0
    none, hybrid = sorted(records(tmp_path), key=lambda record: record["choices"]["sampler"], reverse=True)
    for record in (none, hybrid):
        assert record["provenance"]["distillation"]["projected_width"] == 32
        assert set(record["provenance"]["leakage"]) == {"worldfacts"}
        assert record["choices"]["data"] == "worldfacts"
        assert 0 < record["metrics"]["worldfacts.mono.map"] < 1
    assert none["metrics"] != hybrid["metrics"]
    shutil.rmtree(tmp_path / "results/stages" / f"teach-{none['provenance']['stages']['teach']}")  # no longer needed
    monkeypatch.setattr("pipeline.parts.distill_texts", None)  # nor are its texts collected
    code, _, err = inside(*TINY, *distilling, "sampler=monolingual", "seed=1", cwd=tmp_path)
    assert (code, "  teach …" in err) == (0, False), err


def test_a_run_teaches_another(tmp_path):
    """Its weights are those that its own training left, on lines of a file."""
    code, _, err = inside(*TINY, "+distill@model.distill=default", *teaching(tmp_path), "sampler=none", cwd=tmp_path)
    assert code == 0, err
    (first,) = records(tmp_path)
    (tmp_path / "lines").write_text("\n".join(f"line number {n}" for n in range(120)))
    again = ["model.distill.teacher=" + first["name"], "model.distill.lines=lines", "model.distill.steps=2"]
    code, _, err = inside(*TINY, "+distill@model.distill=default", *again, "sampler=none", cwd=tmp_path)
    assert code == 0, err
    second = next(record for record in records(tmp_path) if record["name"] != first["name"])
    assert second["choices"]["data"] == "none"
    assert set(second["provenance"]["leakage"]) == {"lines"}


def teaching(folder):
    model_folder.write(encoder(architecture=ARCHITECTURE | {"vocab_size": 500}), folder / "teacher", "")
    return ["model.distill.teacher=teacher", "model.distill.steps=2"]


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("model.distill.steps=7", {"distill", "train", "encode", "rank"}),
        ("model.kept_layers=last", {"distill", "train", "encode", "rank"}),
        ("model.distill.teacher=another", {"teach", "distill", "train", "encode", "rank"}),
        ("model.distill.source_language=en", {"teach", "distill", "train", "encode", "rank"}),
        ("data.languages=[de]", {"teach", "distill", "train", "encode", "rank", "leakage"}),
        ("seed=1", {"train", "encode", "rank"}),
        ("sampler=monolingual", {"train", "encode", "rank"}),
        ("trainer.steps=7", {"train", "encode", "rank"}),
        ("model.distill.forward_tokens=64", set()),
        ("model.distill.log_every=3", set()),
    ],
)
def test_a_distillation_is_made_again_only_if_what_it_follows_from_changed(override, changes):
    stock = requested("model=e5-small-d2")
    other = requested("model=e5-small-d2", override)
    assert changed_stages(stock, other) == changes
    deeper = requested("model=e5-small-d3")
    assert stock.keys["teach"] == deeper.keys["teach"]  # all students have one teacher


def test_after_running_out_of_memory_the_student_has_fewer_tokens_too():
    request = requested("model=e5-small-d2")
    assert request.halved().distill == replace(request.distill, forward_tokens=1024, grad_cache=True)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.distill.source_language=xx", "source_language=xx: worldfacts is in de, en"),
        ("model.distill.lines=nowhere", "lines=nowhere: there is no such file"),
        ("model.distill.batch_size=100000", "batch_size=100000: worldfacts has"),
        ("model.distill.teacher=nobody/nothing", "nobody/nothing"),
        ("model.distill.teacher=null", "model.weights=random"),
        ("model.distill.sides=[]", "model.distill.sides"),
    ],
)
def test_what_cannot_teach_is_refused(tmp_path, override, says):
    code, _, err = inside(*TINY, "+distill@model.distill=default", override, "sampler=none", cwd=tmp_path)
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert says in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
