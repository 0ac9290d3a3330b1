"""Files that are damaged or foreign: each is refused in one sentence that names it, and nothing is left half-written.

A case is an input (bad_files), one of its files, and what stands in that file's place: a harm that fits the kind of
file, or content of its own.
"""
# ruff: noqa: E501  # the table

import gzip
import json
from pathlib import Path

import pytest
from bad_files import article, inputs, lines, mteb_result, parquet, write

from pipeline.store.files import write_json
from pipeline.values import UserError

ANY = {
    "empty": lambda whole: b"",
    "zeros": lambda whole: bytes(100),
    "noise": lambda whole: bytes(range(256)),
    "half": lambda whole: whole[: len(whole) // 2],
    "folder": None,
}
TEXT = ANY | {
    "UTF-16": lambda whole: "ü".encode("utf-16") + whole,
    "Latin-1": lambda whole: whole + b"\xfc\n",
}
JSON = TEXT | {
    "deep": lambda whole: b"[" * 100_000,
    "deep object": lambda whole: b'{"data":' * 100_000,
    "null": lambda whole: b"null",
    "number": lambda whole: b"1e999",
    "digits": lambda whole: b"9" * 10_000,
    "text": lambda whole: b'"text"',
    "list": lambda whole: b'[["x"]]',
    "long": lambda whole: b'{"x": "' + b"x" * 200_000 + b'"}\n[',
    "surrogate": lambda whole: b'{"_id": "\\ud83d"',
}
LINES = {harm: change for harm, change in TEXT.items() if harm != "half"}  # half of a line may be another text
KINDS = {".json": JSON, ".jsonl": JSON, ".tsv": LINES, ".csv": ANY, ".gz": ANY, ".parquet": ANY, ".safetensors": ANY}
HARMLESS = {  # what is a right value: a file that may be missing, or may say nothing
    *(("model", name, "folder") for name in ("config_sentence_transformers.json", "modules.json")),
    *(("model", name, "folder") for name in ("README.md", "2_Dense/pytorch_model.bin")),
    *(("model", name, "long") for name in ("sentence_bert_config.json",)),
}


def case(source, name, **contents):
    return [(source, name, key, content) for key, content in contents.items()]


def meta(**changes):
    return json.dumps(changes).encode()


def passage(**changes):
    return gzip.compress(lines({"docid": "1#0", "title": "Ada", "text": "wrote."} | changes))


def frame(**changes):
    return parquet({"query-id": ["q1"], "corpus-id": ["p1"], "score": [1]} | changes)


def row(**changes):
    base = {"id": "1", "question": "Who?", "passage": "Ada wrote.", "title": "Ada", "negatives": ["A fox."]}
    return lines(base | changes)


def xquad(**changes):
    return json.dumps({"data": [article(**changes)]}).encode()


TOPICS, QRELS = (f"miracl-v1.0-sw/{kind}/{kind}.miracl-v1.0-sw-dev.tsv" for kind in ("topics", "qrels"))
TRIPLES = "data/triples.train.ids.small.tsv"
COLLECTION = "data/google/collections/english_collection.tsv"
RESULT = "results/a__b/r1/MLQARetrieval.json"
HEADER = "model,dataset_revision,subset,ndcg_at_10"
MODELS = "model,n_parameters,n_embedding_parameters,trained_on_miracl"
OWN = [
    *case("beir", "corpus.jsonl", ids=lines({"_id": 1, "text": "x"}), twice=lines({"_id": "p1", "text": "x"}) * 2
          + lines({"_id": "p1", "text": "y"}), titles=lines({"_id": "p1", "title": 5, "text": "x"}),
          blank=lines({"_id": "p1", "text": "\u200b"}), nul=b'{"_id": "p1\x00", "text": "x"}\n',
          surrogate_id=b'{"_id": "p\\udc00", "text": "x"}\n', rows=lines(["p1", "x"])),
    *case("beir", "queries.jsonl", ids=lines({"_id": ["q1"], "text": "x"}), texts=lines({"_id": "q1", "text": None}),
          other=lines({"_id": "q2", "text": "x"}), nan=b'{"_id": "q1", "text": NaN}\n'),
    *case("beir", "qrels/test.tsv", columns=lines("q1\tp1\t1\t1"), ragged=lines("q1\tp1\t1", "q1"),
          huge=lines("q1\tp1\t1" + "0" * 5000), minus=lines("x\ty\tz", "q1\tp1\t--1"), half_grade=lines("a", "q1\tp1\t.5"),
          nan=lines("a\tb\tc", "q1\tp1\tnan"), inf=lines("q1\tp1\t1", "q1\tp2\t1e9"), long=b"q" * 200_000),
    *case("miracl", TOPICS, columns=lines("7"), more=lines("7\ta\tb"), blank=lines("7\t \u3000"),
          twice=lines("7\ta", "7\tb"), long=lines("7" * 200_000), none=lines("8\ta")),
    *case("miracl", QRELS, columns=lines("7 Q0 1#0 1"), huge=lines("7\tQ0\t1#0\t999"), word=lines("7\tQ0\t1#0\trelevant"),
          digits=lines("7\tQ0\t1#0\t" + "1" * 5000), long=lines("7\t" + "Q" * 200_000)),
    *case("miracl", "miracl-corpus-v1.0-sw/docs-0.jsonl.gz", plain=lines({"docid": "1#0", "text": "x"}),
          ids=passage(docid=1), texts=passage(text=["x"]), lists=gzip.compress(b"[]\n"), deep=gzip.compress(b"[" * 99_999),
          bomb=gzip.compress(bytes(20_000_000)), latin=gzip.compress(b'{"docid": "\xfc"}'), cut=passage()[:-4],
          checksum=passage()[:-8] + bytes(8), twice=passage() + passage(text="other")),
    *case("mteb", "deu-corpus/test-0.parquet", ids=parquet({"_id": [1], "text": ["x"]}), texts=parquet(
          {"_id": ["p1"], "text": [1.5]}), column=parquet({"name": ["p1"], "text": ["x"]}),
          null=parquet({"_id": ["p1", None], "text": ["x", "y"]}), titles=parquet(
          {"_id": ["p1"], "title": [["a"]], "text": ["x"]}), csv=b"_id,text\np1,x\n"),
    *case("mteb", "deu-queries/test-0.parquet", blank=parquet({"_id": ["q1"], "text": [" "]}), null=parquet(
          {"_id": ["q1"], "text": [None]}), twice=parquet({"_id": ["q1", "q1"], "text": ["a", "b"]})),
    *case("mteb", "deu-qrels/test-0.parquet", nan=frame(score=[float("nan")]), half_grade=frame(score=[0.5]),
          huge=frame(score=[1 << 40]), words=frame(score=["1"]), null=frame(score=[None]),
          column=parquet({"query-id": ["q1"], "score": [1]}), numbers=frame(**{"query-id": [7]})),
    *case("xquad_r", "en.json", keys=b"{}", data=b'{"data": 5}', articles=b'{"data": [5]}', none=b'{"data": []}',
          title=json.dumps({"data": [article() | {"title": None}]}).encode(), context=xquad(context=7),
          breaks=xquad(sentence_breaks=[[0]]), words=xquad(sentence_breaks=[["a", "b"]]), nan=
          b'{"data": [{"title": "t", "paragraphs": [{"context": "a", "sentence_breaks": [[0, NaN]], "qas": []}]}]}',
          answers=xquad(qa={"answers": []}), start=xquad(qa={"answers": [{"text": "Ada", "answer_start": None}]}),
          outside=xquad(qa={"answers": [{"text": "Ada", "answer_start": 99}]}), ids=xquad(qa={"id": 7}),
          negative=xquad(qa={"answers": [{"text": "Ada", "answer_start": -9}]}), blank=xquad(qa={"question": " "}),
          half_pair=xquad(qa={"question": "\ud83d"}), wrong=xquad(qa={"answers": [{"text": "x", "answer_start": 1}]})),
    *case("parallel", "en.jsonl", ids=row(id=1), lists=row(negatives="A fox."), mixed=row(negatives=["a", 1]),
          blank=row(id=" "), nothing=row(question=""), differ=row() + row(passage="Other."), nan=row(title=float("nan")),
          column=lines({"id": "1", "question": "a", "passage": "b"})),
    *case("parallel parquet", "en.parquet", ids=parquet({"id": [1]}), column=parquet({"id": ["1"]}),
          jsonl=row(), lists=parquet({**{key: ["1"] for key in ("id", "question", "passage", "title", "negatives")}})),
    *case("mmarco", TRIPLES, columns=lines("1\t10"), words=lines("1\tten\t11"), minus=lines("1\t-10\t11"),
          missing=lines("1\t\t11"), huge=lines("1\t10\t4000000000"), beyond=lines("1\t10\t99999999999"),
          other=lines("1\t10\t12"), long=b"1" * 200_000),
    *case("mmarco", COLLECTION, word=lines("ten\tAda."), none=lines("10"), blank=lines("10\t ", "11\tx"), digits=lines(
          "1" * 5000 + "\tx"), twice=lines("10\ta", "10\tb", "11\tc"), lacks=lines("10\ta")),
    *case("model", "config.json", code=meta(model_type="bert", auto_map={"AutoModel": "evil.Evil"}, hidden_size=7),
          unknown=meta(model_type="evil"), words=meta(model_type="bert", hidden_size="many"),
          negative=meta(model_type="bert", hidden_size=-8, num_attention_heads=1),
          quantized=meta(model_type="bert", quantization_config={"quant_method": "nvfp4"})),
    *case("model", "modules.json", keys=b"[{}]", types=b'[{"type": 5, "path": ""}]', order=b"[]", away=json.dumps(
          [{"type": "Transformer", "path": "../.."}, {"type": "Pooling", "path": "1_Pooling"}]).encode(),
          root=json.dumps([{"type": "Transformer", "path": "/etc"}, {"type": "Pooling", "path": "1_Pooling"}]).encode()),
    *case("model", "1_Pooling/config.json", modes=b'{"pooling_mode": 5}', unknown=b'{"pooling_mode": "best"}'),
    *case("model", "2_Dense/config.json", words=b'{"in_features": "a", "out_features": 4}', keys=b"{}", code=
          b'{"in_features": 8, "out_features": 4, "activation_function": "os.system"}',
          width=b'{"in_features": 8, "out_features": 5, "activation_function": "torch.nn.Identity"}'),
    *case("model", "config_sentence_transformers.json", prompts=b'{"prompts": [1]}', texts=b'{"prompts": {"query": 5}}',
          similarity=b'{"similarity_fn_name": ["cosine"]}', other=b'{"similarity_fn_name": "euclidean"}'),
    *case("model", "sentence_bert_config.json", word=b'{"max_seq_length": "long"}', nan=b'{"max_seq_length": NaN}',
          none=b'{"max_seq_length": 0}', negative=b'{"max_seq_length": -5}'),
    *case("model", "README.md", yaml=b"---\nlicense: [\n---\n", lists=b"---\nlicense: [a]\n---\n", latin=b"---\na: \xfc\n---"),
    *case("model", "adapter_config.json", elsewhere=b'{"base_model_name_or_path": "evil/model", "peft_type": "LORA"}'),
    *case("results of mteb", RESULT, keys=b"{}", split=json.dumps(mteb_result() | {"scores": {"test": 5}}).encode(),
          words=json.dumps(mteb_result("high")).encode(), nan=json.dumps(mteb_result(float("nan"))).encode(),
          percent=json.dumps(mteb_result(55.0)).encode(), entries=b'{"dataset_revision": "a", "mteb_version": "1", "scores":'
          b' {"test": [5]}}', version=json.dumps(mteb_result() | {"mteb_version": None}).encode()),
    *case("results of mteb", "results/a__b/r1/model_meta.json", words=b'{"n_parameters": "many"}', inf=
          b'{"n_parameters": Infinity}', data=b'{"training_datasets": 5}', license=b'{"license": ["mit"]}'),
    *case("tables of mteb", "mlqa.csv", ragged=lines(HEADER, "a/b,1,de,.5", "a/b,1,de,.5,6,7"), header=lines(HEADER[:-3]),
          words=lines(HEADER, "a/b,1,de,high"), nan=lines(HEADER, "a/b,1,de,nan"), percent=lines(HEADER, "a/b,1,de,55"),
          inf=lines(HEADER, "a/b,1,de,inf"), subset=lines(HEADER, "a/b,1,,.5"), model=lines(HEADER, ",1,de,.5"),
          quote=lines(HEADER, '"a/b,1,de,.5'), rows=lines(HEADER)),
    *case("tables of mteb", "models.csv", twice=lines(MODELS, "a/b,9,4,True", "a/b,9,4,True"), words=lines(
          MODELS, "a/b,many,4,True"), header=lines("model"), model=lines(MODELS, ",9,4,True")),
    *case("parquet of mteb", "mlqa.parquet", csv=lines(HEADER), lists=parquet({"model": [["a"]], "dataset_revision": ["1"],
          "subset": ["de"], "ndcg_at_10": [0.5]}), column=parquet({"model": ["a/b"]})),
]  # fmt: skip


def changed(**changes):
    """Change what a file of the store says; its checksum is right."""

    def change(path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        vouched = [path.parent / name for name in content.pop("files")]
        del content["sha256"]
        for key, value in changes.items():
            *parts, last = key.split("__")
            node = content
            for part in parts:
                node = node[part]
            node[last] = value
        write_json(path, content, vouched)

    return change


STORE = {
    "record.json": [
        changed(schema=99), changed(schema=1), changed(schema="new"), changed(name=5), changed(status="maybe"),
        changed(choices={}), changed(choices=[]), changed(config={}), changed(config={"model": 5}), changed(provenance={}),
        changed(config__sampler=None), changed(config__model={"family": None}), changed(provenance__layers="three"),
        changed(provenance__time=5), changed(metrics=[]), changed(metrics={"a.b.c": "high"}), changed(notes=5),
        changed(unknown_field=1), changed(profile={}), changed(profile__query_latency_p50_ms="fast"), changed(seed="x"),
        changed(profile__details={}), changed(profile__details__machine=[]), changed(profile__sources=None),
        changed(profile__another_field=1), changed(stage_s={"train": None}),
    ],
    "plan.json": [changed(runs=[]), changed(runs={"a": {"model": 5}}), changed(runs=None), changed(costs_from=5)],
    "manifest": [
        changed(status="maybe"), changed(status=None), changed(choices=None), changed(choices={"model": 5}),
        changed(seconds="long"), changed(reason=[1]), changed(profile_s={}),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def said(read, folder, capsys):
    """Return what is said of bad input: the refusal, or what the store says before it goes on without a file."""
    before = sorted(folder.rglob("*"))
    try:
        read(folder)
    except UserError as error:
        return str(error)
    finally:
        assert sorted(folder.rglob("*")) == before
        assert not list(folder.parent.glob("cache/tmp*"))
    return " ".join(dict.fromkeys(line.strip() for line in capsys.readouterr().err.splitlines()))


def check(sentence, name):
    path = Path(name)
    assert path.name in sentence or str(path.parent) in sentence or path.stem in sentence, f"{name}: {sentence}"
    assert len(sentence.splitlines()) == 1
    assert len(sentence) < 1200, sentence
    assert sentence.endswith((".", "?"))


def place(files, name, content, folder):
    write({other: whole for other, whole in files.items() if other != name}, folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(content)


def test_sound_files_are_read(sound, tmp_path, capsys):
    for source, each in sound.items():
        write(each.files, tmp_path / source)
        assert said(each.read, tmp_path / source, capsys) == "", source


SOURCES = ["beir", "miracl", "mteb", "xquad_r", "parallel", "parallel parquet", "mmarco", "model"]
SOURCES += ["results of mteb", "tables of mteb", "parquet of mteb", "store"]


@pytest.mark.parametrize("source", SOURCES)
def test_a_damaged_file_is_named(source, sound, tmp_path, capsys):
    for number, (name, harm, content) in enumerate(damaged(sound, source)):
        folder = tmp_path / str(number)
        place(sound[source].files, name, content, folder)
        try:
            check(said(sound[source].read, folder, capsys), name)
        except Exception as error:
            raise AssertionError(f"{source}, {name}, {harm}") from error


def damaged(sound, source):
    """Yield (file, harm, content) for every file of an input and every harm of its kind."""
    for name, whole in sound[source].files.items():
        for harm, change in KINDS.get(Path(name).suffix, {}).items():
            if (source, name, harm) not in HARMLESS:
                yield name, harm, None if change is None else change(whole)


@pytest.mark.parametrize(
    ("source", "name", "key", "content"), OWN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_foreign_content_is_named(source, name, key, content, sound, tmp_path, capsys):
    place(sound[source].files, name, content, tmp_path / "in")
    check(said(sound[source].read, tmp_path / "in", capsys), name)


def test_what_a_file_of_the_store_says_is_checked(sound, tmp_path, capsys):
    number = 0
    for kind, changes in STORE.items():
        [name] = [name for name in sound["store"].files if kind in name]
        for change in changes:
            folder, number = tmp_path / str(number), number + 1
            write(sound["store"].files, folder)
            change(folder / name)
            check(said(sound["store"].read, folder, capsys), name)


def test_a_file_that_may_not_be_read_is_named(sound, tmp_path, capsys, monkeypatch):
    """By the system's refusal, which root does not meet."""

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    write(sound["xquad_r"].files, tmp_path / "in")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert said(sound["xquad_r"].read, tmp_path / "in", capsys).endswith("en.json cannot be read: permission denied.")


def test_there_are_many(sound):
    """docs/faults.md states the number."""
    count = len(OWN) + sum(map(len, STORE.values())) + sum(len(list(damaged(sound, source))) for source in SOURCES)
    page = Path(__file__).parents[1] / "docs/faults.md"
    assert f"{count} bad data files" in page.read_text(encoding="utf-8")
    assert count > 400


def test_no_kernel_of_the_hub_is_asked_for(sound, tmp_path):
    """Whatever a model's files name: attention is named by us, and the library of kernels cannot be imported."""
    kernel = "kernels-community/flash-attn2"
    write(sound["model"].files, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config |= {"_attn_implementation": kernel, "attn_implementation": kernel, "_experts_implementation": "sonicmoe"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder, _ = sound["model"].read(tmp_path)
    assert encoder.backbone.config._attn_implementation == "sdpa"
    with pytest.raises(ModuleNotFoundError, match="kernels"):
        __import__("kernels")


def test_links_out_of_a_model_are_refused(sound, tmp_path):
    """Also a folder that a module lies in, a link to itself, and a chain of links."""
    write(sound["model"].files, tmp_path / "elsewhere")
    for number, name in enumerate(["config.json", "2_Dense/model.safetensors", "2_Dense", "tokenizer.json"]):
        folder = tmp_path / str(number)
        write(sound["model"].files, folder)
        (folder / name).rename(folder / "moved")
        (folder / "inside").symlink_to("moved")
        (folder / name).symlink_to(Path(*[".."] * name.count("/"), "inside"))
        sound["model"].read(folder)  # a link within the folder is none of anybody's business
        (folder / name).unlink()
        for target in (tmp_path / "elsewhere" / name, "/dev/zero", Path(name).name):
            (folder / name).symlink_to(target)
            with pytest.raises(UserError, match=rf"^model\.weights: .*{name} is a link out of the model's folder"):
                sound["model"].read(folder)
            (folder / name).unlink()


def test_the_cache_of_the_hub_is_a_folder_of_links(sound, tmp_path):
    repository = tmp_path / "models--own--model"
    snapshot = repository / "snapshots/0a1b"
    write({f"blobs/{number}": content for number, content in enumerate(sound["model"].files.values())}, repository)
    for number, name in enumerate(sound["model"].files):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(Path(*[".."] * (2 + name.count("/")), "blobs", str(number)))
    sound["model"].read(snapshot)
    (tmp_path / "weights").write_bytes(b"")
    (snapshot / "README.md").unlink()
    (snapshot / "README.md").symlink_to(tmp_path / "weights")
    with pytest.raises(UserError, match=r"README\.md is a link out of the model's folder"):
        sound["model"].read(snapshot)
