#!/bin/sh
# What `make e2e` does: the suites with real components, on the containerd that CONTAINERD names (1.7, 2.1, 2.4), with a
# real kubelet. Arguments: test files, when not all. The last line is `N passed, N failed, N skipped`.
set -u
cd "$(dirname "$0")/.." || exit 1

CONTAINERD=${CONTAINERD:-2.1}
export CONTAINERD
[ "$#" -gt 0 ] || set -- integration e2e
node=node_modules/node-linux-$(uname -m | sed 's/^x86_64$/x64/; s/^aarch64$/arm64/')/bin/node
exec sh hack/with-components.sh kubelet -- "$node" --disable-warning=ExperimentalWarning hack/run-tests.ts "$@"
