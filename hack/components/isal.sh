#!/usr/bin/env bash
# igzip of ISA-L (Debian isal): bin/igzip. containerd inflates with it when it is in PATH.
. "${BASH_SOURCE[0]%/*}/lib.sh"

recipe() {
  debian_unpack "$isal_suite" isal "$isal_version" "$1"
  debian_unpack "$isal_suite" libisal2 "$isal_version" "$1"
  local library
  library=$(cd "$1" && find usr/lib -name 'libisal.so.2' | head -n 1)
  [ -n "$library" ] || give_up 'the package libisal2 holds no libisal.so.2'
  installed_version=$isal_version
  printf '#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")/..\nLD_LIBRARY_PATH="$here/%s" exec "$here/usr/bin/igzip" "$@"\n' \
    "$(dirname "$library")" >"$1/bin/igzip"
  chmod 755 "$1/bin/igzip"
}

install_component isal "$isal_version" recipe
