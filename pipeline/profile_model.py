"""`python -m pipeline.profile_model model=xlmr-base,xlmr-large device=cuda precision=bfloat16`: what an architecture costs.

Profiles architectures on made-up texts of real lengths: no data, no weights, no hub. Needs torch, transformers, pandas
and hydra-core, no more; a figure that needs another library is left out, with the reason.
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pipeline.launch.commands import refusing
from pipeline.profiling import machine, words
from pipeline.profiling.measure import Job, measure
from pipeline.store.files import read_again, write_json
from pipeline.store.results import figures, fingerprint
from pipeline.values import Profile, UserError

MADE_UP_TEXTS = 64  # of each language and side
NOTE = (
    "Texts are made-up words of one token each, in the lengths of real texts: their tokenisation is not a real one's."
)


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

    @hydra.main(version_base="1.3", config_path="../conf", config_name="profile_model")
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
