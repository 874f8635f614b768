#!/usr/bin/env bash
# Kubernetes' control plane and kubectl from the Go module that kubelet comes from:
# bin/{kube-apiserver,kube-controller-manager,kube-scheduler,kubectl}. Ten minutes on two cores the first time.
. "${BASH_SOURCE[0]%/*}/lib.sh"

recipe() {
  need_go
  local program version="k8s.io/component-base/version.gitVersion=$kubernetes_version"
  # kubectl and the API server tell this version to each other; two jobs leave something of the machine to others.
  for program in kube-apiserver kubectl kube-controller-manager kube-scheduler; do
    go_quiet build -C "$scripts_dir/kubernetes" -p 2 -trimpath -ldflags "-s -w -X $version" \
      -o "$1/bin/$program" "k8s.io/kubernetes/cmd/$program"
  done
}

install_component kubernetes "$kubernetes_version" recipe
