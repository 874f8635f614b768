#!/usr/bin/env bash
# The container runtime that every containerd here uses: bin/runc.
. "${BASH_SOURCE[0]%/*}/lib.sh"

recipe() {
  debian_unpack "$runc_suite" runc "$runc_version" "$1"
  ln -s ../usr/sbin/runc "$1/bin/runc"
  # libseccomp comes with apt itself on Debian 12. A private copy would not do: runc starts itself again
  # with an environment that it has emptied, so that no library path survives.
  "$1/bin/runc" --version >/dev/null 2>&1 || give_up 'does not start here: install the package libseccomp2'
}

install_component runc "$runc_version" recipe
