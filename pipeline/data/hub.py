"""The only module that talks to the Hugging Face hub or a mirror: files of a data set, and the files of a model.

The hub's own client downloads, caches and resumes (within one call, a broken connection continues where it broke); it
reads HF_ENDPOINT (a mirror), HF_TOKEN, HF_HOME and HF_HUB_OFFLINE. This module adds three things. Every failure is one
sentence that names the file, the config key and the way out. A dead network shows within 16 s (the client would retry
for 23 s) and a silent hub within 10 s (the client would wait forever). And each download is compared with the hub's
checksum, which the client does not do for plain HTTP.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.values import UserError

if TYPE_CHECKING:
    from httpx2 import Timeout
    from huggingface_hub import HfFileMetadata

CONNECT_S, ANSWER_S = 2, 10  # connecting is tried for each of the hub's addresses, of which there are up to eight


class Repository(NamedTuple):
    """A repository of the hub, and how to do without it."""

    name: str
    type: str  # dataset or model
    revision: str | None
    way_out: str  # the last words of every failure's sentence


def fetch(
    repo: str, filename: str, *, folder: str | None, key: str, revision: str | None = None, repo_type: str = "dataset"
) -> Path:
    """Return the local path of one file of a repository.

    Args:
        folder: a local folder that holds the file; None downloads it.
        key: the config key that names `folder`, for messages.

    Raises:
        UserError: if the file is missing, cannot be downloaded, or arrives damaged.
    """
    if folder is not None:
        path = Path(folder, filename)
        if not path.is_file():
            raise UserError(f"{key}: there is no file {path}.")
        return path
    return _download(Repository(repo, repo_type, revision, f"or point {key} at a local copy"), filename)


def listing(
    repo: str, under: str, *, folder: str | None, key: str, revision: str | None = None, repo_type: str = "dataset"
) -> list[str]:
    """Return the names of the files in one folder of a repository, sorted. Arguments and errors as in `fetch`."""
    if folder is not None:
        if not Path(folder, under).is_dir():
            raise UserError(f"{key}: there is no folder {Path(folder, under)}.")
        return sorted(path.name for path in Path(folder, under).iterdir())
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError

    repository = Repository(repo, repo_type, revision, f"or point {key} at a local copy")
    with _user_errors(repository, f"{repo}/{under}"):
        with suppress(EntryNotFoundError):  # a dead network shows here; the listing would retry for 23 s
            _metadata(repository, ".gitattributes")
        tree = HfApi().list_repo_tree(repo, under, repo_type=repo_type, revision=revision)
        return sorted(Path(entry.path).name for entry in tree)


def snapshot(repo: str, patterns: list[str], *, revision: str | None, way_out: str) -> Path:
    """Return a local folder with the files of a model's repository that match `patterns`: `model*.safetensors`.

    The folder belongs to the client's cache. If the hub does not list the files, the cached copy is used.

    Args:
        way_out: what else the user can set; it ends every message: "or set model.weights to …".

    Raises:
        UserError: if the model cannot be downloaded and is not cached, or arrives damaged.
    """
    from httpx2 import TransportError
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import filter_repo_objects

    repository = Repository(repo, "model", revision, way_out)
    with _user_errors(repository, repo):
        try:
            info = HfApi().model_info(repo, revision=revision, timeout=_timeout())  # type: ignore[arg-type]
        except (TransportError, OfflineModeIsEnabled, HfHubHTTPError):
            with suppress(LocalEntryNotFoundError):
                return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=True))
            raise
    filenames = [file.rfilename for file in info.siblings or []]
    names = list(filter_repo_objects(filenames, allow_patterns=patterns))
    if not {*names} - {"README.md"}:  # a card alone is no model
        raise UserError(f"{repo} has no file {', '.join(patterns)}: correct its name, {way_out}.")
    paths = [_download(repository, name) for name in names]
    return paths[0].parents[names[0].count("/")]


def _download(repository: Repository, filename: str) -> Path:
    """The local path of one file; a cached copy is used if it is current, or if the hub cannot be reached."""
    from httpx2 import TransportError
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import OfflineModeIsEnabled

    repo, repo_type, revision, way_out = repository

    def cached(commit: str | None) -> Path | None:
        path = try_to_load_from_cache(repo, filename, revision=commit, repo_type=repo_type)
        return Path(path) if isinstance(path, str) else None

    with _user_errors(repository, f"{repo}/{filename}"):
        try:
            remote = _metadata(repository, filename)
        except (TransportError, OfflineModeIsEnabled):
            if earlier := cached(revision):
                return earlier
            raise
        if earlier := cached(remote.commit_hash):
            return earlier
        path = Path(hf_hub_download(repo, filename, repo_type=repo_type, revision=revision))
    if remote.etag and not _matches(path, remote.etag):
        path.resolve().unlink()  # the blob that the snapshot's link points to
        path.unlink(missing_ok=True)
        raise UserError(
            f"{repo}/{filename} arrived damaged (its checksum is not the hub's) and was removed from the cache: run "
            f"again, {way_out}."
        )
    return path


def _metadata(repository: Repository, filename: str) -> "HfFileMetadata":
    """Request a file's commit, checksum and size from the hub, once."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository.name, filename, repo_type=repository.type, revision=repository.revision)
    return get_hf_file_metadata(url, timeout=_timeout())  # type: ignore[arg-type]


def _timeout() -> "Timeout":
    from httpx2 import Timeout

    return Timeout(ANSWER_S, connect=CONNECT_S)


@contextmanager
def _user_errors(repository: Repository, subject: str) -> Iterator[None]:
    """Turn what the hub's client raises into a UserError about `subject`, a repository or one of its files."""
    from httpx2 import TransportError
    from huggingface_hub import constants, errors

    way_out = repository.way_out
    try:
        yield
    except errors.HFValidationError as error:
        raise UserError(
            f"{subject} is neither a local folder nor a repository's name: correct it, {way_out}."
        ) from error
    except errors.GatedRepoError as error:
        page = f"{constants.ENDPOINT}/{constants.REPO_TYPES_URL_PREFIXES.get(repository.type, '')}{repository.name}"
        raise UserError(f"{subject} is gated: accept its terms at {page} and set HF_TOKEN, {way_out}.") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"{subject}: no such repository, or a private one: set HF_TOKEN, {way_out}.") from error
    except errors.RevisionNotFoundError as error:
        revision = f"the repository has no revision {repository.revision}"
        raise UserError(f"{subject}: {revision}: correct it, {way_out}.") from error
    except errors.RemoteEntryNotFoundError as error:
        raise UserError(f"{subject}: the repository has no such file: correct the name, {way_out}.") from error
    except errors.HfHubHTTPError as error:
        answer = f"{constants.ENDPOINT} answered {error.response.status_code}"
        raise UserError(f"{subject}: {answer}: check HF_TOKEN, try again later, {way_out}.") from error
    except (TransportError, errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        unreachable = f"is not in the cache and {constants.ENDPOINT} is not reachable"
        raise UserError(f"{subject} {unreachable}: connect, set HF_ENDPOINT to a mirror, {way_out}.") from error
    except (OSError, errors.XetDownloadError) as error:  # a full disk, an answer that is not a hub's
        first_line = str(error).partition("\n")[0]
        raise UserError(f"{subject} could not be downloaded: {first_line}; solve that, {way_out}.") from error


def _matches(path: Path, etag: str) -> bool:
    """Whether a file has the hub's checksum: SHA-256 for large files, git's SHA-1 of a blob for the others."""
    git_header = b"blob %d\0" % path.stat().st_size
    digests = {64: hashlib.sha256, 40: lambda: hashlib.sha1(git_header)}
    if len(etag) not in digests:  # a mirror that makes its own ETags; the client has compared the size
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, digests[len(etag)]).hexdigest() == etag
