#!/usr/bin/env bash
# Pins the packages in the *.in files: exact versions, at least a week old, with the hashes of all their files.
set -euo pipefail
cd "$(dirname "$0")/requirements"
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
python3 -m venv "$tool"
"$tool/bin/pip" install --quiet --disable-pip-version-check uv
for name in runtime otel dev runapi-old clients node valkey sbom; do
    "$tool/bin/uv" pip compile --quiet "$name.in" --output-file "$name.txt" \
        --universal --python-version 3.11 --exclude-newer "$(date --utc --date='7 days ago' +%F)" \
        --generate-hashes --no-header --no-annotate --no-emit-index-url "$@"
done
