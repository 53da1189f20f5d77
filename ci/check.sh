#!/usr/bin/env bash
# Every check of the project, in the order in which they fail fastest. CI runs this file and nothing else.
#   bash ci/check.sh              all of it
#   bash ci/check.sh arrows pure  only these
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/target/ci-tools/bin:$PATH:/usr/sbin"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

# Here a missing tool is a failure, not a skipped test.
export HARBOR_REQUIRE_TOOLS=1

fmt() { cargo fmt --all --check; }

clippy() { cargo clippy --workspace --all-targets --all-features --quiet -- -D warnings; }

pure() { bash ci/pure.sh; }

arrows() { bash ci/arrows.sh; }

hygiene() { bash ci/hygiene.sh; }

deny() { cargo deny --offline --log-level warn check --hide-inclusion-graph bans licenses sources; }

test_workspace() { cargo test --workspace --quiet; } # the README's test command

docs() { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet; }

steps=(fmt hygiene arrows pure deny clippy test_workspace docs)
[ $# -eq 0 ] || steps=("$@")
for step in "${steps[@]}"; do
    started=$SECONDS
    echo "== $step"
    "$step"
    echo "== $step: ok ($((SECONDS - started)) s)"
done
echo "all checks passed: ${steps[*]}"
