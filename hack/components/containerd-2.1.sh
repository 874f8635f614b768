#!/usr/bin/env bash
# containerd 2.1 from Debian: bin/{containerd,ctr,containerd-shim-runc-v2}. Its runtime is the component runc.
. "${BASH_SOURCE[0]%/*}/lib.sh"

recipe() {
  debian_unpack "$containerd_2_1_suite" containerd "$containerd_2_1_version" "$1"
  local program
  for program in containerd ctr containerd-shim-runc-v2; do
    ln -s "../usr/bin/$program" "$1/bin/$program"
  done
  "$1/bin/containerd" --version >/dev/null 2>&1 || give_up 'does not start here: it wants the glibc of Debian 12 or later'
}

install_component containerd-2.1 "$containerd_2_1_version" recipe
