"""Files of a data set: from a local folder, else from the Hugging Face hub or a mirror. The first step of every source.

The hub's own client downloads, caches and resumes (a broken connection is taken up where it broke, within one call);
it reads HF_ENDPOINT (a mirror), HF_TOKEN, HF_HOME and HF_HUB_OFFLINE. What this module adds: every failure is one
sentence that names the file and the way out, soon (the client would retry a dead network for 23 s), and a download is
compared with the hub's checksum, which the client does not do for plain HTTP.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.values import UserError

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

CONNECT_S, ANSWER_S = 4, 10  # to connect per address, of which the hub has several: a dead network shows within 20 s


def fetch(
    repo: str, filename: str, *, folder: str | None, key: str, revision: str | None = None, repo_type: str = "dataset"
) -> Path:
    """The local path of one file of a repository; `key` is the config key that can name a local `folder` instead."""
    if folder is not None:
        path = Path(folder, filename)
        if not path.is_file():
            raise UserError(f"{key}: there is no file {path}.")
        return path
    from httpx2 import TransportError
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import OfflineModeIsEnabled

    def cached(commit: str | None) -> Path | None:
        found = try_to_load_from_cache(repo, filename, revision=commit, repo_type=repo_type)
        return Path(found) if isinstance(found, str) else None

    with _one_sentence(repo, filename, repo_type, key):
        try:
            remote = _metadata(repo, filename, repo_type, revision)
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
            f"again, or point {key} at a local copy."
        )
    return path


def listing(
    repo: str, under: str, *, folder: str | None, key: str, revision: str | None = None, repo_type: str = "dataset"
) -> list[str]:
    """The names of the files in one folder of a repository, sorted."""
    if folder is not None:
        if not Path(folder, under).is_dir():
            raise UserError(f"{key}: there is no folder {Path(folder, under)}.")
        return sorted(path.name for path in Path(folder, under).iterdir())
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError

    with _one_sentence(repo, under, repo_type, key):
        with suppress(EntryNotFoundError):  # a dead network shows here; the listing would retry for 23 s
            _metadata(repo, ".gitattributes", repo_type, revision)
        tree = HfApi().list_repo_tree(repo, under, repo_type=repo_type, revision=revision)
        return sorted(Path(entry.path).name for entry in tree)


def _metadata(repo: str, filename: str, repo_type: str, revision: str | None) -> "HfFileMetadata":
    """What the hub says of a file (commit, checksum, size), asked once."""
    from httpx2 import Timeout
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repo, filename, repo_type=repo_type, revision=revision)
    return get_hf_file_metadata(url, timeout=Timeout(ANSWER_S, connect=CONNECT_S))  # type: ignore[arg-type]


@contextmanager
def _one_sentence(repo: str, filename: str, repo_type: str, key: str) -> Iterator[None]:
    """Turn what the hub's client raises into a UserError."""
    from httpx2 import TransportError
    from huggingface_hub import constants, errors

    what, way_out = f"{repo}/{filename}", f"or point {key} at a local copy"
    try:
        yield
    except errors.GatedRepoError as error:
        page = f"{constants.ENDPOINT}/{constants.REPO_TYPES_URL_PREFIXES.get(repo_type, '')}{repo}"
        raise UserError(f"{what} is gated: accept its terms at {page} and set HF_TOKEN, {way_out}.") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"{what}: no such repository, or a private one: set HF_TOKEN, {way_out}.") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{what}: the repository lacks the revision asked for: correct it, {way_out}.") from error
    except errors.RemoteEntryNotFoundError as error:
        raise UserError(f"{what}: the repository has no such file: correct the name, {way_out}.") from error
    except errors.HfHubHTTPError as error:
        answer = f"{constants.ENDPOINT} answered {error.response.status_code}"
        raise UserError(f"{what}: {answer}: check HF_TOKEN, try again later, {way_out}.") from error
    except (TransportError, errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        dead = f"is not in the cache and {constants.ENDPOINT} is not reachable"
        raise UserError(f"{what} {dead}: connect, set HF_ENDPOINT to a mirror, {way_out}.") from error
    except (OSError, errors.XetDownloadError) as error:  # a full disk, an answer that is not a hub's
        first_line = str(error).partition("\n")[0]
        raise UserError(f"{what} could not be downloaded: {first_line}; mend that, {way_out}.") from error


def _matches(path: Path, etag: str) -> bool:
    """Whether a file has the hub's checksum: a sha256 for large files, git's blob sha1 for the others."""
    git_header = b"blob %d\0" % path.stat().st_size
    digests = {64: hashlib.sha256, 40: lambda: hashlib.sha1(git_header)}
    if len(etag) not in digests:  # a mirror with tags of its own; the client has compared the size
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, digests[len(etag)]).hexdigest() == etag


def gzip_lines(path: Path) -> Iterator[str]:
    """The lines of a gzipped UTF-8 text without their ends, streamed; a truncated or broken file is a UserError."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            for line in file:
                yield line.removesuffix("\n")
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is truncated or not gzipped text ({error}): delete it and get it again.") from error


def parse_json(text: str, path: Path, line: int = 1) -> Any:
    """Parse JSON that begins on a line of a file; broken JSON is a UserError that names the file and the line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is broken JSON at line {line + error.lineno - 1}: {error.msg.lower()}.") from error


def read_json(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}.") from error
