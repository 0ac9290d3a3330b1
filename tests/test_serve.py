"""`python -m pipeline.serve`: real servers on loopback, real clients, and whatever a stranger may send."""

import asyncio
import base64
import json
import select
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from command import inside, start
from hydra import compose, initialize_config_dir
from prometheus_client.parser import text_string_to_metric_families
from small_model import FOLDER

from pipeline.config import plain, typed
from pipeline.encoder.encoding import encode
from pipeline.encoder.sources import load
from pipeline.export import export
from pipeline.retrieval.vectors import truncate
from pipeline.serving import encoders, protocol
from pipeline.serving.app import Service
from pipeline.serving.batching import Limits
from pipeline.serving.server import listening
from pipeline.store.records import Record
from pipeline.store.results import ResultStore
from pipeline.values import Variant

CONF = Path(__file__).parents[1] / "conf"
NAME = "toy-monolingual-worldfacts-s0-0123abcd"
OTHER = "small-none-worldfacts-s0-89abcdef"
TEXTS = ["Wer war das?", "the cat sat on the mat", "x", "Berlin ist die Hauptstadt. " * 60, "a\x00b 🙂", "Who was it?"]
WAIT_S = 60.0


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("serve"))


def make_results(folder):
    """A store with a run trained for three widths, its inference variants, and another run; and its encoder."""
    store = ResultStore(folder / "results")
    grids = f"[{{width:[64]}},{{fusion:[rrf]}},{{centre:[both]}},{{query_encoder:[{OTHER}]}},{{backend:[onnx]}}]"
    overrides = ["model=e5-small-l3", "model.layers=1", f"model.weights={FOLDER}", f"variants.grids={grids}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = typed(compose("config", overrides=[*overrides, "trainer.matryoshka_widths=[192,96]"]))
        bm25 = typed(compose("config", overrides=["model=bm25"]))
    encoder = load(config.model, seed=0)
    next(iter(encoder.backbone.encoder.layer[0].parameters())).data *= 1.5
    encoder.save(store.stage_dir("train", "key") / "encoder")
    record = Record(
        name=NAME,
        cache_key="1",
        status="done",
        choices={"model": "toy", "sampler": "monolingual", "data": "worldfacts"},
        config=plain(config),
        seed=0,
        provenance={"layers": 1, "time": "2026-01-01T00:00:00Z", "commit": "abc", "stages": {"train": "key"}},
        training={"final_loss": 1.0},
    )
    for variant in config.inference_variants():
        store.save(replace(record, name=variant.run_name(NAME), variant=variant.label))
    store.save(replace(record, name=OTHER, training={}))
    store.save(replace(record, name="bm25", config=plain(bm25)))
    return store, encoder


class Server:
    """A server process."""

    def __init__(self, process):
        self.process = process
        self.line = process.stdout.readline()
        assert self.line, process.communicate(timeout=WAIT_S)[1]
        self.url = self.line.split()[-1]
        self.client = httpx.Client(base_url=self.url, timeout=WAIT_S, limits=httpx.Limits(max_connections=100))

    def post(self, content=None, **body):
        return self.client.post("/v1/embeddings", content=content or json.dumps({"model": NAME} | body))

    def metrics(self):
        families = text_string_to_metric_families(self.client.get("/metrics").text)
        return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}

    def port(self):
        return int(self.url.rpartition(":")[2])


@contextmanager
def served(store, *options):
    process = start(NAME, "port=0", "threads=1", *options, cwd=store.root.parent, module="pipeline.serve")
    server = Server(process)
    try:
        yield server
        server.client.close()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=WAIT_S) == (
            "stopped · all accepted requests answered\n",
            "interrupted: run the same command again to resume\n",  # and no traceback of all that was sent
        )
        assert process.returncode == 130
    finally:
        server.client.close()
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(results):
    with served(results[0], "max_wait_ms=5", "max_body_kib=64", "max_inputs=40") as server:
        yield server


def vectors(response):
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert [each["index"] for each in data] == [*range(len(data))]
    return np.array([each["embedding"] for each in data], np.float32)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_vectors_are_those_of_the_run(server, results):
    encoder = results[1]
    for side in ("query", "passage"):
        expected = encode(encoder, TEXTS, side)
        close(vectors(server.post(input=TEXTS, input_type=side)), expected)
        for text, emb_D in zip(TEXTS, expected, strict=True):
            close(vectors(server.post(input=text, input_type=side)), emb_D[None])
    assert np.abs(encode(encoder, TEXTS, "query") - encode(encoder, TEXTS, "passage")).max() > 1e-3
    close(vectors(server.post(input=TEXTS)), encode(encoder, TEXTS, "query"))


def test_the_answer_has_the_protocols_shape(server, results):
    answer = server.post(input=TEXTS[:2], input_type="passage", user="ada").json()
    tokens = sum(map(len, results[1].tokenize(TEXTS[:2], "passage")))
    assert answer.keys() == {"object", "data", "model", "usage"}
    assert (answer["object"], answer["model"]) == ("list", NAME)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert {each["object"] for each in answer["data"]} == {"embedding"}
    (model,) = server.client.get("/v1/models").json()["data"]
    assert (model["id"], model["object"], model["owned_by"]) == (NAME, "model", "paretrieve")
    assert server.client.get(f"/v1/models/{NAME}").json() == model
    assert server.client.get("/health").json() == {"status": "ready"}


def test_base64_and_dimensions(server, results):
    emb_ND = encode(results[1], TEXTS, "query")
    for width in (384, 192, 96):
        answer = server.post(input=TEXTS, dimensions=width, encoding_format="base64").json()
        raw = [np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for each in answer["data"]]
        close(raw, truncate(emb_ND, width))
        close(vectors(server.post(input=TEXTS, dimensions=width, encoding_format="float")), raw)


def test_openais_own_client(server, results):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.embeddings.create(model=NAME, input=TEXTS[:3], extra_body={"input_type": "passage"})
        close([each.embedding for each in answer.data], encode(results[1], TEXTS[:3], "passage"))
        assert [model.id for model in client.models.list()] == [NAME]
        with pytest.raises(openai.NotFoundError) as caught:
            client.embeddings.create(model="gpt", input="x")
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_concurrent_clients_get_their_own_vectors(server, results):
    before = server.metrics()
    texts = [f"{text} {number}" for number, text in enumerate(TEXTS[:3] * 20)]
    expected = encode(results[1], texts, "passage")
    with ThreadPoolExecutor(12) as pool:
        answers = pool.map(lambda n: vectors(server.post(input=texts[n : n + 2], input_type="passage")), range(59))
        for n, emb_ND in enumerate(answers):
            close(emb_ND, expected[n : n + 2])
    after = server.metrics()
    tokens = [len(row) for row in results[1].tokenize(texts, "passage")]
    grown = {key: after[key] - before.get(key, 0) for key in after}
    assert grown["paretrieve_requests_total", "200"] == grown["paretrieve_request_seconds_count",] == 59
    assert grown["paretrieve_tokens_total",] == sum(tokens[n] + tokens[n + 1] for n in range(59))
    assert grown["paretrieve_batch_texts_sum",] == 2 * 59
    assert grown["paretrieve_batch_texts_count",] == grown["paretrieve_batch_seconds_count",] <= 2 * 59
    assert (after["paretrieve_queue_texts",], after["process_resident_memory_bytes",] > 1e6) == (0, True)


OBJECT = f'{{"model": "{NAME}", "input": '
BAD = [
    ("", 400, None, "the body cannot be read as JSON: Expecting value: line 1 column 1 (char 0)."),
    ("{", 400, None, "the body cannot be read as JSON: Expecting property name"),
    ("input=x", 400, None, "the body cannot be read as JSON: Expecting value"),
    (b"\xff\xfe{}", 400, None, "the body cannot be read as JSON: 'utf-8' codec can't decode byte 0xff"),
    ("\ufeff{}", 400, None, "the body cannot be read as JSON: Unexpected UTF-8 BOM"),
    ("[" * 50_000, 400, None, "the body is nested too deep."),
    (OBJECT + "[" * 20_000 + "]" * 20_000 + "}", 400, None, "the body is nested too deep."),
    ('["x"]', 400, None, "the body must be a JSON object, got a list."),
    ("null", 400, None, "the body must be a JSON object, got null."),
    ("NaN", 400, None, "the body cannot be read as JSON: NaN is no number of JSON."),
    (OBJECT + '"x", "dimensions": Infinity}', 400, None, "the body cannot be read as JSON: Infinity is no number"),
    (OBJECT + '"x", "dimensions": ' + "9" * 5000 + "}", 400, None, "the body cannot be read as JSON: Exceeds"),
    (OBJECT + '"x", "input": "y"}', 400, None, "the body cannot be read as JSON: an object holds a key twice."),
    (OBJECT + '"x"} {}', 400, None, "the body cannot be read as JSON: Extra data"),
    ('{"input": "x"}', 400, "model", f"model is missing: this server has {NAME}."),
    ({"model": "gpt", "input": "x"}, 404, "model", f"model=gpt: this server has {NAME}."),
    ({"model": None, "input": "x"}, 404, "model", f"model=null: this server has {NAME}."),
    ({"model": ["\ud800"], "input": "x"}, 404, "model", "model=a list: this server has"),
    ({"model": "\ud800\n", "input": "x"}, 404, "model", "model=\\ud800 : this server has"),
    ({}, 400, "input", "input is missing."),
    ({"input": None}, 400, "input", "input must be a string or a list of strings, got null."),
    ({"input": 3}, 400, "input", "input must be a string or a list of strings, got a number."),
    ({"input": {"a": "b"}}, 400, "input", "input must be a string or a list of strings, got an object."),
    ({"input": []}, 400, "input", "input is an empty list."),
    ({"input": ""}, 400, "input", "input is blank."),
    ({"input": ["a", " \n"]}, 400, "input", "input[1] is blank."),
    ({"input": ["a", None]}, 400, "input", "input[1] must be a string, got null."),
    ({"input": [1, 2]}, 400, "input", "input[0] must be a string, got a number; token ids are those of"),
    ({"input": [[1, 2]]}, 400, "input", "input[0] must be a string, got a list; token ids are those of"),
    ({"input": "half \ud83d"}, 400, "input", "input holds half of a surrogate pair"),
    ({"input": ["x"] * 41}, 400, "input", "input has 41 texts: this server takes 40 per request."),
    ({"input": "x", "dimensions": 100}, 400, "dimensions", "dimensions=100: this model has 384, 96, 192."),
    ({"input": "x", "dimensions": True}, 400, "dimensions", "dimensions=True: this model has"),
    ({"input": "x", "dimensions": 96.0}, 400, "dimensions", "dimensions=96.0: this model has"),
    ({"input": "x", "dimensions": {}}, 400, "dimensions", "dimensions=an object: this model has"),
    ({"input": "x", "encoding_format": "int8"}, 400, "encoding_format", "encoding_format=int8: it must be"),
    ({"input": "x", "encoding_format": []}, 400, "encoding_format", "encoding_format=a list: it must be"),
    ({"input": "x", "input_type": "doc"}, 400, "input_type", "input_type=doc: it must be query or passage."),
    ({"input": "x", "inputs": "y"}, 400, None, "unknown field inputs: did you mean input? There are: input,"),
    ({"input": "x", "\ud800": 1}, 400, None, "unknown field \\ud800: There are: input, model,"),
]  # fmt: skip


def test_bad_input_gets_the_protocols_error(server):
    for body, status, param, says in BAD:
        response = server.post(content=json.dumps({"model": NAME} | body) if isinstance(body, dict) else body or " ")
        error = response.json()["error"]
        case = (body[:80] if isinstance(body, str | bytes) else body, error)
        assert error.keys() == {"message", "type", "param", "code"}, case
        assert (response.status_code, error["param"], error["type"]) == (status, param, "invalid_request_error"), case
        assert error["message"].startswith(says.replace("char 0", "char 1").replace("column 1 ", "column 2 ")), case
        assert len(error["message"]) < 300, case
    assert server.client.get("/health").json() == {"status": "ready"}


def test_other_paths_and_methods_get_it_too(server):
    for method, path, status, says in (
        ("GET", "/v1/embeddings", 405, "GET /v1/embeddings: method not allowed."),
        ("POST", "/v1/embedding", 404, "POST /v1/embedding: not found."),
        ("GET", "/", 404, "GET /: not found."),
        ("GET", "/v1/models/gpt%00%ff/x", 404, "model=gpt"),
    ):
        response = server.client.request(method, path)
        assert (response.status_code, response.json()["error"]["type"]) == (status, "invalid_request_error")
        assert response.json()["error"]["message"].startswith(says)


def raw(server, head):
    """A connection of our own, on which a request begins."""
    connection = socket.create_connection(("127.0.0.1", server.port()), timeout=WAIT_S)
    connection.sendall(f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
    return connection


def until_closed(connection):
    """What the server sent until it closed the connection."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:  # it closed with bytes of ours unread
        pass
    return received.decode()


def test_a_body_over_the_limit_is_not_read(server):
    says = "the body has more than 64 KiB."
    response = server.post(input="x" * 70_000)
    assert (response.status_code, response.json()["error"]["message"]) == (413, says)
    with raw(server, "Content-Length: 100000000000") as connection:  # of which no byte is sent
        answer = until_closed(connection)
    assert answer.startswith("HTTP/1.1 413 ")
    assert says in answer
    with raw(server, "Content-Length: 100000") as connection:  # which is sent after the answer
        select.select([connection], [], [], WAIT_S)
        for _ in range(10):
            connection.sendall(b" " * 10_000)
        assert until_closed(connection).startswith("HTTP/1.1 413 ")
    with raw(server, "Transfer-Encoding: chunked") as connection:  # without end
        sent, piece = 0, b"1000\r\n" + b" " * 4096 + b"\r\n"
        with suppress(ConnectionError):  # once it has answered
            while sent < 64 << 20:  # more than the system buffers
                sent += connection.send(piece * 16)
    assert sent < 64 << 20
    just = json.dumps({"model": NAME, "input": "x"})
    assert server.post(content=just + " " * (64 * 1024 - len(just))).status_code == 200
    assert server.post(content=just + " " * (64 * 1024 - len(just) + 1)).status_code == 413


def test_clients_that_go_away_or_speak_no_http_do_no_harm(server):
    with raw(server, "Content-Length: 1000") as connection:
        connection.sendall(b'{"model"')
    with socket.create_connection(("127.0.0.1", server.port()), timeout=WAIT_S) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert until_closed(connection).startswith("HTTP/1.1 400 ")
    assert len(vectors(server.post(input="x"))) == 1


LONG = ["Berlin ist die Hauptstadt von Deutschland. " * 60] * 20  # half a second on one thread


@pytest.mark.slow
def test_overload_is_refused_and_a_stop_answers_what_was_accepted(results):
    """Eight requests of 20 texts where 50 may wait; then SIGTERM while one is in progress and others arrive."""
    store, encoder = results
    expected = encode(encoder, LONG[:1], "passage").repeat(len(LONG), 0)
    process = start(
        NAME, "port=0", "threads=1", "max_batch=1", "queue=50", cwd=store.root.parent, module="pipeline.serve"
    )
    server, together = Server(process), threading.Barrier(8)

    def send(wait=True):
        if wait:
            together.wait(WAIT_S)
        return server.post(input=LONG, input_type="passage")

    try:
        with ThreadPoolExecutor(8) as pool:
            answers = [*pool.map(lambda _: send(), range(8))]
            refused = [answer for answer in answers if answer.status_code != 200]
            assert 0 < len(refused) < 8
            for answer in refused:
                assert (answer.status_code, int(answer.headers["retry-after"])) == (429, 1)
                error = answer.json()["error"]
                assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
                assert error["message"] == "too many texts wait for the engine: try again later."
            for answer in answers:
                if answer.status_code == 200:
                    close(vectors(answer), expected)

            accepted = pool.submit(send, wait=False)
            while not server.metrics()["paretrieve_queue_texts",]:
                assert not accepted.done(), "the engine was faster than this test"
            process.terminate()
            late = [pool.submit(server.post, input="x") for _ in range(5)]
            close(vectors(accepted.result(WAIT_S)), expected)
            for future in late:  # accepted before the signal was seen, refused, or never heard
                with suppress(httpx.TransportError):
                    answer = future.result(WAIT_S)
                    assert answer.status_code in (200, 429, 503), answer.text
                    if answer.status_code == 200:
                        close(vectors(answer), encode(encoder, ["x"], "query"))
        out, err = process.communicate(timeout=WAIT_S)
        assert out == "stopped · all accepted requests answered\n"
        assert err == "terminated: run the same command again to resume\n"
        assert process.returncode == 128 + signal.SIGTERM
        with pytest.raises(httpx.ConnectError):
            server.post(input="x")
    finally:
        server.client.close()
        process.kill()
        process.communicate()


def test_no_answer_waits_for_an_acknowledgement():
    with listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class Gate:
    """An encoder that waits until the test lets it go; a text `fail` is an error of the engine."""

    width, unit, device_type, threads = 2, True, "cpu", {"toy": 1}

    def __init__(self):
        self.open = threading.Event()

    def tokenize(self, texts, side):
        return [[ord(text[0])] * len(text) for text in texts]

    def embed(self, rows):
        assert self.open.wait(WAIT_S)
        if any(row[0] == ord("f") for row in rows):
            raise RuntimeError("out of memory")
        return np.array([[row[0], len(row)] for row in rows], np.float32)

    def to_host(self, batches):
        return np.concatenate(batches)


def test_refusals_one_by_one(capsys):
    """One text at work and two waiting fill this service: the next text, then the next request, is refused."""
    gate = Gate()
    retriever = encoders.Retriever("toy", {"query": gate, "passage": gate}, 2)
    service = Service(retriever, "toy", Limits(1, 100, 0.0, 2), max_inputs=9, max_body=1024)

    async def talk():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app()), base_url="http://toy") as client:

            async def post(text):
                return await client.post("/v1/embeddings", json={"model": "toy", "input": text})

            async def reaches(condition):
                async with asyncio.timeout(WAIT_S):
                    while not condition():
                        await asyncio.sleep(0.001)

            batcher = service.batchers["query"]
            first = asyncio.create_task(post("a"))
            await reaches(lambda: service.active == 1 and not batcher.waiting and batcher._worker.is_alive())
            second = asyncio.create_task(post("bb"))
            await reaches(lambda: batcher.waiting == 1)
            several = await post(["c", "d"])
            assert (several.status_code, several.headers["retry-after"]) == (429, "1")
            third = asyncio.create_task(post("f"))
            await reaches(lambda: batcher.waiting == 2)
            beyond = await post("e")
            assert (beyond.status_code, beyond.json()["error"]["message"]) == (
                429,
                "too many requests are in progress: try again later.",
            )
            drained = asyncio.create_task(asyncio.to_thread(service.drain, WAIT_S))
            await reaches(lambda: service.draining)
            late, health = await post("g"), await client.get("/health")
            assert (late.status_code, late.json()["error"]["message"]) == (503, "the server is stopping.")
            assert (health.status_code, health.json()) == (503, {"status": "draining"})
            gate.open.set()
            assert [(await each).json()["data"][0]["embedding"] for each in (first, second)] == [[97, 1], [98, 2]]
            failed = (await third).json()["error"]
            assert (failed["type"], failed["code"]) == ("server_error", None)
            assert failed["message"] == "the engine failed on these texts; the server's log says why."
            assert await drained
            counts = (await client.get("/metrics")).text
            assert 'paretrieve_requests_total{status="429"} 2.0' in counts
            assert 'paretrieve_requests_total{status="500"} 1.0' in counts

    asyncio.run(talk())
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == "RuntimeError: out of memory"


def test_a_stop_is_bounded_in_time():
    """An engine that does not return in time: what waits gets an error in the protocol's shape."""
    gate = Gate()
    retriever = encoders.Retriever("toy", {"query": gate, "passage": gate}, 2)
    service = Service(retriever, "toy", Limits(1, 100, 0.0, 9), max_inputs=9, max_body=1024)

    async def talk():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app()), base_url="http://toy") as client:
            body = {"model": "toy", "input": ["a", "b"]}
            waiting = asyncio.create_task(client.post("/v1/embeddings", json=body))
            while service.batchers["query"].waiting != 1:
                await asyncio.sleep(0.001)
            assert not await asyncio.to_thread(service.drain, 0.001)
            answer = await waiting
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")
        gate.open.set()

    asyncio.run(talk())


@pytest.mark.parametrize("width", [None, 64])
def test_a_variant_is_served_as_it_was_evaluated(results, width):
    store, encoder = results
    retriever = encoders.load(store, Variant(width=width).run_name(NAME), device="cpu", threads=1)
    assert (retriever.width, retriever.narrower) == (width or 384, () if width else (96, 192))
    assert retriever.encoders["query"] is retriever.encoders["passage"]
    emb_ND = encoders.truncated(encode(retriever.encoders["query"], TEXTS, "query"), retriever.width)
    close(emb_ND, truncate(encode(encoder, TEXTS, "query"), width or 384))


def test_an_engine_without_torch_is_served_without_it(results):
    """Torch converts it, in a process that has ended when the encoder is there."""
    store, encoder = results
    code = """
import json, sys
from pathlib import Path
from pipeline.encoder.encoding import encode
from pipeline.serving import encoders
from pipeline.store.results import ResultStore
read = encoders.load(ResultStore(Path(sys.argv[1])), sys.argv[2], device="cpu", threads=1).encoders["query"]
assert not {"torch", "transformers"} & {*sys.modules}
print(json.dumps(encode(read, json.loads(sys.argv[3]), "query").tolist()))
"""
    words = [str(store.root), Variant("onnx").run_name(NAME), json.dumps(TEXTS)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    close(np.array(json.loads(done.stdout)), encode(encoder, TEXTS, "query"))


def test_a_query_encoder_serves_the_queries(results, tmp_path):
    """As a run, and as the folder that the run is exported to."""
    store, encoder = results
    name = Variant(query_encoder=OTHER).run_name(NAME)
    export(store, name, tmp_path / "both")
    untrained = load(encoders.from_plain(store.load(OTHER).config).model, seed=0)
    for run, texts in ((name, TEXTS), (str(tmp_path / "both"), TEXTS[:3])):  # a folder has one maximum length
        retriever = encoders.load(store, run, device="cpu", threads=1)
        assert retriever.name == (name if run == name else "both")
        close(encode(retriever.encoders["passage"], texts, "passage"), encode(encoder, texts, "passage"))
        close(encode(retriever.encoders["query"], texts, "query"), encode(untrained, texts, "query"))
        assert np.abs(encode(untrained, texts, "query") - encode(encoder, texts, "query")).max() > 1e-3


@pytest.mark.parametrize(
    ("run", "options", "says"),
    [
        (Variant(fusion="rrf").run_name(NAME), [], f"which no embedding can hold: serve {NAME}."),
        (Variant(centre="both").run_name(NAME), [], f"which a request does not name: serve {NAME}."),
        ("bm25", [], "bm25 is BM25, which has no embeddings: serve a run with an encoder."),
        ("toy", [], "no run toy in results: "),
        ("./toy", [], "run=./toy: there is no such folder."),
        (NAME, ["device=cuda"], "device=cuda: torch sees no CUDA device here."),
        (NAME, ["host=256.0.0.1"], "host=256.0.0.1 port=0 cannot be listened on: "),
        ("", [], "the first word must name a run or the path of an exported folder; --help shows an example."),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_one_sentence(results, run, options, says):
    code, out, err = inside(run, "port=0", *options, cwd=results[0].root.parent, module="pipeline.serve")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert says in line


def test_a_port_that_is_taken_is_one_sentence(results):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = [f"port={taken.getsockname()[1]}"]
        code, _, err = inside(NAME, *options, cwd=results[0].root.parent, module="pipeline.serve")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot be listened on: " in err


def test_without_the_libraries_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = inside(NAME, cwd=tmp_path, module="pipeline.serve")
    assert (code, err) == (2, "error: uvicorn is missing: pip install -c constraints.txt -e '.[serve]'\n")


def test_an_error_is_on_one_line_whatever_it_quotes():
    body = protocol.Refusal(400, "a\n\ud800b", "input").body
    assert json.dumps(body, ensure_ascii=False).encode() == (
        b'{"error": {"message": "a \\\\ud800b", "type": "invalid_request_error", "param": "input", "code": null}}'
    )


def test_a_client_that_sends_no_body_is_answered(monkeypatch):
    monkeypatch.setattr("pipeline.serving.app.BODY_S", 0.001)
    gate = Gate()
    service = Service(
        encoders.Retriever("toy", {"query": gate}, 2), "toy", Limits(1, 9, 0.0, 9), max_inputs=9, max_body=9
    )

    async def silence():
        await asyncio.sleep(WAIT_S)
        yield b""

    async def talk():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app()), base_url="http://toy") as client:
            answer = await client.post("/v1/embeddings", content=silence())
            assert (answer.status_code, service.active) == (408, 0)

    asyncio.run(talk())
    assert service.drain(WAIT_S)
