#!/bin/sh
# Brings the packages of package-lock.json, quietly, and tells in one line what is in the way if it cannot.
set -u
cd "$(dirname "$0")/.." || exit 1

attempts_max=3

fail() {
  printf 'Cannot set up: %s\n' "$*" >&2
  exit 1
}

command -v node >/dev/null 2>&1 || fail 'there is no node in PATH; any Node >= 18 will do (Debian: apt-get install nodejs npm)'
command -v npm >/dev/null 2>&1 || fail 'there is no npm in PATH; it comes with Node, or as a package of its own (Debian: apt-get install npm)'
major=$(node -p 'process.versions.node.split(".")[0]') || fail 'the node in PATH does not run'
[ "$major" -ge 18 ] || fail "node in PATH is version $major; 18 or newer is wanted"

log=$(mktemp) || fail 'there is no room for a temporary file'
trap 'rm -f "$log"' EXIT
printf 'Setting up: npm ci (once per package-lock.json)\n' >&2
attempt=1
# JOBS: what compiles from source uses all cores.
until JOBS=max npm ci --no-audit --no-fund --no-progress --loglevel=error >"$log" 2>&1 </dev/null; do
  if [ "$attempt" -ge "$attempts_max" ]; then
    tail -n 30 "$log" >&2
    fail "npm ci failed $attempts_max times; its last lines are above"
  fi
  attempt=$((attempt + 1))
  sleep 2
done

case $(uname -m) in
  x86_64) arch=x64 ;;
  aarch64) arch=arm64 ;;
  *) fail "there is no Node package for $(uname -m); x86_64 and aarch64 are supported" ;;
esac
"node_modules/node-linux-$arch/bin/node" --version >/dev/null 2>&1 ||
  fail "npm ci brought no Node that runs (node-linux-$arch); is npm set to omit optional packages?"
