"""Small, sound inputs of every reader: what writes each, its files, and what reads it. test_bad_files harms them."""

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import records
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from pipeline.analysis.published import scores
from pipeline.data import beir, lareqa, miracl, mmarco, mteb, parallel
from pipeline.encoder import model_folder
from pipeline.encoder.head import Dense, Head
from pipeline.encoder.model import Encoder
from pipeline.encoder.sources import load, origin
from pipeline.groups import ModelConfig
from pipeline.store.progress import describe
from pipeline.store.results import ResultStore

WORDS = ["<pad>", "<unk>", "a", "river", "?"]


@dataclass(frozen=True)
class Input:
    """A sound input: `files` by name below its folder, and `read`, which takes the folder."""

    files: Mapping[str, bytes]
    read: Callable[[Path], Any]


def lines(*rows: Any) -> bytes:
    return "".join(
        (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows
    ).encode()


def parquet(columns: Mapping[str, list[Any]]) -> bytes:
    return pd.DataFrame(columns).to_parquet(index=False)


def read_parallel(folder: Path) -> Any:
    columns = {"id_column": "id", "question_column": "question", "passage_column": "passage", "language_column": None}
    columns |= {"title_column": "title", "passage_id_column": None, "negatives_column": "negatives"}
    return parallel.train("own", str(folder), ["en"], **columns, held_out=0.0, note=None)


def read_model(folder: Path) -> Any:
    config = ModelConfig(family="own", weights=str(folder))
    return load(config, seed=0), origin(config)


def model_files(folder: Path) -> dict[str, bytes]:
    """A transformer of one layer with a dense layer, as `export` writes it."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    backbone = BertModel(
        BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, **sizes), add_pooling_layer=False
    )
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").backend_tokenizer
    sides = {"query": "", "passage": ""}
    head = Head("mean", 8, [Dense(4)])
    encoder = Encoder(backbone, head, tokenizer, pad_id=0, prefixes=sides, max_tokens=dict.fromkeys(sides, 16))
    model_folder.write(encoder, folder, "---\nlicense: mit\n---\n")
    read = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent.name != "3_Normalize"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in read}


def store_files(folder: Path) -> dict[str, bytes]:
    store = ResultStore(folder)
    record = records.add_run(store, "toy", 3, "hybrid")
    store.plan("toy", {record.name: record.choices})
    (store.run_dir(record.name) / "record.json").rename(folder / "record.json")
    files = {"record": folder / "record.json", "plan": folder / "toy/.store/plan.json"}
    files |= {"manifest": next((folder / "toy/.store/manifest").iterdir())}
    return {name: path.read_bytes() for name, path in files.items()} | {"name": record.name.encode()}


def article(**changes: Any) -> dict[str, Any]:
    answers = [{"text": "Ada", "answer_start": 0}]
    qa = {"id": "q1", "question": "Who?", "answers": answers} | changes.pop("qa", {})
    paragraph = {"context": "Ada wrote. It rained.", "sentence_breaks": [[0, 10], [11, 21]], "qas": [qa]}
    return {"title": "Ada", "paragraphs": [paragraph | changes]}


def mteb_result(score: Any = 0.5) -> dict[str, Any]:
    pairs = [{"hf_subset": pair, "ndcg_at_10": score} for pair in ("ara-ara", "deu-deu")]
    return {"dataset_revision": "397ed406c1a7", "mteb_version": "2.1.0", "scores": {"test": pairs}}


@cache
def inputs(folder: Path) -> dict[str, Input]:
    """All inputs, by name; `folder` is for what can be made only as a file."""
    passages = [{"_id": "p1", "title": "Ada", "text": "wrote notes."}, {"_id": "p2", "text": "A fox."}]
    docs = [{"docid": "1#0", "title": "Ada", "text": "wrote."}, {"docid": "2#0", "title": "", "text": "A fox."}]
    row = {"id": "1", "question": "Who?", "passage": "Ada wrote.", "title": "Ada", "negatives": ["A fox."]}
    result = "results/a__b/r1/MLQARetrieval.json"
    models_csv = lines("model,n_parameters,n_embedding_parameters,trained_on_miracl", "a/b,9,4,True", "c/d,,,")
    table = {"model": ["a/b", "a/b"], "dataset_revision": ["397ed40"] * 2, "subset": ["de", "en"]}
    table |= {"ndcg_at_10": [0.5, 0.6]}
    return {
        "beir": Input(
            {
                "corpus.jsonl": lines(*passages),
                "queries.jsonl": lines({"_id": "q1", "text": "who?"}),
                "qrels/test.tsv": lines("query-id\tcorpus-id\tscore", "q1\tp1\t2"),
            },
            lambda folder: beir.benchmark(str(folder), None, "test", "no"),
        ),
        "miracl": Input(
            {
                "miracl-v1.0-sw/topics/topics.miracl-v1.0-sw-dev.tsv": lines("7\tNani?"),
                "miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-dev.tsv": lines("7\tQ0\t1#0\t1"),
                "miracl-corpus-v1.0-sw/docs-0.jsonl.gz": gzip.compress(lines(*docs)),
            },
            lambda folder: miracl.dev(["sw"], str(folder), "judged", 0),
        ),
        "mteb": Input(
            {
                "deu-corpus/test-0.parquet": parquet({"_id": ["p1"], "title": ["Ada"], "text": ["wrote."]}),
                "deu-queries/test-0.parquet": parquet({"_id": ["q1"], "text": ["who?"]}),
                "deu-qrels/test-0.parquet": parquet({"query-id": ["q1"], "corpus-id": ["p1"], "score": [1]}),
            },
            lambda folder: mteb.benchmark("own/set", None, ["deu"], "test", str(folder)),
        ),
        "xquad_r": Input(
            {"en.json": json.dumps({"data": [article()]}).encode()},
            lambda folder: lareqa.benchmark("xquad_r", ["en"], str(folder)),
        ),
        "parallel": Input({"en.jsonl": lines(row, row | {"id": "2", "passage": "A fox."})}, read_parallel),
        "parallel parquet": Input({"en.parquet": parquet({key: [value] for key, value in row.items()})}, read_parallel),
        "mmarco": Input(
            {
                "data/triples.train.ids.small.tsv": lines("1\t10\t11"),
                "data/google/queries/train/english_queries.train.tsv": lines("1\twho?"),
                "data/google/collections/english_collection.tsv": lines("10\tAda.", "11\tA fox."),
            },
            lambda folder: mmarco.train(["en"], str(folder)),
        ),
        "model": Input(model_files(folder / "model"), read_model),
        "results of mteb": Input(
            {result: json.dumps(mteb_result()).encode(), "results/a__b/r1/model_meta.json": b'{"n_parameters": 9}'},
            scores.read,
        ),
        "tables of mteb": Input(
            {"mlqa.csv": pd.DataFrame(table).to_csv(index=False).encode(), "models.csv": models_csv}, scores.read
        ),
        "parquet of mteb": Input({"mlqa.parquet": parquet(table), "models.csv": models_csv}, scores.read),
        "store": of_store(folder / "store"),
    }


def of_store(folder: Path) -> Input:
    files = store_files(folder)
    name = files.pop("name").decode()

    def read(folder: Path) -> Any:
        store = ResultStore(folder)
        return describe(store, "toy"), store.runs("toy"), store.per_query(name, "facts")

    run, kept = f"runs/{name}", "toy/.store"
    per_query = (folder / run / "per_query-facts.parquet").read_bytes()
    training = (folder / run / "training.parquet").read_bytes()
    return Input(
        {
            f"{run}/record.json": files["record"],
            f"{run}/per_query-facts.parquet": per_query,
            f"{run}/training.parquet": training,
            f"{kept}/plan.json": files["plan"],
            f"{kept}/manifest/{name}.json": files["manifest"],
        },
        read,
    )


def write(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
