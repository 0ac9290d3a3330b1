"""What a config may not ask of BM25, refused before a child process starts."""

from dataclasses import replace

from pipeline.config import Config
from pipeline.groups import Device, ModelConfig
from pipeline.retrieval import lexical
from pipeline.values import LEXICAL, UserError, Variant


def check_lexical(config: Config, *, trains: bool) -> None:
    """Raise UserError for what BM25 lacks, alone (model=bm25) or fused with an encoder.

    Args:
        trains: whether the run trains.
    """
    for variant in config.inference_variants():
        if variant.fusion:
            lexical.fused_with(variant.fusion)
            if (
                replace(variant, backend="eager", precision="float32", max_passage_tokens=None, fusion=None)
                != Variant()
            ):
                raise UserError(f"variants: fusion={variant.fusion} takes exact search at full width, no other.")
    if config.model.weights != LEXICAL:
        return
    lexical.settings(config.model.architecture, "model.architecture")
    if trains:
        raise UserError("model.weights=lexical: BM25 is not trained: set sampler=none.")
    if config.device is Device.cuda:
        raise UserError("device=cuda: BM25 (model.weights=lexical) runs on the processor: set device=cpu.")
    plainest = ModelConfig(family=config.model.family, weights=LEXICAL)
    for key, value in vars(config.model).items():
        if key not in ("license", "architecture") and value != getattr(plainest, key):
            raise UserError(f"model.{key}={value}: BM25 (model.weights=lexical) has no {key}.")
