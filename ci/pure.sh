#!/usr/bin/env bash
# Purity is built, not promised: every library but client and testkit builds without tokio, and the pure ones never name
# sockets, clocks, threads or the environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
for package in harbor-types harbor-alloc harbor-registry harbor-store harbor-env harbor-tcp harbor-udp harbor-tls; do
    if cargo tree -p "$package" --no-default-features -e normal --prefix none | grep -qE '^(tokio|mio|hyper|socket2) '; then
        echo "pure: $package draws in an async or socket package without its default features:"
        cargo tree -p "$package" --no-default-features -e normal | grep -E '(tokio|mio|hyper|socket2) ' || true
        failed=1
    fi
    cargo check --quiet -p "$package" --no-default-features || failed=1
done

# What a pure core may not name. Tests apart: they end up in `#[cfg(test)]` modules or files named tests.rs.
forbidden='std::net::(Tcp|Udp)|UdpSocket|TcpStream|TcpListener|Instant::now|SystemTime::now|std::thread|std::env|std::fs|std::process|std::\{[^;]*\b(thread|env|fs|process)\b|tokio'
pure_sources() {
    find crates/harbor-alloc/src crates/harbor-registry/src crates/harbor-env/src crates/harbor-types/src -name '*.rs' ! -name tests.rs
    for crate in tcp udp tls; do # files behind `#[cfg(feature = "io")]` on their `mod` lines are the shell
        lib=crates/harbor-$crate/src/lib.rs
        io=$(grep -A1 'cfg(feature = "io")' "$lib" | grep -oE '^(pub )?mod [a-z_]+' | awk '{print $NF}' || true)
        for file in $(find "crates/harbor-$crate/src" -name '*.rs' ! -name tests.rs ! -name lib.rs); do
            module=$(cut -d/ -f4 <<<"$file"); module=${module%.rs}
            grep -qx "$module" <<<"$io" || echo "$file"
        done
    done
}
for file in $(pure_sources); do
    # Everything above the first test module, without comments.
    if sed '/#\[cfg(test)\]/,$d; s,//.*,,' "$file" | grep -nE "$forbidden" | sed "s,^,$file:,"; then
        echo "pure: $file names something a pure core may not touch"
        failed=1
    fi
done
[ "$failed" = 0 ] && echo "pure: 8 libraries build without tokio, and the pure sources touch nothing"
exit "$failed"
