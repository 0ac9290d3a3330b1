"""Profiles an encoder: each meter in a fresh child process (`meter`), one after another, while this one sleeps.

`cell` calls `measure` with a benchmark's texts and a trained encoder. The command

    python -m pipeline.profile model=xlmr-base,xlmr-large weights=random device=cuda precision=bfloat16

profiles architectures alone, on made-up texts of real lengths: no data, no weights, no hub. It needs torch,
transformers, pandas and hydra-core, no more; what only another library could measure is left out, with the reason.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pipeline.commands import REFUSED, refusing
from pipeline.files import read_again, write_json
from pipeline.profiling import machine, words
from pipeline.profiling.summary import summarise, with_index
from pipeline.results import figures, fingerprint
from pipeline.values import Profile, Serving, Side, UserError

Texts = Mapping[str, Mapping[Side, Sequence[str]]]  # language -> side -> texts

METERS = ("throughput", "latency", "memory", "energy")  # in this order: throughput finds the others' token budget
MADE_UP_TEXTS = 64  # of each language and side
NOTE = (
    "Texts are made-up words of one token each, in the lengths of real texts: their tokenisation is not a real one's."
)


def key(
    architecture: Mapping[str, Any], texts: Texts, settings: Mapping[str, Any], *, threads: int, device: str
) -> str:
    """Under which a profile may be shared: by every encoder of this architecture, on this machine and these texts."""
    return fingerprint([dict(architecture), texts, dict(settings), threads, machine.facts(device)])


@dataclass(frozen=True)
class Job:
    """What the meters measure, in plain values: `model` and `settings` are the config's nodes, `checkpoint` the folder
    that Encoder.save wrote, `device` cpu or cuda; `backend` and `precision` are those of `serving`."""

    model: Mapping[str, Any]
    checkpoint: str | None
    texts: Texts
    settings: Mapping[str, Any]
    _: KW_ONLY
    threads: int
    device: str
    seed: int
    backend: str = "eager"
    precision: str = "float32"
    made_up_words: bool = False


def measure(job: Job) -> Profile:
    """UserError for bad input; RuntimeError with the reason when a child dies."""
    asked, found = asdict(job), {}
    with _ready(METERS, job.threads) as children:
        for name, child in children.items():
            found[name] = _answer(name, child, asked)
            asked["token_budget"] = found["throughput"]["best"]["token_budget"]
    return summarise(found, machine.facts(job.device), threads=job.threads, made_up_words=job.made_up_words)


def measure_indexes(job: Job, base: Profile, servings: Sequence[Serving]) -> dict[Serving, Profile]:
    """What each width and index costs, read off the same embeddings: `base`, the profile of this job, with another
    index. One child measures them one after another. Errors as of `measure`."""
    wanted = [{"width": serving.width, "factory": serving.index.replace("exact", "Flat")} for serving in servings]
    asked = asdict(job) | {"token_budget": base.passage_token_budget, "indexes": wanted}
    with _ready(["index"], job.threads) as children:
        answer = _answer("index", children["index"], asked)
    seen = {key: answer[key] for key in ("watch", "threads")}
    return {
        serving: with_index(base, found | seen, job.seed)
        for serving, found in zip(servings, answer["indexes"], strict=True)
    }


@contextmanager
def _ready(meters: Sequence[str], threads: int) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """A child for each meter. Importing takes longer than some meters, so all import at once; none measures before all
    are done."""
    with ExitStack() as stack:
        children = {name: stack.enter_context(_start(name, threads)) for name in meters}
        for child in children.values():
            assert child.stdout  # a pipe; it says "ready", or closes if the child died
            child.stdout.readline()
        yield children


def _start(meter: str, threads: int) -> subprocess.Popen[str]:
    count = str(threads)
    environment = os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "RAYON_NUM_THREADS": count}
    environment |= {"OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "pipeline.start", "meter", meter]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, text=True)


def _answer(meter: str, child: subprocess.Popen[str], job: Mapping[str, Any]) -> Any:
    """Give the child its job and sleep until it ends."""
    answer, complaints = child.communicate(json.dumps(job))
    if child.returncode == 0:
        return json.loads(answer)
    if child.returncode < 0:
        raise RuntimeError(f"the {meter} meter was killed by {signal.Signals(-child.returncode).name}")
    reason = complaints.strip().splitlines()[-1]
    raise UserError(reason) if child.returncode == REFUSED else RuntimeError(f"the {meter} meter failed: {reason}")


def check(cfg: DictConfig) -> None:
    """UserError for the first impossible value of the command's config: pipeline.config needs more libraries."""
    if cfg.weights != "random":
        raise UserError(
            f"weights={cfg.weights}: architectures are profiled with random weights (pipeline.run has others)."
        )
    for name, values in {"device": ("cpu", "cuda"), "precision": ("float32", "bfloat16")}.items():
        if cfg[name] not in values:
            raise UserError(f"{name}={cfg[name]}: it must be {' or '.join(values)}.")
    keys = ["threads", "model.max_query_tokens", "model.max_passage_tokens"]
    keys += [f"profile.{name}" for name in ("min_calls", "min_seconds", "index_rows", "energy_seconds")]
    found = {name: OmegaConf.select(cfg, name) for name in keys}
    found |= {f"profile.token_budgets[{n}]": budget for n, budget in enumerate(cfg.profile.token_budgets)}
    for name, value in found.items():
        if not isinstance(value, int | float) or value <= 0:
            raise UserError(f"{name}={value}: it must be a positive number.")
    if cfg.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("device=cuda: torch sees no CUDA device here.")


def profile_architecture(config: Mapping[str, Any]) -> Profile:
    """`config` is the command's, resolved."""
    texts = words.texts(config["texts"], MADE_UP_TEXTS, config["model"]["architecture"]["vocab_size"], config["seed"])
    options = {name: config[name] for name in ("threads", "device", "seed", "precision")}
    return measure(Job(config["model"], None, texts, config["profile"], **options, made_up_words=True))


def save(folder: Path, name: str, config: Mapping[str, Any], profile: Profile) -> None:
    """As json; and all profiles of the folder as profiles.csv, one a row."""
    write_json(folder / f"{name}.json", {"name": name, "note": NOTE, "config": config, "profile": asdict(profile)})
    rows = []
    for saved in filter(None, map(read_again, sorted(folder.glob("[!.]*.json")))):
        device = saved["profile"]["details"]["machine"]
        row = {"name": saved["name"], "note": saved["note"], "machine": device.get("gpu", device["cpu"])}
        row |= {key: saved["config"][key] for key in ("device", "precision", "threads")}
        rows.append(row | figures(saved["profile"]))
    pd.DataFrame(rows).to_csv(folder / "profiles.csv", index=False)


def table(profiles: Mapping[str, Profile]) -> str:
    """One column a profile; below, what failed the grade and what was not measured, and why."""
    fields = [name for name in Profile.__dataclass_fields__ if name not in ("sources", "details")]
    cells = {name: [_shown(getattr(profile, field)) for field in fields] for name, profile in profiles.items()}
    sentences = [NOTE]
    reasons: dict[str, list[str]] = {}
    for name, profile in profiles.items():
        if profile.failed_checks:
            sentences.append(f"{name} failed its grade: {', '.join(profile.failed_checks)}.")
        for field, source in profile.sources.items():
            if getattr(profile, field) is None and field not in reasons.setdefault(source, []):
                reasons[source].append(field)
    sentences += [f"{', '.join(names)}: {source}." for source, names in reasons.items() if names]
    return "\n".join([pd.DataFrame(cells, index=fields).to_string(), *sentences])


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}"


def main() -> None:
    profiles: dict[str, Profile] = {}
    failed: dict[str, str] = {}

    @hydra.main(version_base="1.3", config_path="../conf", config_name="profile_cli")
    def job(cfg: DictConfig) -> None:
        check(cfg)
        config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
        folder = Path(config.pop("results_dir"), "profiles-cli")
        mark = fingerprint([config, machine.facts(cfg.device)])
        name = f"{HydraConfig.get().runtime.choices['model']}-{cfg.precision}-{mark[:8]}"
        print(f"[{name}] …", file=sys.stderr, flush=True)
        try:
            profiles[name] = profile_architecture(config)
            save(folder, name, config, profiles[name])
        except RuntimeError as error:
            failed[name] = str(error)

    with refusing():
        job()
    if profiles:
        print(table(profiles))
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
