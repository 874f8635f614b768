#!/bin/sh
# What `make test` does: unit tests for everyone; as root also the suites against the real components.
set -u
cd "$(dirname "$0")/.." || exit 1

run_tests() {
  exec "node_modules/node-linux-$(uname -m | sed 's/^x86_64$/x64/; s/^aarch64$/arm64/')/bin/node" hack/run-tests.ts "$@"
}

[ "$#" -eq 0 ] || run_tests "$@"
if [ "$(id -u)" -ne 0 ]; then
  echo 'Tests against real containerd and a real registry are left out: they need root (sudo make test)'
  run_tests unit
fi
# A component that cannot be had is told in one line each; the tests that need it then skip, with that reason.
hack/components/all.sh test || :
run_tests all
