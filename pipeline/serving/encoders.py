"""What is served: the encoders of a finished run as its inference variant, or those of an exported folder.

Axes: N texts, D embedding width.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import from_plain
from pipeline.encoder import deployed
from pipeline.encoder.encoding import TOKEN_BUDGET
from pipeline.encoder.engine import Unavailable, require_device
from pipeline.groups import ModelConfig
from pipeline.reporting.card import QUERIES
from pipeline.serving.batching import Limits
from pipeline.serving.config import EngineConfig
from pipeline.store.keys import contents
from pipeline.store.records import Record
from pipeline.store.results import ResultStore
from pipeline.values import LEXICAL, REFUSED, Side, UserError, Variant

if TYPE_CHECKING:
    from pipeline.encoder.encoding import TextEncoder
    from pipeline.encoder.model import Encoder


@dataclass(frozen=True)
class Retriever:
    """The encoders that embed queries and passages; most often they are one.

    Attributes:
        width: of its embeddings.
        narrower: widths that it was trained to be truncated to (Matryoshka), all smaller than `width`.
    """

    name: str
    encoders: "Mapping[Side, TextEncoder]"
    width: int
    narrower: tuple[int, ...] = ()


def load(store: ResultStore, run: str, *, device: str, threads: int) -> Retriever:
    """Load a run, or an exported folder: a path with a slash in it.

    Args:
        device: cpu or cuda.
        threads: of the engine.

    Raises:
        UserError: the run or folder is missing, its system has no embeddings to serve, or this machine cannot run it.
    """
    if "/" in run and not Path(run).is_dir():
        raise UserError(f"run={run}: there is no such folder.")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin would take the cores from the web server
    if "/" in run:
        return of_folder(Path(run), device, threads)
    return of_run(store, store.load(run), device, threads)


def limits(config: EngineConfig) -> Limits:
    """Return how texts are batched for the engine."""
    return Limits(
        max_batch=config.max_batch,
        token_budget=config.token_budget or TOKEN_BUDGET[config.device.name],
        max_wait_s=config.max_wait_ms / 1000,
        queue=config.queue,
    )


def of_run(store: ResultStore, record: Record, device: str, threads: int) -> Retriever:
    """Load the encoders of a run, as the inference variant that it is."""
    name, trained = record.name, record.name.partition("+")[0]
    if record.config["model"]["weights"] == LEXICAL:
        raise UserError(f"{name} is BM25, which has no embeddings: serve a run with an encoder.")
    variant = variant_of(record)
    if variant.fusion:
        raise UserError(f"{name} fuses rankings with BM25's, which no embedding can hold: serve {trained}.")
    if variant.centre:
        raise UserError(f"{name} centres embeddings by language, which a request does not name: serve {trained}.")

    def load(weights: str) -> "TextEncoder":
        if deployed.on_torch(variant):
            return in_torch(partial(encoder_of, store, store.load(weights)), variant, device, threads)
        return converted(store, name, weights, device, threads)

    passages = load(name)
    queries = load(variant.query_encoder) if variant.query_encoder else passages
    width = variant.width or passages.width
    trainer = from_plain(record.config).trainer
    narrower = sorted({each for each in trainer.matryoshka_widths if record.training and each < width})
    return Retriever(name, {"query": queries, "passage": passages}, width, tuple(narrower))


def in_torch(make: "Callable[[], Encoder]", variant: Variant, device: str, threads: int) -> "TextEncoder":
    """Return an encoder as a variant that an engine on torch runs, or as it was published."""
    import torch  # here: --help, a wrong key and other engines do not wait for it

    from pipeline.encoder.deploy import deploy

    require_device(device)
    torch.set_num_threads(threads)
    try:
        return deploy(make().to(device), variant)
    except Unavailable as error:
        raise UserError(str(error)) from error


def converted(store: ResultStore, run: str, weights: str, device: str, threads: int) -> "TextEncoder":
    """Return the encoder of the run `weights` as the variant that `run` is, converted by a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pipeline.serving.convert", str(store.root), run, weights, device, folder]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode == REFUSED:
            raise UserError(done.stderr.splitlines()[-1])
        if done.returncode:
            raise RuntimeError(f"converting {run} ended with {done.returncode}: {done.stderr}")
        return deployed.load(Path(folder), threads=threads, device=device)


def of_folder(folder: Path, device: str, threads: int) -> Retriever:
    """Load a folder that `pipeline.export` wrote, or another one in sentence-transformers' format."""

    def encoder(folder: Path) -> "TextEncoder":
        from pipeline.encoder import sources

        model = ModelConfig(family=folder.name, weights=str(folder.resolve()))
        return in_torch(partial(sources.load, model, seed=0), Variant(), device, threads)

    passages = encoder(folder)
    queries = encoder(folder / QUERIES) if (folder / QUERIES).is_dir() else passages
    return Retriever(folder.resolve().name, {"query": queries, "passage": passages}, passages.width)


def variant_of(record: Record) -> Variant:
    """Return the inference variant of its config that a run is."""
    variants, trained = from_plain(record.config).inference_variants(), record.name.partition("+")[0]
    return next(each for each in variants if each.run_name(trained) == record.name)


def encoder_of(store: ResultStore, record: Record) -> "Encoder":
    """Return the trained encoder of a run.

    Raises:
        UserError: its weights, or the texts that its vocabulary was trimmed to, are missing or changed.
    """
    from pipeline.encoder import starts

    vocabulary = from_plain(record.config).model.vocabulary
    now = contents(record.config["model"]["vocabulary"])
    if vocabulary.languages and now != record.provenance["inputs"]["model"]["vocabulary"]:
        raise UserError(f"model.vocabulary.path={vocabulary.path}: its files are missing or not those of the run.")
    return starts.of_run(store, record)


def engine(encoder: "TextEncoder") -> Callable[[list[list[int]]], np.ndarray]:
    """Return what a batcher calls: from token ids to `emb_ND` in host memory."""
    return lambda rows: encoder.to_host([encoder.embed(rows)])


def truncated(emb_ND: np.ndarray, width: int) -> np.ndarray:
    """Return the first `width` dimensions, of unit length again; at full width the vectors as they are."""
    if width == emb_ND.shape[1]:
        return emb_ND
    norm_N1 = np.linalg.norm(emb_ND[:, :width], axis=1, keepdims=True)
    return emb_ND[:, :width] / np.maximum(norm_N1, np.finfo(np.float32).tiny)  # a text without tokens is zero
