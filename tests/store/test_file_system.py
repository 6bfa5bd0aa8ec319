"""Network file systems are told by the kernel's own name for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aggregator.store.file_system import file_system_of, is_network_file_system, parse_mount_type

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw
31 27 0:40 / /data rw,relatime shared:9 - nfs4 files.example:/vol rw,vers=4.2
32 27 0:41 / /home/a\\040b rw - fuse.sshfs me@there:/ rw
a broken line
"""


@pytest.mark.parametrize(
    ("major", "minor", "name"), [(254, 0, "ext4"), (0, 40, "nfs4"), (0, 41, "fuse.sshfs"), (0, 99, None)]
)
def test_a_device_is_found_among_the_mounts(major: int, minor: int, name: str | None) -> None:
    assert parse_mount_type(MOUNTS, os.makedev(major, minor)) == name


@pytest.mark.parametrize(
    "name", ["nfs", "nfs4", "cifs", "smb3", "afs", "9p", "ceph", "gpfs", "lustre", "fuse.sshfs", "fuse.s3fs"]
)
def test_network_file_systems_are_known(name: str) -> None:
    assert is_network_file_system(name)


@pytest.mark.parametrize("name", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuse.bindfs", None])
def test_local_ones_and_unknown_ones_are_accepted(name: str | None) -> None:
    assert not is_network_file_system(name)


def test_the_directory_of_this_test_is_local(tmp_path: Path) -> None:
    assert not is_network_file_system(file_system_of(str(tmp_path)))


def test_a_directory_that_is_gone_is_of_unknown_type(tmp_path: Path) -> None:
    assert file_system_of(str(tmp_path / "gone")) is None
