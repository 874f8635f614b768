#!/bin/sh
# What `make e2e-kubernetes` does: every suite that needs a Kubernetes API server, then the cluster of three nodes, which
# tells what it does while it does it. Arguments: test files, when not all.
set -u
cd "$(dirname "$0")/.." || exit 1

node=node_modules/node-linux-$(uname -m | sed 's/^x86_64$/x64/; s/^aarch64$/arm64/')/bin/node
cluster=test/e2e/kubernetes-cluster.test.ts

with_components() {
  sh hack/with-components.sh runc-1.2 etcd cni-plugins kubelet kubernetes -- "$node" --disable-warning=ExperimentalWarning "$@"
}

if [ "$#" -eq 1 ] && [ "$1" = "$cluster" ]; then
  with_components "$cluster"
elif [ "$#" -gt 0 ]; then
  with_components hack/run-tests.ts "$@"
else
  failed=0
  with_components hack/run-tests.ts kubernetes || failed=1
  with_components "$cluster" || failed=1
  exit "$failed"
fi
