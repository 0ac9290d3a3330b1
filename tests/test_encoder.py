"""The encoder and its sources: padding changes nothing, folders and the hub load, each refusal is one sentence."""

import json
import re
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import HubServer
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors.torch import load_file
from tiny import model_config
from transformers import PreTrainedTokenizerFast

from pipeline.encoder.model import Encoder
from pipeline.encoder.sources import architecture_key, load
from pipeline.groups import ModelConfig
from pipeline.values import UserError

CONF = Path(__file__).parents[1] / "conf"
SMALL = {"vocab_size": 1000, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
BERT = {"model_type": "bert", "num_hidden_layers": 2, "max_position_embeddings": 32, **SMALL}
XLMR = BERT | {"model_type": "xlm-roberta", "max_position_embeddings": 34, "pad_token_id": 1}
TEXTS = ["A river.", "Wie heißt die Hauptstadt von Frankreich?", "", "水在零度结冰。 " * 20]


def tiny(seed=0, **changes) -> Encoder:
    return load(model_config(**{"freeze_word_embeddings": False, "architecture": XLMR} | changes), seed=seed)


def embed(model: Encoder, texts: list[str], side="passage") -> np.ndarray:
    with torch.inference_mode():
        return model(*model.pad(model.tokenize(texts, side))).numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model in the hub's published format."""
    path, model = tmp_path_factory.mktemp("hub") / "models" / "owner" / "tiny", tiny(seed=5)
    model.backbone.save_pretrained(path)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=model.tokenizer, pad_token="<pad>", unk_token="<unk>")
    wrapped.save_pretrained(path)
    return path


def compose_model(name: str, **changes) -> ModelConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose(overrides=[f"+model={name}"]).model
    return replace(OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ModelConfig), node)), **changes)


@pytest.mark.parametrize("architecture", [BERT, XLMR], ids=["bert", "xlm-roberta"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_never_changes_an_embedding(architecture, pooling):
    model = tiny(architecture=architecture, pooling=pooling)
    together, single = embed(model, TEXTS), np.concatenate([embed(model, [text]) for text in TEXTS])
    np.testing.assert_allclose(together, single, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert together.dtype == np.float32
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_mean_pooling_by_hand():
    model = tiny()
    ids_NT, mask_NT = model.pad([[0, 7, 8, 2], [0, 9, 2]])
    assert ids_NT.tolist() == [[0, 7, 8, 2], [0, 9, 2, 1]]
    assert mask_NT.tolist() == [[True] * 4, [True] * 3 + [False]]
    with torch.inference_mode():
        hidden_TD = model.backbone(input_ids=torch.tensor([[0, 9, 2]])).last_hidden_state[0]
        expected_D = hidden_TD.mean(0) / hidden_TD.mean(0).norm()
        torch.testing.assert_close(model(ids_NT, mask_NT)[1], expected_D, atol=1e-6, rtol=0)


def test_tokenize_prefixes_strips_and_truncates_like_the_library():
    model = tiny()
    full = model.tokenizer.encode("query: a b c d e f g h i j").ids
    texts = [" ".join("abcdefghij"[:n]) for n in range(1, 11)]
    for max_tokens in (len(full) - 1, len(full), len(full) + 1):
        model.max_tokens["query"] = max_tokens
        rows = model.tokenize(texts, "query")
        model.tokenizer.enable_truncation(max_tokens)
        assert rows == [model.tokenizer.encode(f"query: {text}").ids for text in texts]
        model.tokenizer.no_truncation()
        assert len(rows[-1]) == min(max_tokens, len(full))
    assert model.tokenize(["  a b\n"], "passage") == [model.tokenizer.encode("passage: a b").ids]
    assert model.tokenize([""], "query") == [model.tokenizer.encode("query:").ids]


def test_random_weights_follow_the_seed_and_leave_the_global_random_state():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    same, other = tiny(seed=0), tiny(seed=1)
    assert torch.rand(1) == expected
    np.testing.assert_array_equal(embed(tiny(seed=0), TEXTS), embed(same, TEXTS))
    assert np.abs(embed(other, TEXTS) - embed(same, TEXTS)).max() > 1e-3


@pytest.mark.parametrize("frozen", [False, True])
def test_save_and_restore(tmp_path, frozen):
    trained, fresh = tiny(freeze_word_embeddings=frozen), tiny(freeze_word_embeddings=frozen)
    with torch.no_grad():
        for parameter in trained.parameters():
            if parameter.requires_grad:
                parameter += torch.randn_like(parameter) * 0.1
    trained.save(tmp_path / "checkpoint")
    assert np.abs(embed(trained, TEXTS) - embed(fresh, TEXTS)).max() > 1e-3
    fresh.restore(tmp_path / "checkpoint")
    np.testing.assert_array_equal(embed(trained, TEXTS), embed(fresh, TEXTS))
    saved = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert ("backbone.embeddings.word_embeddings.weight" in saved) is not frozen
    with pytest.raises(UserError, match=r"model\.safetensors holds the weights of another architecture"):
        tiny(freeze_word_embeddings=not frozen).restore(tmp_path / "checkpoint")


def test_restore_refuses_a_missing_and_a_truncated_file(tmp_path):
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read as weights"):
        tiny().restore(tmp_path)
    tiny().save(tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read as weights"):
        tiny().restore(tmp_path)


def test_a_save_that_fails_halfway_leaves_the_old_file(tmp_path, monkeypatch):
    def disk_full(*_):
        raise OSError(28, "No space left on device")

    tiny().save(tmp_path)
    monkeypatch.setattr("pipeline.store.files.sync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        tiny(seed=1).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    restored = tiny(seed=2)
    restored.restore(tmp_path)
    np.testing.assert_array_equal(embed(restored, TEXTS), embed(tiny(), TEXTS))


def test_a_folder_loads_as_it_was_saved(folder):
    np.testing.assert_array_equal(embed(tiny(weights=str(folder)), TEXTS), embed(tiny(seed=5), TEXTS))


def test_layers_keeps_the_first_layers(folder):
    full, first = tiny(weights=str(folder)), tiny(weights=str(folder), layers=1)
    assert len(first.backbone.encoder.layer) == 1
    state = full.backbone.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first.backbone.state_dict().items())


@pytest.mark.parametrize(
    "changes", [{"layers": 13, "weights": "packaged"}, {"layers": 3}, {"layers": 3, "weights": "folder"}]
)
def test_more_layers_than_the_model_has_are_refused(folder, changes):
    weights = str(folder) if changes.get("weights") == "folder" else changes.get("weights", "random")
    with pytest.raises(UserError, match=r"^model\.layers=\d+: the model has \d+ layers\.$"):
        tiny(**changes | {"weights": weights})


@pytest.mark.parametrize("tokens", [32, 33])
def test_more_tokens_than_positions_are_refused(tokens):
    if tokens == 32:
        assert embed(tiny(), TEXTS).shape == (4, 32)  # the last text fills all 32 positions
    else:
        with pytest.raises(UserError, match=r"^model\.max_passage_tokens=33: tiny takes at most 32 tokens\.$"):
            tiny(max_passage_tokens=tokens)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_folder_with_a_missing_or_broken_file_is_refused(folder, tmp_path, name):
    shutil.copytree(folder, tmp_path / "model")
    broken = tmp_path / "model" / name
    broken.write_bytes(broken.read_bytes()[:-9])
    with pytest.raises(
        UserError,
        match=rf"^model\.weights: the model in {tmp_path / 'model'} cannot be loaded: |^model\.weights: .*broken JSON",
    ):
        tiny(weights=str(tmp_path / "model"))
    broken.unlink()
    with pytest.raises(UserError, match=rf"^model\.weights: {broken} is missing\.$"):
        tiny(weights=str(tmp_path / "model"))


def test_weights_of_another_architecture_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"lacks the weights encoder\.layer\.2\."):
        tiny(weights=str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ({}, "Unrecognized model identifier"),  # no model_type
        (XLMR | {"hidden_sise": 8}, "unknown key hidden_sise"),
        (XLMR | {"num_attention_heads": 5}, "not a multiple"),
        (XLMR | {"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_impossible_architectures_are_refused(architecture, reason):
    with pytest.raises(UserError, match=rf"^model\.architecture: .*{reason}"):
        tiny(architecture=architecture)


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """A hub on loopback that has the model `owner/tiny`, and an empty cache."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with HubServer(folder.parents[2]) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
        url = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
        yield server


def test_the_hub_is_asked_once_and_its_cache_works_without_it(hub, monkeypatch):
    expected = embed(tiny(seed=5), TEXTS)
    np.testing.assert_array_equal(embed(tiny(weights="owner/tiny"), TEXTS), expected)
    assert {path for method, path, _ in hub.requests if method == "GET"} >= {"api/models/owner/tiny"}
    hub.requests.clear()
    np.testing.assert_array_equal(embed(tiny(weights="owner/tiny"), TEXTS), expected)
    assert [path for method, path, _ in hub.requests if method == "GET"] == ["api/models/owner/tiny"]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # where nobody answers
    np.testing.assert_array_equal(embed(tiny(weights="owner/tiny"), TEXTS), expected)


WAY_OUT = (
    r", or set model\.weights to a local folder that holds the model, or model.weights=random for a cost-only run\.$"
)


@pytest.mark.parametrize(
    ("weights", "revision", "reason"),
    [
        ("owner/huge", None, "owner/huge: no such repository, or a private one: set HF_TOKEN"),
        ("owner/tiny", "v9", "owner/tiny: the repository has no revision v9: correct it"),
        ("../missing/folder", None, "../missing/folder is neither a local folder nor a repository's name: correct it"),
    ],
)
def test_a_model_that_the_hub_lacks_is_one_sentence(hub, weights, revision, reason):
    with pytest.raises(UserError, match=f"^{re.escape(reason)}{WAY_OUT}"):
        tiny(weights=weights, revision=revision)


def test_a_model_folder_without_weights_is_one_sentence(hub, folder):
    other = folder.with_name("other")
    other.mkdir()
    (other / "README.md").write_text("nothing else")
    with pytest.raises(UserError, match=rf"^owner/other has no file config\.json, .*{WAY_OUT}"):
        tiny(weights="owner/other")
    shutil.rmtree(other)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_model_is_refused_and_not_kept(hub, name):
    hub.damaged.add(f"models/owner/tiny/{name}")
    with pytest.raises(UserError, match=rf"^owner/tiny/{name} arrived damaged .* run again{WAY_OUT}"):
        tiny(weights="owner/tiny")
    hub.damaged.clear()
    np.testing.assert_array_equal(embed(tiny(weights="owner/tiny"), TEXTS), embed(tiny(seed=5), TEXTS))


UNREACHABLE = rf"^owner/tiny is not in the cache and .* is not reachable: connect, set HF_ENDPOINT to a mirror{WAY_OUT}"


def test_an_unreachable_hub_is_one_sentence(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=UNREACHABLE):
        tiny(weights="owner/tiny")


def test_a_silent_hub_is_given_up(hub, monkeypatch):
    monkeypatch.setattr("pipeline.data.hub.ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(UserError, match=UNREACHABLE):
            tiny(weights="owner/tiny")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("e5-small", 117_505_920),
        ("e5-base", 277_453_056),
        ("e5-large", 558_840_832),
        ("xlmr-base", 277_453_056),
        ("xlmr-large", 558_840_832),
        ("labse", 470_926_848),  # with the dense layer
        ("mbert", 177_262_848),
        ("bge-m3", 566_705_152),
        ("embeddinggemma-300m", 307_581_696),
        ("qwen3-embedding-0.6b", 595_776_512),
        ("qwen3-embedding-4b", 4_021_774_336),
        ("qwen3-embedding-8b", 7_567_295_488),
    ],
)
def test_every_published_model_can_be_random(name, parameters):
    model = compose_model(name, weights="random")
    with torch.device("meta"):  # shapes only: no memory, no time
        loaded = load(model, seed=0)
    assert sum(value.numel() for value in loaded.parameters()) == parameters
    assert loaded.backbone.config._attn_implementation == "sdpa"
    assert loaded.tokenizer.get_vocab_size() == min(250_002, loaded.backbone.config.vocab_size)
    assert model.family == name


PUBLISHED = {  # in mteb's registry of models; ModernBERT's on the models' own pages
    **{"bge-m3": 568_000_000, "arctic-embed-l-v2": 567_754_752, "granite-107m": 106_994_304},
    **{"granite-278m": 278_043_648, "embeddinggemma-300m": 307_581_696, "qwen3-embedding-0.6b": 595_776_512},
    **{"qwen3-embedding-4b": 4_021_774_336, "qwen3-embedding-8b": 7_567_295_488, "labse": 470_926_848},
    **{"paraphrase-minilm-l12": 118_000_000, "paraphrase-mpnet-base": 278_000_000, "e5-small": 118_000_000},
    **{"e5-base": 278_044_162, "e5-large": 559_890_946, "distiluse-multilingual": 135_000_000},
    **{"mmbert-base": 307_000_000, "mmbert-small": 140_000_000},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_published_within_a_hundredth(name):
    with torch.device("meta"):
        encoder = load(compose_model(name, weights="random"), seed=0)
    count = sum(value.numel() for value in encoder.parameters())
    assert count == pytest.approx(PUBLISHED[name], rel=0.01)


def test_the_weights_of_an_8b_model_take_two_bytes_each():
    with torch.device("meta"):
        encoder = load(compose_model("qwen3-embedding-8b", weights="random"), seed=0)
    assert sum(value.nbytes for value in encoder.parameters()) < 16 * 10**9


def test_key_is_equal_for_all_weights_of_an_architecture():
    packaged = load(compose_model("e5-small-l3"), seed=0)
    with torch.device("meta"):
        published = load(compose_model("e5-small", weights="random", layers=3), seed=1)
    key = architecture_key(packaged)
    assert key == architecture_key(published)
    assert key["tokenizer"] == "Unigram of 250002 pieces"
    json.dumps(key)
    different = tiny(query_prefix=""), tiny(max_query_tokens=8), tiny(layers=1), tiny()
    assert len({json.dumps(architecture_key(model)) for model in different}) == 4
