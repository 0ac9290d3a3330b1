"""sentencepiece reads texts as `tokenizers` does, for tokenizers of XLM-R's kind; others keep `tokenizers`."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_encoder import compose_model
from tokenizers import Tokenizer, models

from pipeline.encoder import deployed, packaged, sentencepieces
from pipeline.encoder.deploy import save
from pipeline.encoder.reading import Reading
from pipeline.encoder.sources import load
from pipeline.values import Variant

PREFIXES = {"query": "query: ", "passage": "passage: "}
WORDS = ["river", "Wie", "heißt", "水在零度结冰。", "แม่น้ำ", "สายนี้", "Ποιος", "đường", "נהר", "الأنهار", "नदी"]
WORDS += ["ﬁne", "①", "👍🏽", "\u3000", "--", "1,000.5"]


@pytest.fixture(scope="module")
def tokenizer():
    return packaged.read().tokenizer(250_002)


@pytest.fixture(scope="module")
def pieces(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("pieces") / sentencepieces.FILE
    path.write_bytes(sentencepieces.convert(tokenizer))
    return sentencepieces.Pieces(path)


def readers(tokenizer, pieces, tokens):
    """A reader by each library."""
    both = Reading(), Reading()
    for reader, library in zip(both, (tokenizer, pieces), strict=True):
        reader.read_with(library, 1, PREFIXES, {"query": tokens, "passage": tokens})
    return both


@given(words=st.lists(st.sampled_from(WORDS) | st.text("abc xyz", max_size=8), max_size=30), tokens=st.integers(8, 64))
def test_ids_are_those_of_tokenizers(tokenizer, pieces, words, tokens):
    """With both special tokens, and the closing one where a text is truncated."""
    ours, theirs = (reader.tokenize([" ".join(words), ""], "query") for reader in readers(tokenizer, pieces, tokens))
    assert ours == theirs
    assert all(row[0] == 0 and row[-1] == 2 and len(row) <= tokens for row in ours)


def test_ids_of_real_texts(tokenizer, pieces, shared_data):
    """But for segmentations of equal score, of which these 13,000 texts may have one or two."""
    texts = []
    for path in sorted((shared_data / "xquad-r").glob("*.json")):
        for article in json.loads(path.read_text())["data"]:
            for paragraph in article["paragraphs"]:
                texts += [paragraph["context"], *(each["question"] for each in paragraph["qas"])]
    assert len(texts) > 13_000
    ours, theirs = (reader.tokenize(texts, "passage") for reader in readers(tokenizer, pieces, 512))
    differ = [(one, other) for one, other in zip(ours, theirs, strict=True) if one != other]
    assert len(differ) <= 2
    for one, other in differ:
        scores = [sum(pieces.processor.get_score(number) for number in ids[1:-1]) for ids in (one, other)]
        assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_a_text_that_spells_a_special_token_is_text(pieces):
    (row,) = pieces.ids(["</s> a <mask>"])
    assert (row.count(0), row.count(2), 250_001 in row) == (1, 1, False)


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts.update(normalizer=None),
        lambda parts: parts.update(normalizer={"type": "NFKC"}),
        lambda parts: parts.update(pre_tokenizer={"type": "WhitespaceSplit"}),
        lambda parts: parts.update(post_processor=None),
        lambda parts: parts["post_processor"].update(single=parts["post_processor"]["single"][1:]),
        lambda parts: parts["model"].update(byte_fallback=True),
    ],
)
def test_another_kind_keeps_its_own_library(change):
    parts = json.loads(packaged.read().tokenizer(300).to_str())
    assert sentencepieces.convert(Tokenizer.from_str(json.dumps(parts)))
    change(parts)
    assert sentencepieces.convert(Tokenizer.from_str(json.dumps(parts))) is None
    assert sentencepieces.convert(Tokenizer(models.WordLevel({"a": 0}, "a"))) is None


@pytest.mark.parametrize(("backend", "file"), [("eager", deployed.TOKENIZER), ("onnx", sentencepieces.FILE)])
def test_what_a_folder_holds(tmp_path, backend, file):
    """Torch's engines read as the evaluation does, which has the encoder's own tokenizer; the folder of the others is
    what evaluation reads too."""
    encoder = load(compose_model("e5-small-l2"), seed=0)
    save(encoder, Variant(backend), tmp_path)
    assert {deployed.TOKENIZER, sentencepieces.FILE} & {path.name for path in tmp_path.iterdir()} == {file}
    read = deployed.load(tmp_path, threads=1)
    assert read.tokenize(["A river.", "Wie heißt es?"], "query") == encoder.tokenize(
        ["A river.", "Wie heißt es?"], "query"
    )
