#!/usr/bin/env bash
# Installs the system packages that are missing.  Usage: packages.sh GROUP...  (native node wasm lint tidy python browsers fuzz)
set -euo pipefail
# shellcheck source=scripts/tools/common.sh
source "$(dirname "$0")/common.sh"

# group | package | how to see that it is already there (so that another way of installing it counts too)
table() {
  cat <<'EOF'
native   | g++                 | have c++
native   | cmake               | have cmake
native   | ninja-build         | have ninja
native   | libgtest-dev        | [ -e /usr/include/gtest/gtest.h ]
native   | libpcre2-dev        | [ -e /usr/include/pcre2.h ]
native   | libssl-dev          | [ -e /usr/include/openssl/evp.h ]
native   | nlohmann-json3-dev  | [ -e /usr/include/nlohmann/json.hpp ]
node     | python3-venv        | /usr/bin/python3 -c 'import ensurepip, venv'
wasm     | python3             | have python3
wasm     | clang-19            | [ -x /usr/lib/llvm-19/bin/clang ]
wasm     | lld-19              | [ -x /usr/lib/llvm-19/bin/wasm-ld ]
wasm     | llvm-19             | [ -x /usr/lib/llvm-19/bin/llvm-ar ]
lint     | clang-format-19     | have clang-format-19
lint     | shellcheck          | have shellcheck
tidy     | clang-tidy-19       | have clang-tidy-19
python   | python3-venv        | /usr/bin/python3 -c 'import ensurepip, venv'
python   | python3-torch       | /usr/bin/python3 -c 'import importlib.util as u; assert u.find_spec("torch")'
python   | libopenblas0-pthread| compgen -G '/usr/lib/*/openblas-pthread/libblas.so.3'
python   | xz-utils            | have xz
python   | p7zip-full          | have 7z
browsers | chromium            | [ -x "${TERN_CHROMIUM:-/usr/bin/chromium}" ]
browsers | firefox-esr         | [ -x "${TERN_FIREFOX:-/usr/bin/firefox-esr}" ]
browsers | webkit2gtk-driver   | have WebKitWebDriver
browsers | xvfb                | have xvfb-run
browsers | xauth               | have xauth
fuzz     | clang-19            | have clang++-19
fuzz     | libclang-rt-19-dev  | compgen -G '/usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.fuzzer-*.a'
EOF
}

missing=()
for wanted in "$@"; do
  while IFS='|' read -r group package probe; do
    [ "${group// /}" = "$wanted" ] || continue
    eval "$probe" >/dev/null 2>&1 || missing+=("${package// /}")
  done < <(table)
done
[ ${#missing[@]} -gt 0 ] || exit 0

have apt-get || die "these are missing: ${missing[*]} (Debian's names). Install them with this system's package manager, then run the command again."
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  have sudo || die "run as root: apt-get install ${missing[*]}    then run the command again."
  as_root=(sudo)
fi

mkdir -p build/logs
readonly log=build/logs/packages.log
quietly_as_root() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 "$@" </dev/null >>"$log" 2>&1; }
install() { quietly_as_root install -y --no-install-recommends "${missing[@]}"; }

say "installing system packages (progress in $log): ${missing[*]}"
if ! install; then
  say "the package lists may be old: apt-get update, then once more"
  if ! quietly_as_root update || ! install; then
    tail -n 30 "$log" >&2
    die "apt-get could not install ${missing[*]}: $(why_fetching_failed "$log"). On a system other than Debian 12 install the nearest equivalents by hand, then run the command again."
  fi
fi
