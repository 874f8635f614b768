#!/usr/bin/env bash
# mkfs.erofs, which containerd's erofs differ runs: bin/mkfs.erofs. It wants a newer C library than Debian 12 has, and so
# brings that and the other libraries along; a script starts it with them.
. "${BASH_SOURCE[0]%/*}/lib.sh"

libraries='libc6 libselinux1 libpcre2-8-0 libuuid1 liblz4-1 liblzma5 zlib1g libdeflate0 libzstd1 libxxhash0'

recipe() {
  local library loader
  for library in $libraries; do
    debian_unpack "$erofs_utils_suite" "$library" '' "$1/libraries" 2>/dev/null
  done
  debian_unpack "$erofs_utils_suite" erofs-utils "$erofs_utils_version" "$1"
  loader=$(cd "$1" && find libraries -name 'ld-linux-*.so.*' | head -n 1)
  [ -n "$loader" ] || give_up "Debian $erofs_utils_suite has no C library for this architecture"
  mkdir -p "$1/bin"
  cat >"$1/bin/mkfs.erofs" <<EOF
#!/bin/sh
prefix=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")
libraries=\$(echo "\$prefix"/libraries/usr/lib/*-linux-gnu*)
exec "\$prefix/$loader" --library-path "\$libraries" "\$prefix/usr/bin/mkfs.erofs" "\$@"
EOF
  chmod 755 "$1/bin/mkfs.erofs"
  "$1/bin/mkfs.erofs" --version >/dev/null || give_up 'mkfs.erofs does not start'
}

install_component erofs-utils "$erofs_utils_version" recipe
