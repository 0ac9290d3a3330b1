"""The server process: a socket, uvicorn in a thread, and a stop that answers what was accepted.

The main thread waits for a signal, as in every command (launch.signals), and then drains the service.
"""

import socket
import threading
from pathlib import Path

import uvicorn

from pipeline.serving import encoders
from pipeline.serving.app import Service
from pipeline.serving.config import ServeConfig
from pipeline.store.results import ResultStore
from pipeline.values import UserError

# Seconds; together less than the 9 s after which a command that was told to end is ended (launch.signals).
DRAIN_S = 6.0  # for answering the requests that were accepted
CLOSE_S = 1  # for sending answers to slow clients
EXIT_S = 1.5  # for the server's thread to end
IDLE_S = 75  # for which a connection without a request is kept
BACKLOG = 2048  # connections that the system holds for the server


def serve(config: ServeConfig) -> None:
    """Serve a run until a signal arrives, which is raised once the server has stopped.

    Raises:
        UserError: the run cannot be served, or the address cannot be taken.
    """
    if not config.run:
        raise UserError("the first word must name a run or the path of an exported folder; --help shows an example.")
    with listening(config.host, config.port) as listener:  # before the weights are loaded: a taken port costs nothing
        store, device = ResultStore(Path(config.results_dir)), config.device.name
        retriever = encoders.load(store, config.run, device=device, threads=config.threads)
        limits = encoders.limits(config)
        name = config.model_name or retriever.name
        service = Service(retriever, name, limits, max_inputs=config.max_inputs, max_body=config.max_body_kib * 1024)
        run(service, listener)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; UserError if the address cannot be taken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise UserError(f"host={host} port={port} cannot be listened on: {error.strerror or error}.") from error
    # Connections inherit it. asyncio would set it only where a socket names its protocol; without it, the body of an
    # answer waits up to 40 ms for the client to acknowledge the headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def run(service: Service, listener: socket.socket) -> None:
    """Answer requests until a signal is raised in this thread; then answer what was accepted, and stop."""
    options = uvicorn.Config(
        service.app(),
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=CLOSE_S,
    )
    server, ended = uvicorn.Server(options), threading.Event()

    def work() -> None:
        try:
            server.run(sockets=[listener])
        finally:
            ended.set()

    thread = threading.Thread(target=work, name="server", daemon=True)  # a thread: signals are for the main thread
    thread.start()
    host, port = listener.getsockname()[:2]
    print(f"serving · {service.rules.model} · http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    try:
        ended.wait()
        raise RuntimeError("the server ended by itself")
    finally:
        answered = service.drain(DRAIN_S)
        server.should_exit = True
        thread.join(EXIT_S)
        print(f"stopped · {'all accepted requests answered' if answered else 'some requests got an error'}", flush=True)
