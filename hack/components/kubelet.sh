#!/usr/bin/env bash
# kubelet from its Go module: bin/kubelet. Five minutes on two cores the first time.
# k8s.io/kubernetes has replace directives, which `go install` refuses: kubernetes/go.mod is a module that only wraps it.
. "${BASH_SOURCE[0]%/*}/lib.sh"

recipe() {
  need_go
  local version_flag="-X k8s.io/component-base/version.gitVersion=$kubernetes_version"
  go_quiet build -C "$scripts_dir/kubernetes" -trimpath -ldflags "-s -w $version_flag" \
    -o "$1/bin/kubelet" k8s.io/kubernetes/cmd/kubelet
}

install_component kubelet "$kubernetes_version" recipe
