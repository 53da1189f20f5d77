#!/usr/bin/env bash
# Normal dependencies between our packages only go down, as ARCHITECTURE.md draws them. A package that is not in the
# table, or an arrow that is not, fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

declare -A allowed=(
    [harbor-types]=""
    [harbor-alloc]="types"
    [harbor-registry]="types alloc"
    [harbor-store]="types"
    [harbor-tcp]="types"
    [harbor-udp]="types"
    [harbor-env]="types"
    [harbor-tls]="types"
    [harbor-client]="types"
    [harbor-testkit]="types"
    [harbor-node]="types registry store tcp udp env"
    [harbor]="types env client"
    [harbor-examples]="types alloc registry store tcp udp env tls client testkit node"
    [harbor-benches]="types alloc registry store tcp udp env client testkit node"
)
failed=0
members=$(cargo metadata --format-version 1 --no-deps | grep -o '"name":"harbor[a-z-]*","version"' | cut -d'"' -f4 | sort -u)
for package in $members; do
    if [ -z "${allowed[$package]+set}" ]; then
        echo "arrows: package $package is not in ci/arrows.sh; draw it in ARCHITECTURE.md first"
        failed=1
        continue
    fi
    names=$(cargo tree --all-features -p "$package" -e normal --depth 1 --prefix none -f '{p}' | sed 1d | grep -o '^harbor-[a-z]*' | sort -u || true)
    for name in $names; do
        case " ${allowed[$package]} " in
            *" ${name#harbor-} "*) ;;
            *) echo "arrows: $package must not depend on $name (allowed: ${allowed[$package]:-nothing of ours})"; failed=1 ;;
        esac
    done
done
[ "$failed" = 0 ] && echo "arrows: $(wc -w <<<"$members") packages, all arrows go down"
exit "$failed"
