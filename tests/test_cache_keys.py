"""Cache keys: a result counts as known only if nothing that it follows from has changed, and whenever nothing has."""

import ast
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
from functools import cache

import pytest
from test_config import ROOT, composed

from pipeline import config
from pipeline.launch import hardware, request, runs
from pipeline.launch.request import make_request, stage_inputs
from pipeline.store import keys
from pipeline.store.records import Record
from pipeline.store.results import ResultStore
from pipeline.values import UserError, Variant

CHOICES = {"model": "m", "sampler": "s", "data": "d"}
MADE_BY_STAGES = ("data", "sampling", "encoder", "training", "retrieval", "profiling")


def requested(*overrides):
    return make_request(config.check(composed(*overrides)), CHOICES)


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    (data / "more").mkdir(parents=True)
    (data / "en.json").write_text("english")
    (data / "more" / "de.json").write_text("deutsch")
    return data


def test_the_contents_of_a_path_count_and_its_name_does_not(folder, tmp_path):
    def name(path):
        return requested("data=xquad_r_articles", f"data.path={path}", f"eval.xquad_r_articles.path={path}").name

    here = name(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert name(tmp_path / "copy") == here
    (folder / ".cache").mkdir()
    (folder / ".cache" / "download.lock").write_text("of another tool")
    assert name(folder) == here
    (folder / "more" / "de.json").write_text("Deutsch")
    changed = name(folder)
    assert changed != here
    (folder / "more" / "de.json").rename(folder / "de.json")
    assert name(folder) not in (here, changed)
    assert name(tmp_path / "missing") not in (here, changed)


def changed_stages(one, other):
    return {stage.partition(".")[0] for stage in one.keys if one.keys[stage] != other.keys[stage]}


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (["trainer.temperature=0.03"], {"train", "encode", "rank"}),
        (["sampler.alpha=0.4"], {"train", "encode", "rank"}),
        (["seed=1"], {"train", "encode", "rank"}),
        (["data.languages=[en,de]"], {"train", "leakage", "encode", "rank"}),
        (["eval.worldfacts.languages=[en,de]"], {"leakage", "encode", "rank"}),
        (["metrics=[map]"], {"score"}),
        (["profile.min_calls=200"], {"profile"}),
        (["threads=1"], {"train", "encode", "rank", "profile"}),
        (["trainer.precision=float32", "trainer.precision=bfloat16"], {"train", "encode", "rank"}),
        (["trainer.log_every=7"], set()),
        (["trainer.checkpoint_every=7"], set()),
        (["trainer.forward_tokens=512", "trainer.grad_cache=true"], set()),
        (["encode.precision=float16"], {"encode", "rank"}),
        (["encode.workers=4", "encode.folder=/shared"], set()),
        (["time_limit_min=9", "sweep=x", "results_dir=elsewhere", "tracking.wandb=false"], set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_stage_is_made_again_only_if_what_it_follows_from_changed(overrides, changes):
    stock = requested(*overrides[1:]) if "precision" in overrides[0] else requested()
    other = requested(overrides[0]) if "precision" in overrides[0] else requested(*overrides)
    assert changed_stages(stock, other) == changes
    assert (stock.name != other.name) == bool(changes)


def test_with_dropout_the_partition_of_a_batch_counts():
    """Its masks follow the partition (losses 5.93 and 6.71 for 64 and 1,024 tokens)."""
    for dropout in ("0.1", "null"):
        stock = requested(f"trainer.dropout={dropout}")
        for override in ("trainer.forward_tokens=64", "trainer.grad_cache=true"):
            assert changed_stages(stock, requested(f"trainer.dropout={dropout}", override)) == {
                "train",
                "encode",
                "rank",
            }
        assert changed_stages(stock, stock.halved()) == {"train", "encode", "rank"}
    assert changed_stages(requested(), requested().halved()) == set()


def test_an_untrained_encoder_is_ranked_once_for_all_seeds_and_trainers():
    stock = requested("sampler=none")
    for override in ("trainer.learning_rate=1", "data.languages=[en]"):
        other = requested("sampler=none", override)
        assert changed_stages(stock, other) <= {"leakage"}
        assert stock.name == other.name  # neither has a part in it
    assert "-none-s0-" in stock.name
    other = requested("sampler=none", "seed=1")
    assert changed_stages(stock, other) == set()
    assert stock.name != other.name  # each seed has its record
    random = requested("sampler=none", "model=e5-small", "model.weights=random")
    assert {"encode", "rank"} <= changed_stages(
        random, requested("sampler=none", "model=e5-small", "model.weights=random", "seed=1")
    )


def test_resolved_device_and_precision_count(monkeypatch):
    cpu = requested()
    assert cpu.config.device.name == "cpu"
    assert cpu.config.trainer.precision.name in ("float32", "bfloat16")
    assert (
        changed_stages(cpu, requested("device=cpu", f"trainer.precision={cpu.config.trainer.precision.name}")) == set()
    )
    monkeypatch.setattr(hardware, "gpu_capability", lambda: 9)
    gpu = requested()
    assert (gpu.config.device.name, gpu.config.trainer.precision.name) == ("cuda", "bfloat16")
    assert changed_stages(cpu, gpu) == {"train", "encode", "rank", "profile"}
    monkeypatch.setattr(hardware, "gpu_capability", lambda: 7)
    assert requested().config.trainer.precision.name == "float32"


def test_of_python_only_the_profile_follows(monkeypatch):
    here = requested()
    monkeypatch.setattr(platform, "python_version_tuple", lambda: ("3", "99", "0"))
    assert changed_stages(here, requested()) == {"profile"}
    assert requested().name != here.name


def test_a_syntax_tree_is_written_as_python_311_does():
    """Other versions write what is empty (3.12: type_params), or leave it out (3.13)."""
    (body,) = keys.dump(ast.parse("def f():\n return []")).split("body=", 1)[1:]
    arguments = "args=arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])"
    returned = "body=[Return(value=List(elts=[], ctx=Load()))]"
    assert body == f"[FunctionDef(name='f', {arguments}, {returned}, decorator_list=[])], type_ignores=[])"


def test_hardware_is_what_torch_says():
    import torch

    assert requested().config.device.name == ("cuda" if torch.cuda.is_available() else "cpu")
    capabilities = torch.cpu.get_capabilities()
    has_bfloat16 = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    assert hardware.has_bfloat16(config.Device.cpu) == has_bfloat16
    assert hardware.torch_has_cuda() == (torch.version.cuda is not None)
    assert (hardware.gpu_capability() is not None) == torch.cuda.is_available()


def test_the_weights_of_a_local_model_count(folder):
    before = requested(f"model.weights={folder}")
    (folder / "model.safetensors").write_bytes(b"weights")
    assert changed_stages(before, requested(f"model.weights={folder}")) == {"train", "encode", "rank"}


def test_every_variant_has_a_key_of_its_own():
    variants = [
        Variant(),
        Variant(width=96),
        Variant(index="SQ8"),
        Variant(centre="passages"),
        Variant(centre="both"),
        Variant(backend="onnx"),
        Variant(precision="bfloat16"),
        Variant(fusion="rrf"),
        Variant(fusion="rrf;k1=1.2"),
    ]
    assert len({request.variant_key("key", variant) for variant in variants}) == len(variants)


def test_bm25_and_a_fused_ranking_follow_from_their_code_alone_and_no_other_does(monkeypatch):
    bm25 = ("model=bm25", "sampler=none")
    other = requested(*bm25, "model.architecture.k1=1.2")
    inputs = stage_inputs(requested(*bm25).config)
    assert "pipeline.retrieval.lexical" in inputs["rank.worldfacts"]["code"]
    assert {"bm25s", "icu4py", "Stemmer"} <= inputs["rank.worldfacts"]["libraries"].keys()
    assert "torch" not in inputs["rank.worldfacts"]["libraries"]
    assert "pipeline.retrieval.lexical_served" in inputs["profile"]["code"]
    assert changed_stages(requested(*bm25), other) == {"train", "encode", "rank"}
    for modules in (request.FUSION, request.FUSED):
        code = request.fusion_inputs(Variant(fusion="rrf"), modules)[0]["code"].keys()
        assert {"pipeline.retrieval.lexical", *modules} <= code
        assert request.fusion_inputs(Variant(index="SQ8"), modules) == []
    of_encoder = stage_inputs(requested().config)
    assert not {"pipeline.retrieval.lexical", "pipeline.retrieval.lexical_served"} & set().union(
        *(inputs["code"] for inputs in of_encoder.values())
    )
    monkeypatch.setattr(hardware, "gpu_capability", lambda: 9)
    assert requested(*bm25).config.device.name == "cpu"


MADE = {"layers": 1, "time": "2026-01-01T00:00:00Z"}


def test_two_runs_of_one_name_are_refused_with_the_keys_that_differ(tmp_path):
    one, other = requested(), requested("seed=1", "trainer.steps=7", "metrics=[map]")
    store = ResultStore(tmp_path)
    mine = {"name": one.name, "cache_key": "f", "status": "done", "choices": CHOICES, "seed": 0}
    store.save(Record(**mine, config=config.plain(one.config), provenance={"inputs": one.inputs, **MADE}))
    runs.refuse_clash(store, one)
    store.save(Record(**mine, config=config.plain(other.config), provenance={"inputs": other.inputs, **MADE}))
    with pytest.raises(UserError, match=r" is another run, which differs in metrics, seed, trainer\.steps: move"):
        runs.refuse_clash(store, one)


def test_a_file_is_read_again_when_it_changes_and_only_then(folder):
    keys.file_hash.cache_clear()
    first = keys.tree_hash(folder)
    assert keys.tree_hash(folder) == first
    assert keys.file_hash.cache_info().misses == 2
    (folder / "en.json").write_text("English!")
    assert keys.tree_hash(folder) != first
    assert keys.file_hash.cache_info().misses == 3


# ---- code ----

KEYS_OF = """
import json, sys
from hydra import compose, initialize_config_dir
from pipeline import config
from pipeline.launch.request import make_request
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    cfg = compose("config", overrides=sys.argv[2:])
    request = make_request(config.check(cfg), {"model": "m", "sampler": "s", "data": "d"})
print(json.dumps(request.keys))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package that tests may edit, and its keys before that, of which a process of its own is sure."""
    root = tmp_path_factory.mktemp("copy")
    for part in ("pipeline", "conf"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    command, environment = [sys.executable, "-c", KEYS_OF, str(root / "conf")], {"PYTHONPATH": str(root), "PATH": ""}
    process = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    before = keys_of(root)
    assert before == ast.literal_eval(process.stdout)
    return root, before


def by_content(function):
    """A function of a module, called once per content of the module's files."""
    results = {}

    def known(module):
        path = keys.source(module)
        content = tuple(file.read_bytes() for file in (path, path.with_suffix(".yaml")) if file.is_file())
        if content not in results:
            results[content] = function(module)
        return results[content]

    return known


READ = {name: by_content(getattr(keys, name).__wrapped__) for name in ("imports", "code_hash")}


def keys_of(root):
    """The keys that follow from the code in a folder: read as text, so this process may have imported other code."""
    with pytest.MonkeyPatch.context() as patch:  # the caches of this process stay as they are
        for name in ("tree", "our_imports"):
            patch.setattr(keys, name, cache(getattr(keys, name).__wrapped__))
        for name, read in READ.items():
            patch.setattr(keys, name, read)
        patch.setattr(keys, "ROOT", root)
        return dict(requested().keys)


def edited(root, before, edits):
    """Which stages' keys change while files of the package are edited."""
    paths = [root / "pipeline" / file for file in edits]
    texts = {path: path.read_text() if path.exists() else None for path in paths}
    try:
        for (path, text), edit in zip(texts.items(), edits.values(), strict=True):
            path.write_text(edit(text or ""))
        after = keys_of(root)
    finally:
        for path, text in texts.items():
            path.write_text(text) if text is not None else path.unlink()
    return {stage.partition(".")[0] for stage in before if before[stage] != after[stage]}


def added(text):
    return text + "\nOTHER = 1\n"


STALE = {"train", "encode", "rank"}


@pytest.mark.parametrize(
    ("edits", "changes"),
    [
        (
            {
                "sampling/new.py": lambda _: '"""A new strategy."""\n',
                "sampling/mixed.py": added,
                "training/losses.py": lambda text: "# a comment\n\n\n" + text.replace('"""', '"""Said otherwise. ', 1),
                "data/mmarco.py": added,
                "reporting/figure.py": added,
                "analysis/costs.py": added,
                "retrieval/lexical.py": added,
                "retrieval/fusion_served.py": added,
            },
            set(),
        ),
        ({"sampling/hybrid.py": added}, STALE),
        ({"training/losses.py": added}, STALE),
        ({"retrieval/metrics.py": added}, {"score"}),
        ({"encoder/encoding.py": added}, STALE | {"profile"}),
        ({"retrieval/exact.py": added}, {"rank"}),
        ({"retrieval/faiss_index.py": added}, {"rank", "profile"}),
        ({"data/worldfacts.yaml": lambda text: text + "\n# other\n"}, STALE | {"leakage"}),
        ({"profiling/meters/latency.py": added}, {"profile"}),
        ({"profiling/meters/new.py": lambda _: '"""A new meter."""\n'}, {"profile"}),
        ({"data/leakage.py": added}, {"leakage"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_an_edit_makes_stale_what_imports_it_and_no_more(copy, edits, changes):
    root, before = copy
    assert edited(root, before, edits) == changes


def test_a_version_of_a_library_counts(monkeypatch):
    before = requested().keys
    monkeypatch.setattr(keys, "installed", lambda name: "99" if name == "tokenizers" else "1")
    ones = requested().keys
    monkeypatch.setattr(keys, "installed", lambda name: "1")
    assert {stage.partition(".")[0] for stage in before if ones[stage] != requested().keys[stage]} == {
        "train", "encode", "rank", "profile",
    }  # fmt: skip


LOADED_BY = """
import importlib, json, os, sys
import torch, transformers.modeling_utils, pandas, pytorch_lightning  # once for all stages: only what is ours counts
for stage, names in json.loads(sys.argv[1]).items():
    if os.fork() == 0:
        for name in names: importlib.import_module(name)
        print(json.dumps([stage, [name for name in sys.modules if name.partition(".")[0] == "pipeline"]]), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.slow
def test_keys_hold_what_python_really_imports():
    """Import each stage's modules in a process that has none: all modules of ours that this loads are in its key."""
    stages = {
        "teach": [*request.TEACH, "pipeline.data.worldfacts"],
        "distill": [*request.START, *request.DISTILL],
        "train": [*request.START, *request.TRAIN, "pipeline.sampling.hybrid", "pipeline.data.worldfacts"],
        "leakage.worldfacts": [*request.LEAKAGE, "pipeline.data.worldfacts"],
        "encode.worldfacts": [*request.ENCODE, "pipeline.data.worldfacts"],
        "rank.worldfacts": [*request.RANK, "pipeline.data.worldfacts"],
        "score": request.SCORE,
        "profile": keys.package("pipeline.profiling"),
    }
    command = [sys.executable, "-c", LOADED_BY, json.dumps(stages)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = dict(map(json.loads, process.stdout.splitlines()))
    assert loaded.keys() == stages.keys(), process.stderr
    trained, distilled = (stage_inputs(requested(f"model={name}").config) for name in ("e5-small-l2", "e5-small-d2"))
    for stage, modules in loaded.items():
        inputs = (distilled if stage in ("teach", "distill") else trained)[stage]
        assert {*modules} <= inputs["code"].keys() | {"pipeline"}, stage
    assert "pipeline.training.losses" in loaded["train"]


def test_every_module_that_makes_results_is_in_some_key():
    """What `experiment` uses of the rooms that make results is in a stage's key, so no change of it goes unseen."""
    distilled = [f"model.distill.lines={name}" for name in ("null", __file__)]
    configs = [requested("eval=[worldfacts,xquad_r]", "model=e5-small-d2", lines).config for lines in distilled]
    configs += [requested(f"model={name}", "sampler=none").config for name in ("static-e5-small", "use-multilingual")]
    in_keys = {module for each in configs for inputs in stage_inputs(each).values() for module in inputs["code"]}
    in_keys |= request.fusion_inputs(Variant(fusion="rrf"), request.FUSION)[0]["code"].keys()
    free = ("experiment", "parts", "embeddings", "systems")
    imported = set().union(*(keys.our_imports(f"pipeline.{name}") for name in free))
    rooms = {name for name in imported if name.split(".")[1:2] and name.split(".")[1] in MADE_BY_STAGES}
    assert rooms <= in_keys


def test_every_library_is_known_to_matter_or_not():
    names: set[str] = set()
    for room in MADE_BY_STAGES:
        names = names.union(*map(keys.external_imports, keys.package(f"pipeline.{room}")))
    unknown = {name for name in names if name not in sys.stdlib_module_names} - keys.LIBRARIES.keys() - keys.HARMLESS
    assert not unknown, f"add {unknown} to LIBRARIES or HARMLESS of store/keys.py"
    for name in keys.LIBRARIES:
        assert importlib.util.find_spec(name) or name in ("torchao",)
