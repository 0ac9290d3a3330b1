"""Write an encoder as a folder that `SentenceTransformer(FOLDER)` loads. The command `pipeline.export` uses it."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from pipeline.encoder.declared import LEGACY_POOLINGS
from pipeline.encoder.head import ACTIVATIONS
from pipeline.encoder.model import Encoder
from pipeline.encoder.static import LONGEST, StaticBackbone
from pipeline.encoder.static_folder import write_static


def write(encoder: Encoder, folder: Path, card: str) -> None:
    """Write a new folder with the encoder and its model card: the whole folder, or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        fill(temporary, encoder)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        for file in filter(Path.is_file, temporary.rglob("*")):
            file.chmod(0o644)  # safetensors writes for its user only
        temporary.chmod(0o755)
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary)
        raise


def fill(folder: Path, encoder: Encoder) -> None:
    """Write a transformers model, its tokenizer, and the JSON files of sentence-transformers; of a table, its own."""
    prompts = {"query": encoder.prefixes["query"], "document": encoder.prefixes["passage"]}
    if isinstance(encoder.backbone, StaticBackbone):
        table_VD, longest = encoder.backbone.embeddings.weight, encoder.max_tokens["passage"]
        tokens = longest if longest < LONGEST else None
        write_static(folder, table_VD, encoder.tokenizer, max_tokens=tokens, normalize=encoder.unit, prompts=prompts)
        return
    encoder.backbone.save_pretrained(folder)
    pad_token = encoder.tokenizer.id_to_token(encoder.pad_id)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=encoder.tokenizer, pad_token=pad_token)
    tokenizer.model_max_length = encoder.max_tokens["passage"]
    tokenizer.save_pretrained(folder)
    written = folder / "tokenizer_config.json"  # the class as transformers 4 knows it, which other servers still have
    settings = json.loads(written.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    write_json(written, settings)
    width, head = encoder.backbone.config.hidden_size, encoder.head
    pooling = {key: name == head.pooling for key, name in LEGACY_POOLINGS.items()}  # read by all versions
    modules: list[tuple[str, dict[str, object]]] = [("Transformer", {})]
    modules += [("Pooling", {"word_embedding_dimension": width, **pooling})]
    for layer, linear in zip(head.dense, head.layers, strict=True):
        activation = type(ACTIVATIONS[layer.activation]()).__name__
        modules += [
            (
                "Dense",
                {
                    "in_features": linear.in_features,
                    "out_features": linear.out_features,
                    "bias": layer.bias,
                    "activation_function": f"torch.nn.{activation}",
                },
            )
        ]
    modules += [("Normalize", {})] if head.normalize else []
    paths = ["", *(f"{n}_{module}" for n, (module, _) in enumerate(modules[1:], 1))]
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{module}"}
        for n, (path, (module, _)) in enumerate(zip(paths, modules, strict=True))
    ]
    write_json(folder / "modules.json", listed)
    for path, (_, config) in zip(paths[1:], modules[1:], strict=True):
        (folder / path).mkdir()
        write_json(folder / path / "config.json", config)
    dense_paths = [path for path in paths if path.endswith("_Dense")]
    for path, linear in zip(dense_paths, head.layers, strict=True):
        state = {f"linear.{name}": value for name, value in linear.state_dict().items()}
        save_file(state, folder / path / "model.safetensors")
    length = {"max_seq_length": encoder.max_tokens["passage"], "do_lower_case": False}
    without_pooler = {"model_args": {"add_pooling_layer": False}} if hasattr(encoder.backbone, "pooler") else {}
    write_json(folder / "sentence_bert_config.json", length | without_pooler)
    write_json(folder / "config_sentence_transformers.json", {"prompts": prompts, "similarity_fn_name": "cosine"})


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
