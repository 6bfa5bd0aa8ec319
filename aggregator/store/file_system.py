"""What kind of file system a path is on, and which kinds cannot carry SQLite's shared memory.

Knows nothing of SQLite files themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable

FileSystem = Callable[[str], str | None]
"""The type of the file system that holds a directory, as the kernel names it; None when it cannot be told."""

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "gfs2",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "pvfs2",
        "smb3",
        "smbfs",
        "fuse.blobfuse2",
        "fuse.ceph",
        "fuse.ceph-fuse",
        "fuse.cephfs",
        "fuse.davfs",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.juicefs",
        "fuse.mount-s3",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
    }
)


def is_network_file_system(name: str | None) -> bool:
    return name in NETWORK_FILE_SYSTEMS


def file_system_of(directory: str) -> str | None:
    """The type of `directory`'s file system, from ``/proc/self/mountinfo``; None where there is no such file.

    Not ``statfs``: its magic number is the same for every FUSE file system, and only some of them are remote.
    """
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
            return parse_mount_type(lines.read(), os.stat(directory).st_dev)
    except OSError:
        return None


def parse_mount_type(mountinfo: str, device: int) -> str | None:
    """The file system type of the mount whose device is `device` (proc_pid_mountinfo(5): fields 3 and 9)."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        mount, separator, source = line.partition(" - ")
        fields = mount.split(" ")
        if separator and len(fields) > 2 and fields[2] == wanted:
            return source.split(" ")[0]
    return None
