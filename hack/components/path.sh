#!/usr/bin/env bash
# path.sh NAME: prints the folder of the component's programs, or fails with one line that tells how to get it.
. "${BASH_SOURCE[0]%/*}/lib.sh"

name=${1:?usage: path.sh NAME}
script="$scripts_dir/$name.sh"
if [ -f "$components_dir/$name/.complete" ]; then
  printf '%s\n' "$components_dir/$name/bin"
elif [ -f "$components_dir/.$name.missing" ]; then
  printf '%s\n' "$name is not here: $(<"$components_dir/.$name.missing")" >&2
  exit 1
elif [ -f "$script" ]; then
  printf '%s\n' "$name is not here: run hack/components/$name.sh" >&2
  exit 1
else
  printf '%s\n' "there is no component $name" >&2
  exit 1
fi
