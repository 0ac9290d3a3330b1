"""OpenAI's embeddings protocol as plain values: what a request may hold, what answers and errors look like.

https://platform.openai.com/docs/api-reference/embeddings. `input_type` is an extension that NVIDIA's and Cohere's APIs
share: encoders like E5 put another prompt before a query than before a passage. Bodies are data of a stranger: whatever
they hold ends in a Request or in a Refusal.

Axes: N texts, D embedding width.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.values import Side, alternatives, readable

FIELDS = ("input", "model", "encoding_format", "dimensions", "input_type", "user")  # `user` is accepted and not used
ENCODINGS, SIDES = ("float", "base64"), ("query", "passage")


@dataclass(eq=False)
class Refusal(Exception):
    """A request that gets an error.

    Attributes:
        status: of HTTP.
        param: the field of the request that is wrong.
        code: a word for programs.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The error in the protocol's shape."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        return {"error": {"message": readable(self.message), "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class Request:
    """The texts to embed and the form of the answer."""

    texts: Sequence[str]
    side: Side
    encoding: str
    width: int


@dataclass(frozen=True)
class Rules:
    """What this server accepts.

    Attributes:
        widths: that `dimensions` may name; without `dimensions` embeddings have the first.
    """

    model: str
    widths: Sequence[int]
    max_inputs: int


def parse(body: bytes, rules: Rules) -> Request:
    """Return the request that a body holds; Refusal if it holds none."""
    values = read_json(body)
    if not isinstance(values, dict):
        raise Refusal(400, f"the body must be a JSON object, got {kind_of(values)}.")
    for name in values:
        if name not in FIELDS:
            raise Refusal(400, f"unknown field {name[:80]}: {alternatives(name[:80], FIELDS)}")
    if "model" not in values:
        raise Refusal(400, f"model is missing: this server has {rules.model}.", "model")
    if (model := values["model"]) != rules.model:
        raise Refusal(404, f"model={shown(model)}: this server has {rules.model}.", "model", "model_not_found")
    if "input" not in values:
        raise Refusal(400, "input is missing.", "input")
    return Request(
        texts=texts_of(values["input"], rules.max_inputs),
        side="query" if one_of("input_type", values, SIDES) == "query" else "passage",
        encoding=one_of("encoding_format", values, ENCODINGS),
        width=width_of(values.get("dimensions"), rules.widths),
    )


def read_json(body: bytes) -> Any:
    """Return the value of a body; Refusal unless it is JSON by RFC 8259, in UTF-8, with every key once."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            raise ValueError("an object holds a key twice")
        return values

    def no_number(word: str) -> None:
        raise ValueError(f"{word} is no number of JSON")

    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_number)
    except RecursionError:
        raise Refusal(400, "the body is nested too deep.") from None
    except ValueError as error:  # of the decoder of UTF-8 and of the parser too
        raise Refusal(400, f"the body cannot be read as JSON: {error}.") from None


def texts_of(value: Any, max_inputs: int) -> list[str]:
    """Return the texts of `input`."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise Refusal(400, f"input must be a string or a list of strings, got {kind_of(value)}.", "input")
    if not texts:
        raise Refusal(400, "input is an empty list.", "input")
    if len(texts) > max_inputs:
        raise Refusal(400, f"input has {len(texts)} texts: this server takes {max_inputs} per request.", "input")
    for position, text in enumerate(texts):
        where = "input" if isinstance(value, str) else f"input[{position}]"
        if not isinstance(text, str):
            hint = "; token ids are those of another tokenizer, send text" if isinstance(text, int | list) else ""
            raise Refusal(400, f"{where} must be a string, got {kind_of(text)}{hint}.", "input")
        if not text.strip():
            raise Refusal(400, f"{where} is blank.", "input")
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON can write it: "\ud83d"
            raise Refusal(400, f"{where} holds half of a surrogate pair, which is no character.", "input") from None
    return texts


def one_of(name: str, values: Mapping[str, Any], options: Sequence[str]) -> str:
    """Return a field with few options; the first of them where it is missing or null."""
    value = values.get(name)
    if value is not None and value not in options:
        raise Refusal(400, f"{name}={shown(value)}: it must be {' or '.join(options)}.", name)
    return value or options[0]


def width_of(value: Any, widths: Sequence[int]) -> int:
    """Return the number of dimensions of the answer."""
    if value is None:
        return widths[0]
    if type(value) is not int or value not in widths:
        some = ", ".join(map(str, widths))
        raise Refusal(400, f"dimensions={shown(value)}: this model has {some}.", "dimensions")
    return value


def kind_of(value: Any) -> str:
    """Return JSON's word for the type of a value."""
    words = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return words.get(type(value), "a number")


def shown(value: Any) -> str:
    """Return the beginning of a value for a message."""
    return str(value)[:80] if isinstance(value, str | int | float) else kind_of(value)


def answer(emb_ND: np.ndarray, encoding: str, model: str, tokens: int) -> bytes:
    """Return the body of an answer.

    Args:
        encoding: float: lists of numbers; base64: little-endian float32.
        tokens: of all texts, prompts and special tokens included, after truncation.

    Raises:
        ValueError: an embedding holds NaN or infinity, which JSON has no number for.
    """
    if not np.isfinite(emb_ND).all():
        raise ValueError("an embedding holds NaN or infinity")
    vectors: Sequence[Any] = emb_ND.tolist()
    if encoding == "base64":
        vectors = [base64.b64encode(emb_D.astype("<f4").tobytes()).decode() for emb_D in emb_ND]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    body = {"object": "list", "data": data, "model": model, "usage": usage}
    return json.dumps(body, separators=(",", ":")).encode()
