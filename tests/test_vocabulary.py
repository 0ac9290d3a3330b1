"""Trimmed vocabularies: the texts that they are counted on have the pieces and vectors that they had."""

import gzip
import json

import numpy as np
import pytest
from command import PACKAGED, inside, records
from test_config import composed
from tiny import encoder as tiny_encoder
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pipeline import config
from pipeline.encoder import packaged
from pipeline.encoder.encoding import encode
from pipeline.encoder.vocabulary import read, trim_tokenizer
from pipeline.groups import VocabularyConfig
from pipeline.launch.request import make_request
from pipeline.values import UserError

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
SCORED = [("▁", -3), ("a", -4), ("b", -4.5), ("▁ab", -2), ("abab", -3.5), ("▁ba", -2.5), ("ba", -9), ("<mask>", 0)]
TEXTS = ["the cat sat on the mat", "Wer war das?", "ein Text mit Wörtern"]


def by_hand() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram([*((token, 0.0) for token in SPECIAL), *SCORED], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens([*SPECIAL, "<mask>"])
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return tokenizer


def test_pieces_by_hand():
    """Of "ab": its one piece, the special tokens, the single characters, and "ba", whose score is the lowest."""
    whole = by_hand()
    trimmed, kept = trim_tokenizer(whole, ["ab"], {0, 1})
    assert kept == [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]
    assert [trimmed.id_to_token(number) for number in range(10)] == [
        *SPECIAL, "▁", "a", "b", "▁ab", "ba", "<mask>",
    ]  # fmt: skip
    assert trimmed.encode("ab <mask> c").tokens == whole.encode("ab <mask> c").tokens
    assert trimmed.encode("ab <mask> c").ids == [0, 7, 4, 9, 4, 3, 2]
    assert (whole.encode("ba").tokens, trimmed.encode("ba").tokens) == (
        ["<s>", "▁ba", "</s>"], ["<s>", "▁", "b", "a", "</s>"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")), "a tokenizer with WordPiece cannot"),
        (lambda t: setattr(t, "post_processor", processors.ByteLevel()) or t, "a tokenizer with ByteLevel cannot"),
    ],
)
def test_another_kind_of_tokenizer_is_refused(change, message):
    with pytest.raises(UserError, match=f"^model.vocabulary: {message} be trimmed"):
        trim_tokenizer(change(by_hand()), ["ab"])


def test_a_named_token_that_would_move_is_refused():
    with pytest.raises(UserError, match="its special tokens are not its first"):
        trim_tokenizer(by_hand(), ["ab"], {11})


@pytest.fixture
def folder(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "en.txt").write_text("\n".join(TEXTS[:1]) + "\n\n", encoding="utf-8")
    (texts / "de.txt.gz").write_bytes(gzip.compress("\n".join(TEXTS[1:]).encode()))
    return texts


def test_texts_are_the_lines_of_the_languages(folder):
    assert list(read(VocabularyConfig(["en", "de"], str(folder)))) == TEXTS


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (["en", "fi"], r"model.vocabulary.path=.*: it has no fi.txt or fi.txt.gz\."),
        (["../en"], "model.vocabulary.languages: '../en' is not the name of a language"),
    ],
)
def test_texts_that_are_missing_are_refused(folder, languages, message):
    with pytest.raises(UserError, match=r"^model.vocabulary.path=null: it must name the folder"):
        list(read(VocabularyConfig(languages)))
    with pytest.raises(UserError, match=f"^{message}"):
        list(read(VocabularyConfig(languages, str(folder))))


@pytest.mark.parametrize("frozen", [False, True])
def test_the_texts_have_the_vectors_that_they_had(folder, frozen):
    whole = tiny_encoder(freeze_word_embeddings=frozen)
    trimmed = tiny_encoder(freeze_word_embeddings=frozen, vocabulary=VocabularyConfig(["en", "de"], str(folder)))
    rows = trimmed.backbone.get_input_embeddings().num_embeddings
    assert rows == trimmed.backbone.config.vocab_size == trimmed.tokenizer.get_vocab_size() < 600
    assert trimmed.backbone.get_input_embeddings().weight.requires_grad is not frozen
    assert trimmed.overridden == [f"The vocabulary was trimmed to {rows} of 1,000 pieces, by texts in en, de."]
    for side in ("query", "passage"):
        np.testing.assert_array_equal(encode(trimmed, TEXTS, side), encode(whole, TEXTS, side))


def test_real_texts_are_segmented_as_before(shared_data):
    """Passages of MIRACL in four languages, and in a fifth that the vocabulary was not counted on."""

    def texts(language):
        (file,) = (shared_data / f"miracl-pool/miracl-corpus-v1.0-{language}").glob("*.gz")
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            return [json.loads(line)["text"] for line, _ in zip(stream, range(150), strict=False)]

    whole = packaged.read().tokenizer(250_037)
    counted = [text for language in ("en", "de", "es", "ar") for text in texts(language)]
    trimmed, kept = trim_tokenizer(whole, counted)
    assert 15_000 < len(kept) < 40_000
    as_before, now = whole.encode_batch(counted), trimmed.encode_batch(counted)
    assert [row.tokens for row in now] == [row.tokens for row in as_before]
    assert [[kept[number] for number in row.ids] for row in now] == [row.ids for row in as_before]
    others = texts("th")
    unknown = [sum(row.ids.count(3) for row in each.encode_batch(others)) for each in (whole, trimmed)]
    assert unknown[0] == unknown[1]


@pytest.mark.slow
def test_a_run_and_its_export(folder, tmp_path):
    """Notes, parameters, and an exported folder that is as small; texts that changed since are refused."""
    vocabulary = ["model.vocabulary.languages=[en,de]", f"model.vocabulary.path={folder}"]
    code, _, err = inside(*PACKAGED, "sampler=none", *vocabulary, cwd=tmp_path)
    assert code == 0, err
    (record,) = records(tmp_path)
    assert record["notes"][0].endswith("of 250,002 pieces, by texts in en, de.")
    assert record["provenance"]["parameters"] < 10_000_000
    code, _, err = inside(record["name"], "to=exported", cwd=tmp_path, module="pipeline.export")
    assert code == 0, err
    from sentence_transformers import SentenceTransformer

    exported = SentenceTransformer(str(tmp_path / "exported"), device="cpu")
    model = config.from_plain(record["config"]).model
    from pipeline.encoder.sources import load

    expected = encode(load(model, seed=0), [*TEXTS, "ทดสอบ"], "passage")
    np.testing.assert_allclose(exported.encode_document([*TEXTS, "ทดสอบ"]), expected, atol=1e-6)
    assert "The vocabulary was trimmed to" in (tmp_path / "exported/README.md").read_text()
    (folder / "en.txt").write_text("another text")
    code, _, err = inside(record["name"], "to=again", cwd=tmp_path, module="pipeline.export")
    assert (code, "its files are missing or not those of the run" in err) == (2, True)


def test_texts_and_languages_are_in_the_cache_keys(folder):
    def key(*overrides):
        request = make_request(config.check(composed(*overrides)), {"model": "m", "sampler": "s", "data": "d"})
        return request.keys["train"]

    path = f"model.vocabulary.path={folder}"
    both = ["model.vocabulary.languages=[en,de]", path]
    keys = [key(), key(*both), key("model.vocabulary.languages=[en]", path)]
    (folder / "en.txt").write_text("another text")
    assert len({*keys, key(*both)}) == 4
