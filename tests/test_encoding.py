"""Bulk encoding: the same embeddings as one by one and as sentence-transformers', in the order of the input."""

import re
import threading

import numpy as np
import pytest
import torch
from tiny import encoder
from transformers import PreTrainedTokenizerFast

from pipeline import bars
from pipeline.encoder import encoding, progress
from pipeline.encoder.encoding import batches, encode, encode_shards, missing_shards
from pipeline.encoder.model import Encoder

WORDS = ["the", "river", "Мадрид", "is", "水", "capital", "of", "a", "country", "Berlin", "Fluss", "eight", "legs"]


class Kept(dict):
    """Shards in memory."""

    save = dict.__setitem__

    def kept(self, first, shape):
        return first in self and self[first].shape == shape


XLMR = {
    "model_type": "xlm-roberta",
    "vocab_size": 2000,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "pad_token_id": 1,
}


def tiny(**changes) -> Encoder:
    return encoder(**{"architecture": XLMR, "max_passage_tokens": 48, "freeze_word_embeddings": False} | changes)


@pytest.fixture(scope="module")
def model() -> Encoder:
    return tiny()


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """40 texts of 0 to 78 words, so both sides truncate some; every fourth is a repetition."""
    rng = np.random.default_rng(0)
    distinct = [" ".join(rng.choice(WORDS, 2 * n)) for n in rng.permutation(40)]
    return [distinct[n // 4] if n % 4 == 0 else distinct[n] for n in range(40)]


@pytest.mark.parametrize("token_budget", [1, 47, 48, 49, 300, 100_000])
def test_same_as_one_by_one_whatever_the_budget(model, texts, token_budget):
    emb_ND = encode(model, texts, "passage", token_budget=token_budget)
    with torch.inference_mode():
        single = [model(*model.pad(model.tokenize([text], "passage")))[0].numpy() for text in texts]
    np.testing.assert_allclose(emb_ND, single, atol=1e-5)
    assert emb_ND.dtype == np.float32


def test_chunks_keep_the_order(model, texts, monkeypatch):
    expected = encode(model, texts, "query")
    monkeypatch.setattr(encoding, "CHUNK", 7)
    np.testing.assert_allclose(encode(model, texts, "query"), expected, atol=1e-5)


def test_each_distinct_text_is_encoded_once(model, texts, monkeypatch):
    seen = []
    monkeypatch.setattr(model, "tokenize", lambda part, side: seen.extend(part) or Encoder.tokenize(model, part, side))
    emb_ND = encode(model, [*texts, *texts], "passage")
    assert sorted(seen) == sorted(set(texts))
    np.testing.assert_array_equal(emb_ND[: len(texts)], emb_ND[len(texts) :])


def test_embeddings_too_large_for_memory_are_the_same_on_disk(model, texts, monkeypatch):
    expected = encode(model, texts, "passage")
    monkeypatch.setattr(encoding, "IN_MEMORY", 0)
    mapped = encode(model, texts, "passage")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, expected)


@pytest.mark.parametrize("count", [0, 7, 8, 9, 40])
def test_only_missing_shards_are_encoded(model, texts, monkeypatch, count):
    """And no vector depends on whether, or where, there are shards."""
    monkeypatch.setattr(encoding, "CHUNK", 4)
    monkeypatch.setattr(encoding, "SHARD", 8)
    texts = [f"{n} {text}" for n, text in enumerate(texts[:count])]
    expected, kept, seen = encode(model, texts, "passage"), Kept(), []
    firsts = missing_shards(kept, count, 32, None)
    assert firsts == list(range(0, count, 8))
    encode_shards(model, texts, "passage", kept, firsts)
    assert list(kept) == firsts
    np.testing.assert_array_equal(np.concatenate([expected[:0], *kept.values()]), expected)
    assert missing_shards(kept, count, 32, None) == []
    for lost in {0, 8, 32} & kept.keys():
        del kept[lost]
    monkeypatch.setattr(model, "tokenize", lambda part, side: seen.extend(part) or Encoder.tokenize(model, part, side))
    encode_shards(model, texts, "passage", kept, missing_shards(kept, count, 32, None))
    assert seen == texts[:16] + texts[32:]
    np.testing.assert_array_equal(np.concatenate([expected[:0], *(kept[first] for first in firsts)]), expected)


def test_shards_hold_unit_vectors_of_an_encoder_that_leaves_that_to_the_cosine(texts, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK", 4)
    monkeypatch.setattr(encoding, "SHARD", 8)
    plain, kept = tiny(normalize=False), Kept()
    encode_shards(plain, texts[:12], "passage", kept, [8])
    emb_ND = encode(plain, texts[8:12], "passage")
    assert not np.allclose(np.linalg.norm(emb_ND, axis=1), 1)
    np.testing.assert_allclose(kept[8], emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True), rtol=1e-6)


def test_no_texts(model):
    assert encode(model, [], "query").shape == (0, 32)


@pytest.mark.parametrize("lengths", [[], [5], [5, 5, 5], [1, 2, 3, 4, 5, 6], [9, 1, 1, 1, 1]])
@pytest.mark.parametrize("token_budget", [1, 9, 10, 11])
def test_batches_cover_all_and_keep_the_budget(lengths, token_budget):
    result = list(batches(lengths, token_budget))
    assert sorted(position for batch in result for position in batch) == list(range(len(lengths)))
    for batch in result:
        assert len(batch) == 1 or len(batch) * max(lengths[position] for position in batch) <= token_budget
    assert [lengths[position] for batch in result for position in batch] == sorted(lengths, reverse=True)


def test_a_batch_fills_the_budget():
    assert list(batches([5, 5, 5], 10)) == [[0, 1], [2]]
    assert list(batches([5, 5, 5], 14)) == [[0, 1], [2]]
    assert list(batches([5, 5, 5], 15)) == [[0, 1, 2]]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_equals_sentence_transformers(tmp_path, texts, pooling):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    random = tiny(pooling=pooling)
    random.backbone.save_pretrained(tmp_path)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=random.tokenizer, pad_token="<pad>", unk_token="<unk>")
    tokenizer.save_pretrained(tmp_path)
    transformer = Transformer(str(tmp_path), max_seq_length=48)
    modules = [transformer, Pooling(32, pooling_mode=pooling), Normalize()]
    theirs = SentenceTransformer(modules=modules, device="cpu", prompts={"passage": "passage: "})
    ours = encode(tiny(pooling=pooling, weights=str(tmp_path)), texts, "passage")
    np.testing.assert_allclose(ours, theirs.encode(texts, prompt_name="passage", batch_size=8), atol=1e-5)


def test_progress_goes_to_a_terminal_and_only_after_a_second(model, texts, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert progress.BAR_DELAY_S == 1
    monkeypatch.setattr(progress, "BAR_DELAY_S", 3600)  # a busy machine may take longer than a second
    encode(model, texts, "query", progress="queries")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress, "BAR_DELAY_S", 0)
    encode(model, texts, "query")
    assert capsys.readouterr() == ("", "")
    encode(model, texts, "query", progress="queries")
    out, err = capsys.readouterr()
    assert out == ""
    assert "queries: 100%" in err


def test_progress_goes_to_a_log_a_line_a_minute(model, texts, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    encode(model, texts, "query", progress="queries")
    assert capsys.readouterr() == ("", "")  # it took no minute
    clock = Clocked()
    monkeypatch.setattr("tqdm.std.time", lambda: clock.now_s)
    bar = bars.Bar(desc="corpus", total=300)
    for _ in range(30):
        clock.now_s += 10
        bar.update(10)
    bar.close()
    lines = [f"    corpus: {done} %, about {left} min to go\n" for done, left in [(20, 4), (40, 3), (60, 2), (80, 1)]]
    assert capsys.readouterr() == ("", "".join([*lines, "    corpus: 100 %, about 0 min to go\n"]))
    bar = bars.Bar(desc="rows", unit=" rows")
    for _ in range(4):
        clock.now_s += 40
        bar.update(2)
    bar.close()
    assert capsys.readouterr() == ("", "    rows: 4 rows\n    rows: 8 rows\n")


class Clocked:
    """A TextEncoder whose time is proportional to tokens, padding included, on a clock of its own.

    A text is its number of tokens and a word that makes it distinct.
    """

    width, unit, device_type, threads = 1, True, "cpu", {}

    def __init__(self):
        self.now_s, self.chunk_ends_s = 0.0, []

    def tokenize(self, texts, side):
        return [[0] * int(text.split()[0]) for text in texts]

    def embed(self, rows):
        self.now_s += 0.01 * len(rows) * max(map(len, rows))
        return np.zeros((len(rows), 1), np.float32)

    def to_host(self, batches):
        self.chunk_ends_s.append(self.now_s)
        return np.concatenate(batches)


def seconds(interval):
    """The seconds of 1:02:03."""
    return sum(int(part) * 60**n for n, part in enumerate(reversed(interval.split(":"))))


@pytest.mark.parametrize("kept", [0, 6])
def test_the_time_left_is_steady_where_lengths_swing(monkeypatch, capsys, kept):
    """20 chunks, by turns of short and of long texts. Estimates by texts would be wrong by a factor of 2 and more."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(encoding, "CHUNK", 1000)
    monkeypatch.setattr(encoding, "SHARD", 2000)
    generator, clock = np.random.default_rng(0), Clocked()
    monkeypatch.setattr("tqdm.std.time", lambda: clock.now_s)
    lengths = np.concatenate([np.exp(generator.uniform(*np.log(n), 1000)) for n in [(5, 60), (40, 512)] * 10])
    texts = [f"{int(length)} {n}" for n, length in enumerate(lengths)]
    shards = Kept({2000 * n: np.zeros((2000, 1), np.float32) for n in range(kept)})
    firsts = missing_shards(shards, len(texts), 1, None)
    encode_shards(clock, texts, "passage", shards, firsts, progress="corpus")
    shown = re.findall(r"\[([\d:]+)<([\d:]+),", capsys.readouterr().err)
    after_s, end_s = clock.chunk_ends_s[0], clock.now_s
    checked = 0
    for elapsed_s, left_s in (map(seconds, pair) for pair in shown):
        if elapsed_s > after_s:
            assert left_s == pytest.approx(end_s - elapsed_s, rel=0.2, abs=0.01 * end_s)
            checked += 1
    assert checked > 100


def test_progress_appears_before_the_first_batch_is_done(monkeypatch, capsys):
    appeared = threading.Event()

    class Bar(bars.Bar):
        def refresh(self, *arguments, **options):
            super().refresh(*arguments, **options)
            appeared.set()

    class Large(Clocked):
        def embed(self, rows):
            assert appeared.wait(60)
            return super().embed(rows)

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(progress, "BAR_DELAY_S", 0.001)
    monkeypatch.setattr(progress, "Bar", Bar)
    encode(Large(), ["7 a"], "passage", progress="corpus")
    # The total is missing where the bar appears before the texts are tokenized.
    assert re.match(r"\rcorpus:(   0%\|          \|)? 0\.00(/7\.00 \[| tokens \[)", capsys.readouterr().err)
