#!/usr/bin/env bash
# The CRI client in hack/crictl-go: bin/crictl-go. Rebuilt when its sources change.
. "${BASH_SOURCE[0]%/*}/lib.sh"

source_dir=${scripts_dir%/components}/crictl-go
sources=$(cat "$source_dir"/{go.mod,go.sum,*.go} | sha256sum)

recipe() {
  need_go
  go_quiet build -C "$source_dir" -trimpath -ldflags '-s -w' -o "$1/bin/crictl-go" .
}

install_component crictl-go "${sources:0:12}" recipe
