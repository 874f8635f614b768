#!/usr/bin/env bash
# ISA-L (Debian isal, libisal2): bin/igzip, with which containerd inflates when it is in PATH, and lib/libisal.so.2, which the
# agent takes where the dynamic linker finds it.
. "${BASH_SOURCE[0]%/*}/lib.sh"

recipe() {
  debian_unpack "$isal_suite" isal "$isal_version" "$1"
  debian_unpack "$isal_suite" libisal2 "$isal_version" "$1"
  local library
  library=$(cd "$1" && find usr/lib -name 'libisal.so.2' | head -n 1)
  [ -n "$library" ] || give_up 'the package libisal2 holds no libisal.so.2'
  ln -s "$(dirname "$library")" "$1/lib"
  installed_version=$isal_version
  printf '#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")/..\nLD_LIBRARY_PATH="$here/lib" exec "$here/usr/bin/igzip" "$@"\n' \
    >"$1/bin/igzip"
  chmod 755 "$1/bin/igzip"
}

# Not the version alone: folders made before there was a lib are made anew.
install_component isal "$isal_version with lib" recipe
