#!/bin/sh
# with-components.sh [NAME]... -- COMMAND...: runs a command that needs root and the real components: those of `make
# test`, the containerd that CONTAINERD names (1.7, 2.1, 2.4; default 2.1) and the named ones besides.
set -u
cd "$(dirname "$0")/.." || exit 1

case ${CONTAINERD:-2.1} in
  1 | 2.1) version=2.1 ;;
  1.7 | 2.4) version=$CONTAINERD ;;
  *)
    printf 'Cannot use CONTAINERD="%s": 1.7, 2.1 or 2.4 is wanted\n' "$CONTAINERD" >&2
    exit 1
    ;;
esac
if [ "$(id -u)" -ne 0 ]; then
  printf 'SKIP: this starts containerd, which needs root; run it again with sudo\n' >&2
  exit 0
fi
more=
while [ "$#" -gt 0 ] && [ "$1" != -- ]; do
  more="$more $1"
  shift
done
shift
# What cannot be had is told in one line each; the command then says what it has to leave out.
# shellcheck disable=SC2086
hack/components/all.sh test "containerd-$version" $more >&2 || :
exec "$@"
