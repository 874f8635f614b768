#!/usr/bin/env bash
# A static busybox, the one program in the sample images: bin/busybox.
. "${BASH_SOURCE[0]%/*}/lib.sh"

recipe() {
  debian_unpack "$busybox_suite" busybox-static "$busybox_version" "$1"
  # The package has its program in /bin; where a later one moves to /usr/bin the link keeps our path the same.
  [ -x "$1/bin/busybox" ] || ln -s ../usr/bin/busybox "$1/bin/busybox"
}

install_component busybox "$busybox_version" recipe
