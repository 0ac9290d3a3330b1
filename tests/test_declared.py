"""Any model in sentence-transformers' format gives the embeddings that sentence-transformers gives, or is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import trainer_config
from tokenizers import processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from pipeline.encoder import model_folder, packaged
from pipeline.encoder.encoding import encode
from pipeline.encoder.head import POOLINGS
from pipeline.encoder.sources import load
from pipeline.groups import ModelConfig, Pooling, Precision
from pipeline.training.lora import lora_adapters
from pipeline.values import UserError

WORDS, WIDTH = 600, 32
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DECODER = SIZES | {"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 256, "pad_token_id": 1}
BACKBONES = {
    "bert": SIZES | {"max_position_embeddings": 128},  # MiniLM, LaBSE, mBERT
    "xlm-roberta": SIZES | {"max_position_embeddings": 130, "pad_token_id": 1},  # bge-m3 too
    "mpnet": SIZES | {"max_position_embeddings": 130, "pad_token_id": 1},
    "distilbert": {"dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 128},
    "modernbert": SIZES | {"max_position_embeddings": 128, "pad_token_id": 1, "local_attention": 16},
    "gemma3_text": DECODER | {"use_bidirectional_attention": True, "sliding_window": 16},
    "qwen2": DECODER,
    "qwen3": DECODER,
}
TEXTS = ["A river.", "Wie heißt die Hauptstadt von Frankreich?", " spaces  ", "水在零度结冰。 " * 40, "Это текст."]


def backbone(folder: Path, model_type: str, padding_side: str = "right") -> Path:
    """Write a transformer with random weights and its tokenizer; decoders' tokenizers add an end alone."""
    settings = BACKBONES[model_type]
    torch.manual_seed(1)
    model = AutoModel.from_config(AutoConfig.for_model(model_type, vocab_size=WORDS, **settings))
    with torch.no_grad():  # larger than at their start, so that texts differ
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    tokenizer = packaged.read().tokenizer(WORDS)
    if model_type.startswith("qwen"):
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side=padding_side, model_max_length=64, **names)
    fast.save_pretrained(folder)
    return folder


def published(folder, model_type, pooling="mean", dense=(), normalize=True, prompts=None, tokens=48, side="right"):
    """Return a sentence-transformers model, saved to `folder` by sentence-transformers itself."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    plain = backbone(folder.with_name(f"{folder.name}-plain"), model_type, side)
    modules = [Transformer(str(plain), max_seq_length=tokens), Pooling(WIDTH, pooling_mode=pooling)]
    width = WIDTH
    torch.manual_seed(2)
    for out, activation, bias in dense:
        modules.append(Dense(width, out, bias=bias, activation_function=activation))
        width = out
    modules += [Normalize()] if normalize else []
    model = SentenceTransformer(modules=modules, device="cpu", prompts=prompts)
    model.save(str(folder), create_model_card=False)
    return SentenceTransformer(str(folder), device="cpu")


def ours(folder, **changes):
    return load(ModelConfig(family="own", weights=str(folder), **changes), seed=0)


def assert_equal(encoder, theirs):
    for side, encoded in (("query", theirs.encode_query(TEXTS)), ("passage", theirs.encode_document(TEXTS))):
        np.testing.assert_allclose(encode(encoder, TEXTS, side), encoded, atol=1e-5, rtol=1e-4)
    assert np.std(theirs.encode_query(TEXTS), axis=0).max() > 1e-3  # texts differ


DENSE = {
    "none": (),
    "tanh": ((24, torch.nn.Tanh(), True),),
    "two": ((48, torch.nn.Identity(), False), (16, torch.nn.GELU(), True)),
}
PROMPTS = {"none": None, "both": {"query": "ask: ", "document": "text: "}, "passage": {"passage": "p: "}}


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("dense", DENSE)
def test_every_head_is_that_of_sentence_transformers(tmp_path, pooling, dense):
    for normalize, prompts in ((True, "none"), (False, "both"), (True, "passage")):
        folder = tmp_path / prompts
        theirs = published(folder, "bert", pooling, DENSE[dense], normalize, PROMPTS[prompts])
        encoder = ours(folder)
        assert_equal(encoder, theirs)
        assert encoder.unit is normalize
        assert encoder.overridden == []


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("model_type", BACKBONES)
def test_every_backbone_gives_the_vectors_of_sentence_transformers(tmp_path, model_type, side):
    pooling = "lasttoken" if model_type.startswith("qwen") else "mean"
    prompts = {"query": "Instruct: find\nQuery:", "document": ""}
    if side == "left" and pooling == "mean" and model_type != "gemma3_text":
        pytest.skip("positions are absolute: left padding is for decoders")
    theirs = published(tmp_path / "model", model_type, pooling, DENSE["two"], prompts=prompts, side=side)
    assert_equal(ours(tmp_path / "model"), theirs)


@pytest.mark.parametrize("model_type", BACKBONES)
def test_fewer_layers_are_the_exit_of_the_whole(tmp_path, model_type):
    folder = backbone(tmp_path, model_type)
    whole, truncated = ours(folder), ours(folder, layers=1)
    ids_NT, mask_NT = whole.pad(whole.tokenize(TEXTS, "passage"))
    with torch.inference_mode():
        at_exit = whole.at_layers(ids_NT, mask_NT, [1])[:, 0]
        torch.testing.assert_close(at_exit, truncated(ids_NT, mask_NT), atol=1e-5, rtol=0)


def test_a_folder_without_modules_is_a_plain_transformer(tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = backbone(tmp_path / "plain", "xlm-roberta")
    assert_equal(ours(folder), SentenceTransformer(str(folder), device="cpu"))


def test_lengths_and_lower_case_are_those_of_the_folder(tmp_path):
    theirs = published(tmp_path / "model", "bert", tokens=12)
    path = tmp_path / "model/sentence_bert_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_lower_case": True}))
    encoder = ours(tmp_path / "model")
    assert encoder.max_tokens == {"query": 12, "passage": 12}
    assert len(encoder.tokenize(TEXTS, "passage")[3]) == 12
    assert encoder.tokenize(["RIVER"], "query") == encoder.tokenize(["river"], "query")
    assert theirs.max_seq_length == 12


def test_what_the_config_says_wins_and_is_said(tmp_path):
    """The kind of FINDINGS F1: a folder that declares CLS and prompts, read by a config that says otherwise."""
    theirs = published(tmp_path / "model", "bert", "cls", prompts={"query": "ask: ", "document": "text: "})
    own = ours(tmp_path / "model")
    assert_equal(own, theirs)
    changed = ours(tmp_path / "model", pooling=Pooling.mean, query_prefix="query: ", max_passage_tokens=20)
    assert changed.prefixes == {"query": "query: ", "passage": "text: "}
    assert changed.max_tokens == {"query": 48, "passage": 20}
    assert changed.overridden == [
        "model.pooling='mean'; the model's own files say 'cls'.",
        "model.query_prefix='query: '; the model's own files say 'ask: '.",
    ]
    cosine = encode(own, TEXTS, "query") @ encode(changed, TEXTS, "query").T
    assert np.diag(cosine).min() < 0.99


def test_bfloat16_weights_take_two_bytes(tmp_path):
    folder = backbone(tmp_path, "qwen3")
    exact, coarse = (
        ours(folder, normalize=True, precision=precision) for precision in Precision if precision.value > 1
    )
    assert {value.dtype for value in coarse.backbone.parameters()} == {torch.bfloat16}
    cosine = np.sum(encode(exact, TEXTS, "query") * encode(coarse, TEXTS, "query"), axis=1)
    assert 0.99 < cosine.min() < 1 - 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"modules.json": "replace:Normalize->LSTM"},
            r"modules\.json lists the modules Transformer, Pooling, Dense, LSTM",
        ),
        ({"1_Pooling/config.json": {"pooling_mode": ["cls", "mean"]}}, r"config\.json pools by cls and mean; here it"),
        ({"1_Pooling/config.json": {"include_prompt": False}}, r"config\.json leaves prompts out of pooling"),
        ({"2_Dense/config.json": {"activation_function": "os.system"}}, r"activation_function=os\.system is not among"),
        ({"2_Dense/config.json": {"out_features": 5}}, r"are not those of its config\.json, \(5, 32\)"),
        ({"2_Dense/model.safetensors": None}, r"the dense layer in .*2_Dense cannot be loaded"),
        ({"config_sentence_transformers.json": {"similarity_fn_name": "euclidean"}}, r"similarity_fn_name=euclidean"),
    ],
)
def test_what_this_encoder_does_not_have_is_one_sentence(tmp_path, change, message):
    folder = tmp_path / "model"
    published(folder, "bert", dense=DENSE["tanh"], prompts=PROMPTS["both"])
    for name, content in change.items():
        path = folder / name
        if content is None:
            path.unlink()
        elif isinstance(content, str):
            before, after = content.removeprefix("replace:").split("->")
            path.write_text(path.read_text().replace(before, after))
        else:
            path.write_text(json.dumps(json.loads(path.read_text()) | content))
    with pytest.raises(UserError, match=rf"^model\.weights: .*{message}"):
        ours(folder)


def test_an_unnormalized_inner_product_is_refused(tmp_path):
    published(tmp_path / "model", "bert", normalize=False)
    path = tmp_path / "model/config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"similarity_fn_name": "dot"}))
    with pytest.raises(UserError, match=r"similarity_fn_name=dot: retrieval here compares by cosine"):
        ours(tmp_path / "model")


def test_a_dense_layer_in_a_pickle_is_read_without_running_code(tmp_path):
    """As older folders hold it."""
    from safetensors.torch import load_file

    theirs = published(tmp_path / "model", "bert", dense=DENSE["tanh"])
    path = tmp_path / "model/2_Dense/model.safetensors"
    torch.save(load_file(path), path.with_name("pytorch_model.bin"))
    path.unlink()
    assert_equal(ours(tmp_path / "model"), theirs)
    path.with_name("pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UserError, match=r"the dense layer in .*2_Dense cannot be loaded"):
        ours(tmp_path / "model")


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path):
    """FINDINGS F3: not in the middle of a run, and only if a text has the token."""
    folder = backbone(tmp_path, "bert")
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": WORDS - 1}
    model = AutoModel.from_config(AutoConfig.for_model(**config))
    model.save_pretrained(folder)
    with pytest.raises(UserError, match=rf"tokenizer\.json has the id {WORDS - 1}, but there are {WORDS - 1} word"):
        ours(folder)


def test_an_encoder_decoder_is_refused(tmp_path):
    folder = backbone(tmp_path, "bert")
    config = AutoConfig.for_model("t5", vocab_size=WORDS, d_model=16, d_ff=16, num_layers=1, num_heads=2)
    config.save_pretrained(folder)
    with pytest.raises(UserError, match=r"cannot be loaded: it is an encoder-decoder, t5, and encoders alone"):
        ours(folder)


@pytest.mark.parametrize("model_type", BACKBONES)
def test_adapters_find_their_layers_in_every_architecture(tmp_path, model_type):
    pytest.importorskip("peft")
    encoder = ours(backbone(tmp_path, model_type))
    with lora_adapters(encoder, 2, seed=0):
        trained = [name for name, value in encoder.backbone.named_parameters() if value.requires_grad]
        assert trained
        assert all("lora_" in name for name in trained)


@pytest.mark.parametrize("dense", ["none", "two"])
def test_an_export_is_read_by_sentence_transformers_as_it_was(tmp_path, dense):
    published(tmp_path / "model", "bert", "lasttoken", DENSE[dense], prompts=PROMPTS["both"])
    encoder = ours(tmp_path / "model")
    shutil.rmtree(tmp_path / "model")
    model_folder.write(encoder, tmp_path / "exported", "card")
    from sentence_transformers import SentenceTransformer

    assert_equal(encoder, SentenceTransformer(str(tmp_path / "exported"), device="cpu"))
    assert_equal(ours(tmp_path / "exported"), SentenceTransformer(str(tmp_path / "exported"), device="cpu"))


def test_a_dense_head_trains(tmp_path):
    from functools import partial

    from tiny import corpus

    from pipeline.sampling.hybrid import Hybrid
    from pipeline.sampling.strategy import Corpus, batches
    from pipeline.training.checkpoints import latest
    from pipeline.training.fit import fit

    published(tmp_path / "model", "bert", dense=DENSE["tanh"], normalize=False)
    torch.set_num_threads(1)
    encoder, data, trainer = ours(tmp_path / "model"), corpus(), trainer_config(steps=3)
    before = {name: value.clone() for name, value in encoder.head.state_dict().items()}
    draw = partial(batches, Hybrid(), Corpus(data.languages, data.available_NL), trainer.batch_size, seed=0)
    curve, _ = fit(encoder, data, draw, draw, trainer, folder=tmp_path / "train", device="cpu", seed=0)
    assert all(np.isfinite(point["loss"]) for point in curve)
    for name, value in encoder.head.state_dict().items():
        assert not torch.equal(value, before[name])
        assert torch.equal(value, latest(tmp_path / "train").weights[f"head.{name}"])
    encoder.save(tmp_path / "trained")
    fresh = ours(tmp_path / "model")
    fresh.restore(tmp_path / "trained")
    np.testing.assert_array_equal(encode(fresh, TEXTS, "query"), encode(encoder, TEXTS, "query"))
