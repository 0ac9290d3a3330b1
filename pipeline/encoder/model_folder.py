"""Write an encoder as a folder that `SentenceTransformer(FOLDER)` loads. The command `pipeline.export` uses it."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from pipeline.encoder.model import Encoder

PATHS = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}  # of sentence-transformers, in order


def write(encoder: Encoder, folder: Path, card: str) -> None:
    """Write a new folder with the encoder and its model card: the whole folder, or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        fill(temporary, encoder)
        (temporary / "README.md").write_text(card)
        temporary.chmod(0o755)
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary)
        raise


def fill(folder: Path, encoder: Encoder) -> None:
    """Write a transformers model, its tokenizer, and the JSON files of sentence-transformers."""
    encoder.backbone.save_pretrained(folder)
    pad_token = encoder.tokenizer.id_to_token(encoder.pad_id)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=encoder.tokenizer, pad_token=pad_token)
    tokenizer.model_max_length = encoder.max_tokens["passage"]
    tokenizer.save_pretrained(folder)
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{module}"}
        for n, (module, path) in enumerate(PATHS.items())
    ]
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": {
            "word_embedding_dimension": encoder.width,
            "pooling_mode_mean_tokens": encoder.pooling == "mean",
            "pooling_mode_cls_token": encoder.pooling == "cls",
        },
        "sentence_bert_config.json": {"max_seq_length": encoder.max_tokens["passage"], "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": encoder.prefixes["query"], "document": encoder.prefixes["passage"]},
            "similarity_fn_name": "cosine",
        },
    }
    for path in PATHS.values():
        (folder / path).mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2))
