"""Static tables: equal to Model2Vec's own distillation and to both libraries' encoding, by hand, and in a run."""

import json
import resource
import warnings
from fnmatch import fnmatch

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_cache_keys import requested
from tiny import train
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from pipeline.encoder import model_folder, packaged
from pipeline.encoder.deploy import deploy
from pipeline.encoder.encoding import as_unit, encode
from pipeline.encoder.sources import HUB_FILES, architecture_key, load
from pipeline.encoder.starts import of_run, started, static_teacher
from pipeline.encoder.static_start import distil
from pipeline.groups import ModelConfig, StaticConfig
from pipeline.launch.request import Request
from pipeline.parts import Evaluation, Parts, Trained
from pipeline.store.results import ResultStore
from pipeline.training.lora import lora_adapters
from pipeline.values import UserError, Variant

TEXTS = ["A river.", "the the river", "Wie heißt die Hauptstadt von Frankreich?", "水在零度结冰。", "it is 𓀀 here", "x"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def word_pieces():
    """BERT's kind of tokenizer: lower case, [unused1], unknown words."""
    words = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "river", "a", ".", "it", "is", "here"]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] + list("bcdefghijklmnopqrstuvwxyz")
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    ends = [("[CLS]", 3), ("[SEP]", 4)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer, {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "mask_token": "[MASK]"}


def bytes_pairs():
    """RoBERTa's kind: bytes, whose words begin with a space."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 9, trainer)
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return tokenizer, {"pad_token": "<pad>", "unk_token": "<unk>"}


def unigrams():
    """XLM-R's kind."""
    return packaged.read().tokenizer(800), {"pad_token": "<pad>", "unk_token": "<unk>"}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Folders of small random transformers, one per kind of tokenizer."""
    folders = {}
    for kind, make in {"wordpiece": word_pieces, "bytes": bytes_pairs, "unigram": unigrams}.items():
        folder = tmp_path_factory.mktemp(kind)
        tokenizer, names = make()
        torch.manual_seed(3)
        size = tokenizer.get_vocab_size()
        model = (
            BertModel(BertConfig(vocab_size=size, max_position_embeddings=64, **SIZES))
            if kind == "wordpiece"
            else RobertaModel(RobertaConfig(vocab_size=size, max_position_embeddings=66, pad_token_id=1, **SIZES))
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(folder)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
        folders[kind] = folder
    return folders


def config(folder, **changes):
    return ModelConfig(family="static", weights=str(folder), **changes)


def model2vec_distilled(folder, width, sif):
    """What the library makes of a teacher; it asks the hub for the languages of one, and warns that there is none."""
    from model2vec.distill import distill

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = distill(str(folder), pca_dims=width, sif_coefficient=sif, quantize_to="float32", device="cpu")
    # skeletoken 0.6.1 removes tokens before <unk> from XLM-R's vocabulary and leaves its number as it was, so Model2Vec
    # takes the full stop for unknown: its number is mended here.
    tokenizer = json.loads(model.tokenizer.to_str())
    if "unk_id" in tokenizer["model"]:
        tokenizer["model"]["unk_id"] = model.unk_token_id = model.tokenizer.token_to_id("<unk>")
        model.tokenizer = Tokenizer.from_str(json.dumps(tokenizer))
    return model


@pytest.mark.parametrize("sif", [1e-4, None])
@pytest.mark.parametrize("kind", ["wordpiece", "bytes", "unigram"])
def test_distilled_as_model2vec_distils(teachers, tmp_path, kind, sif):
    theirs = model2vec_distilled(teachers[kind], 8, sif)
    distil(static_teacher(config(teachers[kind])), StaticConfig(8, sif), tmp_path)
    ours = load(config(tmp_path), seed=0)
    np.testing.assert_allclose(encode(ours, TEXTS, "passage"), theirs.encode(TEXTS), atol=1e-5)
    # And each vector of the table, which the mean of a text hides
    table, unknown = ours.backbone.embeddings.weight, theirs.unk_token_id
    rows = {token: theirs.embedding[n] for n, token in enumerate(theirs.tokens) if n != unknown}
    largest = np.abs(theirs.embedding).max()
    for token, vector_D in rows.items():
        np.testing.assert_allclose(table[ours.tokenizer.token_to_id(token)].detach(), vector_D, atol=1e-5 * largest)
    assert len(rows) >= ours.tokenizer.get_vocab_size() - 6  # all but special and unused ones


TABLE = torch.tensor([[9.0, 9.0], [3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])  # <unk> a b c


def word_level(**words):
    tokenizer = Tokenizer(models.WordLevel(words or {"<unk>": 0, "a": 1, "b": 2, "c": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def saved_by_model2vec(folder, **options):
    from model2vec import StaticModel

    model = StaticModel(TABLE.numpy(), word_level(), {"model_type": "model2vec"}, **options)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    ("text", "vector"),
    [
        ("a b", [0.6, 0.8]),  # the mean of (3, 0) and (0, 4) is (1.5, 2), of length 2.5
        ("a a a b", [9 / 97**0.5, 4 / 97**0.5]),  # (9, 4) / 4
        ("a zebra", [1, 0]),  # Model2Vec leaves unknown words out
        ("a c c", [1, 0]),
        ("zebra", [0, 0]),
        ("", [0, 0]),
    ],
)
def test_a_text_is_the_mean_of_its_tokens(tmp_path, text, vector):
    theirs = saved_by_model2vec(tmp_path, normalize=True)
    ours = load(config(tmp_path), seed=0)
    assert encode(ours, [text], "query")[0].tolist() == pytest.approx(vector, abs=1e-6)
    assert theirs.encode([text])[0].tolist() == pytest.approx(vector, abs=1e-6)


def test_vectors_that_are_not_normalized_keep_the_mean(tmp_path):
    saved_by_model2vec(tmp_path, normalize=False)
    ours = load(config(tmp_path), seed=0)
    emb_ND = encode(ours, ["a b", "zebra"], "query")
    assert emb_ND.tolist() == [[1.5, 2.0], [0.0, 0.0]]
    assert as_unit(ours, emb_ND).tolist() == [[np.float32(0.6), np.float32(0.8)], [0.0, 0.0]]


def test_model2vecs_mapping_and_weights(tmp_path):
    from model2vec import StaticModel

    rows, weights = np.array([[3.0, 0.0], [0.0, 4.0]], np.float32), np.array([1.0, 2.0, 0.5, 1.0])
    mapping = np.array([0, 0, 1, 1])
    theirs = StaticModel(rows, word_level(), {}, normalize=True, weights=weights, token_mapping=mapping)
    theirs.config["model_type"] = "model2vec"
    theirs.save_pretrained(tmp_path)
    ours = load(config(tmp_path), seed=0)
    np.testing.assert_allclose(ours.backbone.embeddings.weight.detach(), [[0, 0], [6, 0], [0, 2], [0, 4]])
    texts = ["a b", "b c c", "a zebra"]
    np.testing.assert_allclose(encode(ours, texts, "query"), theirs.encode(texts), atol=1e-6)


def test_model2vecs_length(tmp_path):
    saved_by_model2vec(tmp_path, max_length=2)
    assert dict(load(config(tmp_path), seed=0).max_tokens) == {"query": 2, "passage": 2}
    assert load(config(tmp_path, max_passage_tokens=7), seed=0).max_tokens["passage"] == 7


def sentence_transformer(folder, *modules, **options):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(modules=list(modules), device="cpu", **options)
    model.save(str(folder), create_model_card=False)
    return model


@pytest.mark.parametrize("normalize", [True, False])
def test_sentence_transformers_tables(tmp_path, normalize):
    """Its StaticEmbedding counts unknown tokens, and adds no special ones; ours are exported to it and read again."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    tokenizer, _ = word_pieces()
    torch.manual_seed(0)
    table = torch.randn(tokenizer.get_vocab_size(), 6)
    modules = [StaticEmbedding(tokenizer, embedding_weights=table), *([Normalize()] if normalize else [])]
    prompts = {"query": "it is ", "document": ""}
    theirs = sentence_transformer(tmp_path / "theirs", *modules, prompts=prompts)
    ours = load(config(tmp_path / "theirs"), seed=0)
    assert (ours.unit, ours.width, ours.max_tokens["query"]) == (normalize, 6, 1_000_000)
    np.testing.assert_allclose(encode(ours, TEXTS, "query"), theirs.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(encode(ours, TEXTS, "passage"), theirs.encode_document(TEXTS), atol=1e-5)
    for longest in (None, 3):
        again = load(config(tmp_path / "theirs", max_query_tokens=longest, max_passage_tokens=longest), seed=0)
        model_folder.write(again, tmp_path / f"ours-{longest}", "A card.")
        exported = SentenceTransformer(str(tmp_path / f"ours-{longest}"), device="cpu")
        for side, theirs_of in {"query": exported.encode_query, "passage": exported.encode_document}.items():
            np.testing.assert_allclose(encode(again, TEXTS, side), theirs_of(TEXTS), atol=1e-5)


def modules(folder, **paths):
    listed = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in paths.items()]
    (folder / "modules.json").write_text(json.dumps(listed))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), r"tokenizer\.json cannot be read as a tokenizer"),
        (lambda f: (f / "model.safetensors").write_bytes(b"no"), r"cannot be read as weights"),
        (lambda f: save_file({"other": TABLE}, f / "model.safetensors"), "holds no table of vectors"),
        (lambda f: save_file({"embeddings": TABLE[0].clone()}, f / "model.safetensors"), "holds no table of vectors"),
        (lambda f: save_file({"embeddings": TABLE[:3].clone()}, f / "model.safetensors"), "has the id 3, but .* 3 vec"),
        (
            lambda f: save_file({"embeddings": TABLE, "mapping": torch.tensor([0, 9, 1, 1])}, f / "model.safetensors"),
            "mapping or weights do not fit",
        ),
        (
            lambda f: save_file({"embeddings": TABLE, "weights": torch.ones(3)}, f / "model.safetensors"),
            "mapping or weights do not fit",
        ),
        (lambda f: modules(f, StaticEmbedding="", Dense="1"), "lists the modules StaticEmbedding, Dense"),
        (lambda f: modules(f, StaticEmbedding="../y"), "is not in its folder"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_table_is_one_sentence(tmp_path, change, sentence):
    saved_by_model2vec(tmp_path)
    change(tmp_path)
    with pytest.raises(UserError, match=f"^model.weights: .*{sentence}"):
        load(config(tmp_path), seed=0)


def test_layers_of_a_table(tmp_path):
    saved_by_model2vec(tmp_path)
    with pytest.raises(UserError, match=r"^model\.layers=1: the model has 0 layers\.$"):
        load(config(tmp_path, layers=1), seed=0)


def test_what_a_teacher_cannot_be(teachers, tmp_path):
    saved_by_model2vec(tmp_path)
    with pytest.raises(UserError, match=r"^model\.static: the teacher is a static table itself"):
        distil(static_teacher(config(tmp_path)), StaticConfig(2, None), tmp_path / "new")
    for width in (33, 40):
        with pytest.raises(UserError, match=rf"^model\.static\.width={width} is too large for the teacher: .* 32 dim"):
            distil(static_teacher(config(teachers["wordpiece"])), StaticConfig(width, None), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def table(teachers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    distil(static_teacher(config(teachers["unigram"])), StaticConfig(8, 1e-4), folder)
    return folder


@pytest.mark.parametrize(
    ("backend", "precision", "tolerance"),
    [("eager", "float32", 0), ("eager", "bfloat16", 0.02), ("onnx", "float32", 1e-6)],
)
def test_deployed(table, monkeypatch, backend, precision, tolerance):
    monkeypatch.setattr("pipeline.encoder.deploy.has_bfloat16", lambda device: True)
    encoder, variant = load(config(table), seed=0), Variant(backend, precision)
    texts = [*TEXTS, ""]
    expected, got = encode(encoder, texts, "query"), encode(deploy(encoder, variant), texts, "query")
    np.testing.assert_allclose(got, expected, atol=tolerance)
    assert encode(deploy(encoder, variant), [""], "query").tolist() == [[0.0] * 8]


def test_int8_of_linear_layers_is_refused(table):
    with pytest.raises(UserError, match=r"^variants: backend=eager precision=int8 .* a table has none\.$"):
        deploy(load(config(table), seed=0), Variant("eager", "int8"))


def test_trained_as_any_encoder(table, tmp_path):
    encoder, training = load(config(table), seed=0), {"steps": 30, "learning_rate": 0.05, "grad_cache": True}
    before = encoder.backbone.embeddings.weight.detach().clone()
    trained, curve, _ = train(tmp_path / "checkpoints", model=encoder, **training)
    assert curve[-1]["loss"] < 0.7 * curve[0]["loss"]
    moved = (trained.backbone.embeddings.weight - before).abs().amax(1) > 0.01
    assert 5 < moved.sum() < len(moved) / 2  # the tokens of its texts
    trained.save(tmp_path)
    again = load(config(table), seed=0)
    again.restore(tmp_path)
    np.testing.assert_array_equal(encode(again, TEXTS, "query"), encode(trained, TEXTS, "query"))


def test_what_a_table_cannot_be_trained_with(table, tmp_path):
    with pytest.raises(UserError, match=r"^trainer\.exit_layers: 1 is not below the encoder's last layer, 0\.$"):
        train(tmp_path, model=load(config(table), seed=0), exit_layers=[1])
    with pytest.raises(UserError, match=r"^trainer\.lora_rank=2"), lora_adapters(load(config(table), seed=0), 2, 0):
        pass


def test_random_numbers_for_costs():
    architecture = {"model_type": "static", "vocab_size": 1000, "hidden_size": 16}
    encoder = load(ModelConfig(family="static", weights="random", architecture=architecture), seed=0)
    key = architecture_key(encoder)
    assert (key["model_type"], key["num_hidden_layers"], key["parameters"]) == ("static", 0, 16_000)


def static_request(tmp_path, teachers, *overrides):
    weights = f"model.weights={teachers['unigram']}"
    length = ["model=static-e5-small", "model.static.width=8", weights, "profile=off", f"results_dir={tmp_path}"]
    return requested(*length, "eval.worldfacts.languages=[en,de]", *overrides)


def test_all_strategies_and_seeds_share_the_start(tmp_path, teachers):
    stock = static_request(tmp_path, teachers, "sampler=none")
    for override in ("sampler=hybrid", "seed=1", "model.max_query_tokens=9", "trainer.steps=3"):
        other = static_request(tmp_path, teachers, override)
        assert other.keys["static"] == stock.keys["static"]
        assert other.keys["train"] != stock.keys["train"] or override in ("seed=1", "trainer.steps=3")
    for override in ("model.static.width=9", "model.static.sif=0.1", "model.static.sif=null", "model.layers=1"):
        other = static_request(tmp_path, teachers, override)
        assert other.keys["static"] != stock.keys["static"]
        assert other.keys["train"] != static_request(tmp_path, teachers).keys["train"]
    assert "static" not in requested().keys
    assert "static" not in static_request(tmp_path, teachers, "model.weights=random", "sampler=none").keys


def test_a_run_distils_once_and_is_exported_and_taught_from(tmp_path, teachers, capfd):
    """Two runs of one start; a finished run's folder names its encoder, here as a teacher."""
    request = static_request(tmp_path / "results", teachers, "sampler=none")
    parts = Parts(Request.from_json(request.to_json()))
    again = Parts(request)
    assert capfd.readouterr().err.count("static …") == 1
    assert parts.provenance["layers"] == 0
    store = ResultStore(tmp_path / "results")
    np.testing.assert_array_equal(encode(parts.encoder, TEXTS, "query"), encode(again.encoder, TEXTS, "query"))
    model = started(request.config.model, store, request.keys)
    assert model.static is None
    assert (parts.encoder.max_tokens["query"], parts.encoder.prefixes["query"]) == (64, "")
    record = parts.record(Variant(), Trained(), Evaluation(), None)
    assert record.provenance["kind"] == "static"
    store.save(record)
    np.testing.assert_array_equal(encode(of_run(store, record), TEXTS, "query"), encode(again.encoder, TEXTS, "query"))
    run = tmp_path / "results/runs" / record.name
    of_the_run = static_teacher(config(run, static=StaticConfig(4, None)))
    np.testing.assert_array_equal(encode(of_the_run, TEXTS, "query"), encode(again.encoder, TEXTS, "query"))
    with pytest.raises(UserError, match=r"^model\.layers=2: .* is a run"):
        static_teacher(config(run, layers=2))


def test_a_table_that_was_half_written_is_distilled_again(tmp_path, teachers):
    """The disk is full in the middle of the largest file, which leaves what a kill at that moment does."""
    request = static_request(tmp_path / "results", teachers, "sampler=none")
    store, limits = ResultStore(tmp_path / "results"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # bytes, of any file
    try:
        with pytest.raises(Exception, match="File too large"):
            Parts(request)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = store.stage_dir("static", request.keys["static"])
    half = [path for path in folder.iterdir() if path.stat().st_size == 20_000]
    assert half
    assert store.outcome("static", request.keys["static"]) is None
    again = Parts(request).encoder
    assert store.outcome("static", request.keys["static"]) is not None
    whole = Parts(static_request(tmp_path / "whole", teachers, "sampler=none")).encoder
    np.testing.assert_array_equal(encode(again, TEXTS, "query"), encode(whole, TEXTS, "query"))
    assert all(path.stat().st_size > 20_000 for path in half)


def test_the_hub_is_asked_for_the_files_of_both_layouts():
    for name in (
        "model.safetensors",
        "tokenizer.json",
        "config.json",
        "modules.json",
        "0_StaticEmbedding/tokenizer.json",
    ):
        assert any(fnmatch(name, pattern) for pattern in HUB_FILES)
    assert any(fnmatch("0_StaticEmbedding/model.safetensors", pattern) for pattern in HUB_FILES)
