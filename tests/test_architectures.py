"""The architectures of public models: what conf/model builds is what architectures.csv counts and mteb's facts say."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from test_encoder import compose_model

from pipeline.analysis.published.models import HERE, architectures
from pipeline.encoder.sources import load

pytestmark = pytest.mark.slow

COUNTED = architectures().set_index("architecture")
MODELS = pd.read_csv(HERE / "models.csv")
SWEEP = Path(__file__).parent.parent / "sweeps" / "published.yaml"


@pytest.mark.parametrize("name", COUNTED.index)
def test_what_is_built_is_what_is_counted(name):
    with torch.device("meta"):  # shapes only: no memory, no time
        encoder = load(compose_model(name, weights="random"), seed=0)
    backbone = encoder.backbone
    built = {
        "parameters": sum(value.numel() for value in encoder.parameters()),
        "embedding_parameters": backbone.get_input_embeddings().weight.numel(),
        "layers": backbone.config.num_hidden_layers,
        "width": encoder.width,
        "precision": str(backbone.dtype).removeprefix("torch."),
    }
    assert built == COUNTED.loc[name, list(built)].to_dict()


def test_the_tables_name_each_architecture_and_model_once():
    assert set(MODELS["architecture"]) == set(COUNTED.index)
    assert MODELS["model"].is_unique
    assert COUNTED.index.is_unique
    assert len(MODELS) >= 120
    assert len(COUNTED) >= 25
    swept = SWEEP.read_text().split('model: "')[1].split('"')[0].replace("\\\n", "").replace(" ", "").split(",")
    assert len(set(swept)) >= 25
    assert set(swept) <= set(COUNTED.index)


def test_each_model_has_the_parameters_of_its_architecture(shared_data):
    """Within 1 %. What others count may hold a head that embeds nothing: BERT's pooler, or the output of a decoder."""
    published = pd.read_csv(shared_data / "published" / "models.csv").merge(MODELS, on="model")
    assert len(published) == len(MODELS)
    for model in published.join(COUNTED, on="architecture").itertuples():
        pooler = model.width**2 + model.width
        totals = [model.parameters + head for head in (0, pooler, model.embedding_parameters)]
        assert any(total == pytest.approx(model.n_parameters, rel=0.01) for total in totals), model.model
        if pd.notna(model.n_embedding_parameters):
            assert model.embedding_parameters == pytest.approx(model.n_embedding_parameters, rel=0.01), model.model
        if model.model != "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2":  # mteb says 768, its files 384
            assert model.width == model.embed_dim, model.model
