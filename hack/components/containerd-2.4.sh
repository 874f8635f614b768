#!/usr/bin/env bash
# containerd 2.4 from its Go module: bin/{containerd,ctr,containerd-shim-runc-v2}. Its runtime is the component runc.
. "${BASH_SOURCE[0]%/*}/lib.sh"

module=github.com/containerd/containerd/v2

recipe() {
  need_go
  local program version_flag="-X $module/version.Version=$containerd_2_4_version"
  local packages=()
  for program in containerd ctr containerd-shim-runc-v2; do
    packages+=("$module/cmd/$program@$containerd_2_4_version")
  done
  GOBIN="$1/bin" go_quiet install -trimpath -ldflags "-s -w $version_flag" "${packages[@]}"
}

install_component containerd-2.4 "$containerd_2_4_version" recipe
