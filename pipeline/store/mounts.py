"""Which file systems keep a lock to one machine: there, two machines must not work in one results folder at a time.

Linux passes flock on to NFS servers, but not with the options `nolock` and `local_lock`, and most file systems in user
space do not pass it on at all. flock succeeds there all the same, on each machine by itself, so only the table of
mounts can tell.
"""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
# File systems on which only these options keep locks to a machine, and those on which nothing passes them on.
NFS, SMB = {"nolock", "local_lock=all", "local_lock=flock"}, {"nobrl"}
LOCAL_WITH = {"nfs": NFS, "nfs4": NFS, "cifs": SMB, "smb3": SMB, "lustre": {"localflock"}}
LOCAL = {"9p", "virtiofs", "vboxsf", "fuse"}
PASSED_ON = {"fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.mfs", "fuse.juicefs"}


def local_locks(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """Return what keeps the locks of a folder to this machine, as far as is known: "nfs with nolock"; None if nothing.

    Args:
        folder: it or its nearest parent that exists counts.
        mounts: a file in the format of /proc/self/mountinfo; where there is none, nothing is known.
    """
    if not mounts.exists():
        return None
    mount: tuple[str, str, set[str]] | None = None
    place = folder.resolve()
    for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        of_mount, _, of_system = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), of_mount.split()[4])
        if place.is_relative_to(point) and (mount is None or len(point) >= len(mount[0])):  # a later mount hides others
            kind, _, settings = of_system.split(" ", 2)
            mount = point, kind, set(settings.split(","))
    if mount is None:
        return None
    _, kind, options = mount
    if kind in LOCAL or (kind.startswith("fuse.") and kind not in PASSED_ON):
        return kind
    named = sorted(LOCAL_WITH.get(kind, set()) & options)
    return f"{kind} with {', '.join(named)}" if named else None
