#!/usr/bin/env bash
# Installs the Node packages of package-lock.json into node_modules/, when the lock has changed.
set -euo pipefail
# shellcheck source=scripts/tools/common.sh
source "$(dirname "$0")/common.sh"

if ! have node || ! have npm; then die "Node.js is missing. Install Node.js 20.19 or newer with npm, then run the command again."; fi
found=$(node --version)
version_at_least "${found#v}" 20.19.0 || die "Node.js ${found#v} is too old: install 20.19 or newer, then run the command again."

stamp=$(stamp_of package.json package-lock.json)
if is_stamped node_modules/.stamp "$stamp"; then exit 0; fi
say "installing Node packages (npm ci)"
npm ci --no-audit --no-fund --loglevel=error </dev/null >&2 || die "npm ci failed (its message is above). If package.json and package-lock.json disagree, run npm install and commit the lock."
echo "$stamp" >node_modules/.stamp
