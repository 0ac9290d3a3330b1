# An image with the commands of `python -m pipeline`: make image, or make image FAISS=gpu for CUDA.
#   docker run --rm --user "$(id -u)" -v "$PWD/results:/paretrieve/results" paretrieve:cpu run model=e5-small-l6
#   docker run --gpus all … paretrieve:gpu run device=cuda …
# CUDA's libraries come with torch from PyPI, the driver from the NVIDIA container toolkit, so both images have one base.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

# hadolint ignore=DL3008  # Debian keeps one version of a package, so a pinned one disappears
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates make python3.11 python3.11-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /paretrieve
COPY . .
ARG FAISS=cpu
ENV PIP_NO_CACHE_DIR=1
RUN make .venv/ready FAISS="${FAISS}" && .venv/bin/python -m compileall -q pipeline

# Any user may run it: libraries keep their caches in HOME.
ENV PATH=/paretrieve/.venv/bin:$PATH \
    HOME=/tmp \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
# Exec form: the command is process 1, and `docker stop` reaches it.
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "pipeline"]
CMD ["--help"]
