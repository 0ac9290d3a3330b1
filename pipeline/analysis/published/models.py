"""Which architecture a public model has, how large it is, and whether it says that it trained on MIRACL.

models.csv maps models to architectures, files of conf/model; `recipe` names the sizes of one recipe. architectures.csv
counts what these architectures hold (tests hold it against transformers and against what mteb says of each model).
"""

from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
TRAINED, NOT_TRAINED, SILENT = "trained on MIRACL", "says it did not", "does not say"
CLASSES = (NOT_TRAINED, SILENT, TRAINED)
BYTES = {"float32": 4, "bfloat16": 2}  # per weight


def architectures() -> pd.DataFrame:
    """Return one row per architecture: parameters, embedding_parameters, width, precision, active_parameters.

    Word embeddings are looked up, not multiplied, so the active parameters are the others; a static table has none.

    >>> table = architectures().set_index("architecture")
    >>> int(table.loc["e5-small", "active_parameters"]), table.loc["e5-small", "precision"]
    (21491712, 'float32')
    """
    table = pd.read_csv(HERE / "architectures.csv")
    return table.assign(active_parameters=table["parameters"] - table["embedding_parameters"])


def with_architectures(models: pd.DataFrame) -> pd.DataFrame:
    """Return the published models with architecture, recipe, sizes and `zero_shot`, one of CLASSES.

    Sizes are those of the architecture. Of other models they are what mteb says; active parameters are NaN where it
    does not say how many are word embeddings.

    >>> models = pd.DataFrame({"model": ["BAAI/bge-m3", "a/b"], "n_parameters": [568e6, 9e6],
    ...                        "n_embedding_parameters": [float("nan"), 4e6], "trained_on_miracl": [True, None]})
    >>> columns = ["architecture", "active_parameters", "zero_shot"]
    >>> with_architectures(models)[columns].to_numpy().tolist()
    [['bge-m3', 310703104.0, 'trained on MIRACL'], [nan, 5000000.0, 'does not say']]
    """
    known = pd.read_csv(HERE / "models.csv").merge(architectures(), on="architecture", validate="many_to_one")
    table = models.merge(known, on="model", how="left", validate="one_to_one")
    total, embeddings = (pd.to_numeric(table[name]) for name in ("n_parameters", "n_embedding_parameters"))
    total = total.where(total > 0)
    table["active_parameters"] = table["active_parameters"].fillna(total - embeddings)
    table["parameters"] = table["parameters"].fillna(total)
    says = table["trained_on_miracl"].map({True: TRAINED, False: NOT_TRAINED, "True": TRAINED, "False": NOT_TRAINED})
    return table.assign(zero_shot=says.fillna(SILENT))
