"""sentence-transformers behind FastAPI, as a tutorial has it: a request is a call of `encode`, in a thread of its own.

`python -m pipeline.bench.plain_server FOLDER PORT`, for the comparison of servers.
"""

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

PROMPTS = {"query": "query", "passage": "document"}


class Request(BaseModel):
    """A request of OpenAI's embeddings protocol."""

    model: str
    input: list[str]
    input_type: str = "query"


def app(model: SentenceTransformer) -> FastAPI:
    """Return the server of a model."""
    served = FastAPI()

    @served.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "plain", "object": "model", "owned_by": "plain"}]}

    @served.post("/v1/embeddings")
    def embeddings(request: Request) -> dict[str, Any]:
        emb_ND = model.encode(request.input, prompt_name=PROMPTS[request.input_type], show_progress_bar=False)
        data = [{"object": "embedding", "index": n, "embedding": emb_D.tolist()} for n, emb_D in enumerate(emb_ND)]
        return {"object": "list", "data": data, "model": request.model}

    return served


if __name__ == "__main__":
    torch.set_num_threads(2)
    uvicorn.run(app(SentenceTransformer(sys.argv[1], device="cpu")), port=int(sys.argv[2]), log_level="warning")
