#!/usr/bin/env bash
# Makes .venv over the Python that has PyTorch (Debian's, when it is there) and installs requirements.txt into it.
set -euo pipefail
# shellcheck source=scripts/tools/common.sh
source "$(dirname "$0")/common.sh"

# One that is a link belongs to another checkout and names its place: a worktree uses it as it is.
if [ -L .venv ]; then exit 0; fi

has_torch() { "$1" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' 2>/dev/null; }

base=/usr/bin/python3
for candidate in /usr/bin/python3 "$(command -v python3 || true)"; do
  if [ -x "$candidate" ] && has_torch "$candidate"; then
    base=$candidate
    break
  fi
done
[ -x "$base" ] || base=$(command -v python3) || die "Python 3 is missing. Install Python 3.11 or newer, then run the command again."

# The programs of .venv/bin name the place they were made in, so a checkout that was moved gets a new one.
stamp=$(stamp_of requirements.txt "$0")-$base-$("$base" --version)-$repo
if is_stamped .venv/stamp "$stamp"; then exit 0; fi
"$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$base is $("$base" --version); this project needs 3.11 or newer."
"$base" -c 'import ensurepip, venv' 2>/dev/null || die "$base lacks the modules venv and ensurepip (Debian: apt-get install python3-venv). Install them, then run the command again."
say "making .venv over $base"
mkdir -p build/logs
log=build/logs/venv.log
into_venv() {  # into_venv WHAT PIP_ARGUMENT...
  if ! .venv/bin/python -m pip install "${@:2}" </dev/null >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "pip could not install $1: $(why_fetching_failed "$log")."
  fi
}
if ! "$base" -m venv --clear --system-site-packages .venv >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  die "$base -m venv failed: $(why_fetching_failed "$log")."
fi
if ! has_torch .venv/bin/python; then
  say "no PyTorch on this machine: installing it from PyPI (large)"
  into_venv PyTorch torch
fi
into_venv requirements.txt --requirement requirements.txt
.venv/bin/python -c 'import torch, numpy; torch.zeros(1).numpy()' || die "PyTorch and NumPy do not work together in .venv: see the message above."
echo "$stamp" >.venv/stamp
