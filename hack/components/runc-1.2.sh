#!/usr/bin/env bash
# A runc that knows ID-mapped mounts, for pods with user namespaces: bin/runc. Its seccomp is Debian's, linked statically.
. "${BASH_SOURCE[0]%/*}/lib.sh"

recipe() {
  need_go
  command -v cc >/dev/null || give_up 'needs a C compiler: install gcc and libc6-dev'
  debian_unpack "$libseccomp_suite" libseccomp-dev "$libseccomp_version" "$1/libseccomp"
  installed_version=$runc_1_2_version
  local library
  library=$(find "$1/libseccomp" -name libseccomp.a)
  # The flags stand here, so pkg-config has nothing to say.
  cgo=1 GOBIN="$1/bin" PKG_CONFIG=true CGO_CFLAGS="-I$1/libseccomp/usr/include" CGO_LDFLAGS="$library" \
    go_quiet install -tags seccomp -trimpath -ldflags "-s -w -X main.version=${runc_1_2_version#v}" \
    "github.com/opencontainers/runc@$runc_1_2_version"
  rm -rf "$1/libseccomp"
}

install_component runc-1.2 "$runc_1_2_version" recipe
