"""Systems whose queries are encoded by an encoder of its own, told apart where names alone do not."""

import pandas as pd

from pipeline.values import RUN_OF_A_SEED


def told_apart(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of runs; where one run has several query encoders of one name, its labels say which is meant.

    Such encoders differ in seed, steps or text, which are no part of their name: as one system, all but one of them
    would be lost.

    Args:
        table: one row per run, with `name`, `system`, `variant` and `seed`. `system` and `variant` get the seed and the
            hash that end the name of the query encoder's run.

    >>> name = "l12-s0-00000000+queries-by-q3-s0-"
    >>> table = pd.DataFrame({"name": [name + "0a1b2c3d", name + "4e5f6a7b"], "system": "l12 queries by q3",
    ...                       "variant": "queries by q3", "seed": 0})
    >>> told_apart(table)["system"].tolist()
    ['l12 queries by q3 s0-0a1b2c3d', 'l12 queries by q3 s0-4e5f6a7b']
    >>> told_apart(table.assign(seed=[0, 1]))["system"].tolist()  # one encoder per seed
    ['l12 queries by q3', 'l12 queries by q3']
    """
    encoders = table["name"].str.extract(f"({RUN_OF_A_SEED})")[0].str.replace("-", " ", n=1)
    encoders = encoders.where(table["variant"].str.contains("queries by "))
    several = encoders.groupby([table["system"], table["seed"]]).transform("nunique") > 1
    return table.assign(**{key: table[key].where(~several, table[key] + encoders) for key in ("variant", "system")})
