"""A process that trains together with that of a run (launch.peers starts it): reads its request and World on stdin.

Both are lines of JSON. It ends when stdin closes: then the process that started it is gone.
"""

import json
import sys
import threading

import torch

from pipeline import experiment
from pipeline.launch.request import Request
from pipeline.launch.worker import end_with_parent
from pipeline.values import World


def main() -> None:
    request, world = Request.from_json(sys.stdin.readline()), World(*json.loads(sys.stdin.readline()))
    threading.Thread(target=end_with_parent, daemon=True).start()
    if request.config.device.name == "cuda":
        torch.cuda.set_device(world.local_rank)
    experiment.join(request, world)
