#!/usr/bin/env bash
# Makes .venv over the Python that has PyTorch (Debian's, when it is there) and installs requirements.txt into it.
set -euo pipefail
# shellcheck source=scripts/tools/common.sh
source "$(dirname "$0")/common.sh"

has_torch() { "$1" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' 2>/dev/null; }

base=/usr/bin/python3
for candidate in /usr/bin/python3 "$(command -v python3 || true)"; do
  if [ -x "$candidate" ] && has_torch "$candidate"; then
    base=$candidate
    break
  fi
done
[ -x "$base" ] || base=$(command -v python3) || die "Python 3 is missing. Install Python 3.11 or newer, then run the command again."

stamp=$(stamp_of requirements.txt "$0")-$base-$("$base" --version)
if is_stamped .venv/stamp "$stamp"; then exit 0; fi
say "making .venv over $base"
"$base" -m venv --system-site-packages .venv || die "python3 -m venv failed: install python3-venv, then run the command again."
if ! has_torch .venv/bin/python; then
  say "no PyTorch on this machine: installing it from PyPI (large)"
  .venv/bin/python -m pip install --quiet torch </dev/null >&2
fi
.venv/bin/python -m pip install --quiet --requirement requirements.txt </dev/null >&2 || die "pip could not install requirements.txt (its message is above)."
.venv/bin/python -c 'import torch, numpy; torch.zeros(1).numpy()' || die "PyTorch and NumPy do not work together in .venv: see the message above."
echo "$stamp" >.venv/stamp
