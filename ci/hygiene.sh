#!/usr/bin/env bash
# Rules that no compiler checks: file length, no sleeping in tests, symbols and links of the documents exist.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
complain() { echo "hygiene: $*"; failed=1; }
sources() { git ls-files --cached --others --exclude-standard -- '*.rs'; }

for file in $(sources | grep -vE '/tests/|/tests\.rs$|_tests\.rs$'); do
    lines=$(sed '/#\[cfg(test)\]/,$d' "$file" | wc -l)
    [ "$lines" -le 600 ] || complain "$file has $lines lines without its tests; the ceiling is 600"
done
for file in $(sources); do
    head -n 1 "$file" | grep -q '^//!' || complain "$file does not open with //!"
done

# A test waits for a state with a bound; nothing sleeps. (Production code may: a pause after a failed accept.)
for file in $(sources | grep -E '/tests/|/tests\.rs$|_tests\.rs$|harbor-testkit'); do
    if sed 's,//.*,,' "$file" | grep -nE '(thread|time)::sleep|[^a-z_.]sleep\(' | sed "s,^,$file:,"; then
        complain "$file sleeps; wait for a state with a bound"
    fi
done

# Documents cite symbols as `Type::method` or `Type`; each must still exist in the code.
code=$(mktemp); trap 'rm -f "$code"' EXIT
sources | xargs cat >"$code"
for document in ARCHITECTURE.md; do
    [ -f "$document" ] || { complain "$document is missing"; continue; }
    for symbol in $(grep -oE '`[A-Z][A-Za-z]+(::[A-Za-z_]+)?`' "$document" | tr -d '`' | sort -u); do
        grep -qE "\\b${symbol##*::}\\b" "$code" || complain "$document names $symbol, which the code does not have"
    done
done

# Links between our own documents lead somewhere.
for document in $(git ls-files --cached --others --exclude-standard -- '*.md'); do
    for target in $(grep -oE '\]\([^)#: ]+' "$document" | cut -c3- || true); do
        [ -e "$(dirname "$document")/$target" ] || complain "$document links to $target, which is not there"
    done
done
[ "$failed" = 0 ] && echo "hygiene: ok"
exit "$failed"
