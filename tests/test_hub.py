"""pipeline.data.hub: the real huggingface_hub client, in a process of its own, against a small hub on loopback."""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer

from pipeline.data.hub import fetch, listing
from pipeline.values import UserError

CLIENT = """
import json, sys
from pipeline.data.hub import fetch
from pipeline.values import UserError
for name, revision in json.loads(sys.argv[1]):
    try:
        answer = {"path": str(fetch("owner/set", name, folder=None, key="eval.x.path", revision=revision))}
    except UserError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))
"""
SMALL, LARGE = "topics/dev.tsv", "docs-0.jsonl.gz"
RANDOM = os.urandom(1 << 20) * 12  # 12 MiB: the client keeps what it got in steps of 10 MiB


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    repo = tmp_path / "hub/datasets/owner/set"
    (repo / "topics").mkdir(parents=True)
    (repo / SMALL).write_text("1\tWer?\n2\tτι;\n", encoding="utf-8")
    (repo / LARGE).write_bytes(gzip.compress(b'{"docid": "1#0"}\n'))
    with HubServer(tmp_path / "hub") as server:
        yield server


def fetched(hub: HubServer, *names: str, revision: str | None = None, **environment: str) -> list[dict[str, Any]]:
    lines = hub.client(CLIENT, json.dumps([[name, revision] for name in names]), **environment).splitlines()
    return [json.loads(line) for line in lines]


def bytes_at_hub(hub: HubServer, name: str) -> bytes:
    return (hub.root / "datasets/owner/set" / name).read_bytes()


def test_files_arrive_once_and_outlive_the_network(hub: HubServer) -> None:
    first = fetched(hub, SMALL, LARGE)
    assert [Path(answer["path"]).read_bytes() for answer in first] == [bytes_at_hub(hub, n) for n in (SMALL, LARGE)]
    hub.requests.clear()
    assert fetched(hub, SMALL, LARGE) == first
    assert [method for method, _, _ in hub.requests] == ["HEAD", "HEAD"], hub.requests
    hub.__exit__()
    assert fetched(hub, SMALL, LARGE) == first
    assert fetched(hub, SMALL, HF_HUB_OFFLINE="1") == first[:1]


def test_an_interrupted_download_resumes(hub: HubServer) -> None:
    (hub.root / "datasets/owner/set" / LARGE).write_bytes(RANDOM)
    hub.interrupted[f"datasets/owner/set/{LARGE}"] = 11 << 20
    [answer] = fetched(hub, LARGE)
    assert Path(answer["path"]).read_bytes() == RANDOM
    assert ("GET", f"cdn/datasets/owner/set/{LARGE}", f"bytes={10 << 20}-") in hub.requests


@pytest.mark.parametrize("name", [SMALL, LARGE])
def test_a_damaged_download_is_refused_and_not_kept(hub: HubServer, name: str) -> None:
    hub.damaged.add(f"datasets/owner/set/{name}")
    [answer] = fetched(hub, name)
    assert answer["error"].startswith(f"owner/set/{name} arrived damaged (its checksum is not the hub's)")
    hub.damaged.clear()
    [answer] = fetched(hub, name)
    assert Path(answer["path"]).read_bytes() == bytes_at_hub(hub, name)


def test_a_gated_repository_names_the_page_with_its_terms_and_opens_with_a_token(hub: HubServer) -> None:
    hub.gated.add("datasets/owner/set")
    [answer] = fetched(hub, SMALL)
    assert answer["error"] == (
        f"owner/set/{SMALL} is gated: accept its terms at {hub.endpoint}/datasets/owner/set and set HF_TOKEN, or point "
        "eval.x.path at a local copy."
    )
    assert "path" in fetched(hub, SMALL, HF_TOKEN="hf_of_a_test")[0]


def test_a_missing_file_revision_or_repository_is_named(hub: HubServer) -> None:
    hub.failing.add("datasets/owner/set/busy.tsv")
    absent, busy = fetched(hub, "absent.tsv", "busy.tsv")
    assert absent["error"].startswith("owner/set/absent.tsv: the repository has no such file")
    assert busy["error"].startswith(f"owner/set/busy.tsv: {hub.endpoint} answered 503")
    [answer] = fetched(hub, SMALL, revision="v9")
    assert answer["error"].startswith(f"owner/set/{SMALL}: the repository has no revision v9: correct it")
    (hub.root / "datasets/owner/set").rename(hub.root / "datasets/owner/other")
    [answer] = fetched(hub, SMALL)
    assert answer["error"].startswith(f"owner/set/{SMALL}: no such repository, or a private one: set HF_TOKEN")


def test_a_dead_network_is_reported_with_a_way_out(hub: HubServer) -> None:
    hub.__exit__()
    [answer] = fetched(hub, SMALL)
    assert answer["error"] == (
        f"owner/set/{SMALL} is not in the cache and {hub.endpoint} is not reachable: connect, set HF_ENDPOINT to a "
        "mirror, or point eval.x.path at a local copy."
    )
    client = CLIENT.replace("import fetch", "import listing as fetch")
    assert "is not reachable" in hub.client(client, json.dumps([["topics", None]]))


def test_a_listing_is_the_same_from_the_hub_and_from_a_folder(hub: HubServer) -> None:
    code = "from pipeline.data.hub import listing; print(listing('owner/set', 'topics', folder=None, key='k'))"
    folder = str(hub.root / "datasets/owner/set")
    assert hub.client(code).strip() == str(listing("owner/set", "topics", folder=folder, key="k")) == "['dev.tsv']"


def test_a_folder_needs_no_hub(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    assert fetch("owner/set", "a.json", folder=str(tmp_path), key="k") == tmp_path / "a.json"
    with pytest.raises(UserError, match=r"^eval\.x\.path: there is no file .*b\.json\.$"):
        fetch("owner/set", "b.json", folder=str(tmp_path), key="eval.x.path")
    with pytest.raises(UserError, match=r"^eval\.x\.path: there is no folder .*topics\.$"):
        listing("owner/set", "topics", folder=str(tmp_path), key="eval.x.path")


SNAPSHOT = """
from pathlib import Path
from pipeline.data.hub import snapshot
from pipeline.values import UserError
try:
    folder = snapshot("owner/model", ["config.json", "model*.safetensors"], revision=None, way_out="or take another")
    print(*sorted(path.name for path in folder.iterdir()))
except UserError as error:
    print(error)
"""


def test_a_snapshot_holds_the_matching_files_and_outlives_the_network(hub: HubServer) -> None:
    model = hub.root / "models/owner/model"
    model.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "pytorch_model.bin"):
        (model / name).write_bytes(name.encode())
    files = "config.json model.safetensors"
    hub.gated.add("models/owner/model")
    message = hub.client(SNAPSHOT).strip()
    assert message.startswith(f"owner/model is gated: accept its terms at {hub.endpoint}/owner/model and set HF_TOKEN")
    assert message.endswith(", or take another.")
    assert hub.client(SNAPSHOT, HF_TOKEN="hf_of_a_test").strip() == files
    assert hub.client(SNAPSHOT).strip() == files  # gated again, but in the cache
    hub.gated.clear()
    hub.requests.clear()
    assert hub.client(SNAPSHOT).strip() == files
    assert [method for method, _, _ in hub.requests] == ["GET", "HEAD", "HEAD"], hub.requests
    hub.__exit__()
    assert hub.client(SNAPSHOT).strip() == files
    assert hub.client(SNAPSHOT, HF_HUB_OFFLINE="1").strip() == files
    message = hub.client(SNAPSHOT, HF_HOME=str(hub.root / "empty")).strip()
    assert message.startswith(f"owner/model is not in the cache and {hub.endpoint} is not reachable: ")


MODEL = """
import sys
import torch
from transformers import AutoModel, BertConfig, BertModel
sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
model = BertModel(BertConfig(vocab_size=11, **sizes))
model.save_pretrained(sys.argv[1])
again = AutoModel.from_pretrained("owner/model").state_dict()
print(all(torch.equal(again[name], weights) for name, weights in model.state_dict().items()))
"""


def test_transformers_loads_a_model_from_the_loopback_hub(hub: HubServer) -> None:
    assert hub.client(MODEL, str(hub.root / "models/owner/model"), timeout_s=120).strip() == "True"
