"""The names that a sweep may have: each is a folder of the results."""

import re

from pipeline.values import UserError

RESERVED = ("runs", "stages", "locks", "wandb")  # folders of the results that no sweep may have


def check_sweep(key: str, name: str) -> None:
    """Raise UserError for a sweep's name that cannot be a folder of its own in the results."""
    if not re.fullmatch(r"\w[\w.-]{0,99}", name) or name in RESERVED:
        allowed = "1 to 100 letters, digits, '_', '-' and '.', and none of " + ", ".join(RESERVED)
        raise UserError(f"{key}={name:.120}: a sweep's name has {allowed}.")
