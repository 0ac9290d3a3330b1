"""What a load is put on: a run's encoder in this process, a server of OpenAI's embeddings protocol, or nothing.

A call waits for its answer; many threads call at once. Axes: N texts, D embedding width.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import httpx2
import numpy as np

from pipeline.serving.batching import Batcher, Full, Limits
from pipeline.serving.encoders import Retriever, engine, truncated
from pipeline.values import Side, UserError, readable

if TYPE_CHECKING:
    import faiss

OVERLOADED = (429, 503)
WAIT_S = 60.0  # for an answer, after which a server counts as overloaded
TOP_K = 10  # results per search


class Refused(Exception):
    """The system has no room for the call."""


class System(Protocol):
    """Something that embeds texts, called by many threads at once."""

    def embed(self, texts: Sequence[str], side: Side) -> np.ndarray:
        """Return emb_ND; raise Refused if the system has no room."""
        ...


class Null:
    """Answers at once: under it, a test measures the generator."""

    def embed(self, texts: Sequence[str], side: Side) -> np.ndarray:
        """Return vectors of zeros."""
        return np.zeros((len(texts), 1), np.float32)


class Search:
    """Searches an index for the best TOP_K, as many queries at a time as there are threads, each on one.

    Args:
        index: of passages.
        threads: that search.
    """

    def __init__(self, index: "faiss.Index", threads: int):
        import faiss

        self.index = index
        # OpenMP keeps its number of threads by thread: so the searching threads are the pool's own.
        self.pool = ThreadPoolExecutor(threads, "search", lambda: faiss.omp_set_num_threads(1))

    def __call__(self, emb_ND: np.ndarray) -> None:
        """Search for some queries, and wait for the result."""
        from pipeline.retrieval import faiss_index

        self.pool.submit(faiss_index.search, self.index, emb_ND, TOP_K).result()

    def stop(self) -> None:
        """End the threads."""
        self.pool.shutdown()


class InProcess:
    """A retriever in this process, behind the dynamic batching of `pipeline.serve`, and the search of an index.

    Args:
        limits: of the batches and the queue.
        search: of queries' vectors; None: the encoder alone.
    """

    def __init__(self, retriever: Retriever, limits: Limits, search: Search | None = None):
        self.retriever, self.search = retriever, search
        # Both sides have one encoder most often, and then share its batches.
        distinct = {id(encoder): encoder for encoder in retriever.encoders.values()}
        batchers = {key: Batcher(engine(encoder), limits) for key, encoder in distinct.items()}
        self.batchers = {side: batchers[id(encoder)] for side, encoder in retriever.encoders.items()}

    def embed(self, texts: Sequence[str], side: Side) -> np.ndarray:
        """Tokenize, wait for a batch of the engine and, for queries, search."""
        try:
            rows = self.retriever.encoders[side].tokenize(texts, side)
            emb_ND = truncated(self.batchers[side].submit(rows).result(), self.retriever.width)
        except Full:
            raise Refused from None
        if self.search and side == "query":
            self.search(emb_ND)
        return emb_ND

    def stop(self) -> None:
        """End the threads of the batchers and of the search."""
        for batcher in {*self.batchers.values()}:
            batcher.stop()
        if self.search:
            self.search.stop()


class Target:
    """A server that speaks OpenAI's embeddings protocol.

    Args:
        client: of HTTP, with the address of the server.
        model: that requests name.
        sided: whether requests say if a text is a query or a passage, as `input_type`; OpenAI's own do not.
    """

    def __init__(self, client: httpx2.Client, model: str, *, sided: bool):
        self.client, self.model, self.sided = client, model, sided

    def embed(self, texts: Sequence[str], side: Side) -> np.ndarray:
        """Send a request.

        Raises:
            UserError: the server answers with another error than that it is overloaded, or with what is no embedding.
        """
        body: dict[str, Any] = {"model": self.model, "input": list(texts)}
        body |= {"input_type": side} if self.sided else {}
        try:
            response = self.client.post("v1/embeddings", json=body)
        except httpx2.TransportError:
            raise Refused from None
        if response.status_code in OVERLOADED:
            raise Refused
        where = f"target={self.client.base_url}"
        if response.status_code != 200:
            raise UserError(f"{where} answers {response.status_code}: {readable(response.text[:500])}")
        try:
            return vectors(response.json(), len(texts))
        except (ValueError, LookupError, TypeError):
            raise UserError(f"{where} does not answer with {len(texts)} embeddings.") from None

    def stop(self) -> None:
        """Close the connections."""
        self.client.close()


def connect(url: str, model: str | None, at_once: int, *, sided: bool) -> Target:
    """Return the server at an address.

    Args:
        url: with or without /v1.
        model: that requests name; None: the first that /v1/models lists.
        at_once: connections.
        sided: as of Target.

    Raises:
        UserError: it cannot be reached, or lists no model.
    """
    limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    address = url.rstrip("/").removesuffix("/v1")
    try:
        client = httpx2.Client(base_url=address, timeout=WAIT_S, limits=limits, trust_env=False)
        return Target(client, model or first_model(client), sided=sided)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise UserError(f"target={url} cannot be reached: {error}.") from error


def first_model(client: httpx2.Client) -> str:
    """Return the first model that a server lists; UserError if it lists none."""
    response = client.get("v1/models")
    try:
        return str(response.json()["data"][0]["id"])
    except (ValueError, LookupError, TypeError):
        where = f"target={client.base_url}: v1/models"
        raise UserError(f"{where} lists no model (status {response.status_code}): name one by model_name.") from None


def canned(width: int) -> Target:
    """Return a client whose requests are answered at once in this process: what writing and reading them costs.

    Args:
        width: of the embedding that it reads.
    """
    body = {"data": [{"embedding": [0.123456789] * width}]}
    answer = httpx2.MockTransport(lambda request: httpx2.Response(200, json=body))
    return Target(httpx2.Client(base_url="http://null", transport=answer), "null", sided=True)


def vectors(answer: Any, count: int) -> np.ndarray:
    """Return emb_ND of an answer of the protocol; ValueError, LookupError or TypeError if it is none.

    >>> vectors({"data": [{"embedding": [0.5, 1.0]}]}, 1)
    array([[0.5, 1. ]], dtype=float32)
    """
    emb_ND = np.array([each["embedding"] for each in answer["data"]], np.float32)
    if len(emb_ND) != count or emb_ND.ndim != 2:
        raise ValueError
    return emb_ND
