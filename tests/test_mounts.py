"""Which mounts keep locks to one machine: lines of real tables of mounts, and a file system in user space."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.store import locks, mounts, results
from pipeline.store.results import ResultStore
from pipeline.values import UserError

# From a virtual machine with the kernel's NFS server and client (Linux 6.1), but for the last six.
NFS = "rw,vers=3,rsize=524288,wsize=524288,hard,{}proto=tcp,timeo=600,retrans=2,sec=sys,local_lock={},addr=10.0.1.1"
TABLE = f"""\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,resv_strict
22 27 0:21 / /proc rw,relatime - proc proc rw
34 27 0:27 / /mnt/a rw,relatime - nfs4 10.0.1.1:/ rw,vers=4.2,hard,proto=tcp,clientaddr=10.0.1.2,local_lock=none
33 27 0:29 / /mnt/c rw,relatime - nfs 10.0.1.1:/mnt/export {NFS.format("nolock,", "all")}
76 27 0:35 / /mnt/g rw,relatime - nfs 10.0.1.1:/mnt/export {NFS.format("", "none")}
77 27 0:36 / /mnt/two\\040words rw,relatime shared:1 master:2 - nfs 10.0.1.1:/x {NFS.format("", "flock")}
78 27 0:37 / /mnt/s rw,nosuid - fuse.sshfs me@host:/data rw,user_id=0,group_id=0
79 27 0:38 / /mnt/gluster rw - fuse.glusterfs host:/volume rw,user_id=0,default_permissions
80 27 0:39 / /mnt/smb rw - cifs //host/share rw,vers=3.1.1,nobrl,addr=10.0.0.9
81 27 0:40 / /mnt/vm rw - virtiofs shared rw
82 33 0:41 / /mnt/c/disk rw - ext4 /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("/mnt/a/results", None),
        ("/mnt/c/results", "nfs with local_lock=all, nolock"),
        ("/mnt/c/disk/results", None),
        ("/mnt/cc", None),
        ("/mnt/g", None),
        ("/mnt/two words/results", "nfs with local_lock=flock"),
        ("/mnt/s/results", "fuse.sshfs"),
        ("/mnt/gluster/results", None),
        ("/mnt/smb", "cifs with nobrl"),
        ("/mnt/vm", "virtiofs"),
    ],
)
def test_mounts_that_keep_locks_to_one_machine(tmp_path, folder, reason):
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    assert mounts.local_locks(Path(folder), table) == reason


def test_the_mount_on_top_counts(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text(TABLE + "90 27 0:50 / /mnt/vm rw - tmpfs tmpfs rw\n")
    assert mounts.local_locks(Path("/mnt/vm/results"), table) is None
    assert mounts.local_locks(Path("/mnt/vm"), tmp_path / "none") is None


def test_one_machine_is_warned_and_several_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "local_locks", lambda folder: "nfs with nolock")
    store = ResultStore(tmp_path)
    for _ in range(3):
        store.check_writable()
    said = f"results_dir={tmp_path} is on nfs with nolock, where a lock does not reach other machines: "
    assert capsys.readouterr().err == f"warning: {said}let no two machines work in it at a time.\n"
    with pytest.raises(UserError) as refused:
        store.check_writable(several=True)
    assert str(refused.value) == f"{said}use a file system that passes flock on, such as NFS without nolock."


def test_a_file_system_in_user_space_hides_locks(tmp_path):
    """Two mounts of one folder stand for two machines: a lock that is held in one is free in the other."""
    if not shutil.which("bindfs"):
        pytest.skip("bindfs is not installed")
    (tmp_path / "shared").mkdir()
    points = [tmp_path / "a", tmp_path / "b"]
    mounted = []
    try:
        for point in points:
            point.mkdir()
            command = ["bindfs", "--no-allow-other", str(tmp_path / "shared"), str(point)]
            if subprocess.run(command, capture_output=True, check=False).returncode:
                pytest.skip("no FUSE here")
            mounted.append(point)
            assert mounts.local_locks(point / "results").startswith("fuse")
        with locks.hold(points[0] / "lock"):
            assert locks.held(points[0] / "lock")
            assert not locks.held(points[1] / "lock")
    finally:
        for point in mounted:
            subprocess.run(["umount", str(point)], check=True)
