#!/usr/bin/env bash
# The published way of syncing, with nothing around it: one full download of the catalog and of each client, one after
# the other, and a comparison with what is there. CATALOG_URL and SERVICES_DIR as for sync_catalog.sh.
set -euo pipefail

fetched=$SERVICES_DIR/fetched
curl -fsS -o "$SERVICES_DIR/catalog.json" "$CATALOG_URL"
sed -n 's/.*"client_sdk": "\([^"]*\)".*/\1/p' "$SERVICES_DIR/catalog.json" | while read -r source; do
    folder=$SERVICES_DIR/${source%.py}
    curl -fsS -o "$fetched" "${CATALOG_URL%/*}/$source"
    if ! cmp -s "$fetched" "$folder/client.py"; then
        mkdir -p "$folder"
        cp "$fetched" "$folder/client.py"
    fi
done
