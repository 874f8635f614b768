#!/usr/bin/env bash
# For containerd's btrfs snapshotter: bin/mkfs.btrfs.
. "${BASH_SOURCE[0]%/*}/lib.sh"

recipe() {
  debian_unpack "$btrfs_progs_suite" btrfs-progs "$btrfs_progs_version" "$1"
  [ -d "$1/bin" ] || ln -s usr/bin "$1/bin"
  [ -x "$1/bin/mkfs.btrfs" ] || ln -s ../sbin/mkfs.btrfs "$1/bin/mkfs.btrfs"
  "$1/bin/mkfs.btrfs" --version >/dev/null || give_up 'mkfs.btrfs lacks libraries: install the package btrfs-progs'
}

install_component btrfs-progs "$btrfs_progs_version" recipe
