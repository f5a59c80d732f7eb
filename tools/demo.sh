#!/usr/bin/env bash
# Simulates a crystal, maps its diffuse scattering and compares the map with the truth.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$PWD
output=build/demo
PATH=$root/.venv/bin:$PATH

rm -rf "$output"
mkdir -p "$output"
cd "$output"

dials.diffuse_simulate "$root/examples/demo/simulate.phil"
dials.diffuse simulated.expt simulated.refl "$root/examples/demo/diffuse.phil"
dials.diffuse_compare diffuse.nxs truth.nxs

echo
echo "Files in $output:"
find . -maxdepth 1 -type f \( -name '*.nxs' -o -name '*.png' -o -name '*.html' -o -name '*.log' \) \
    | sort | sed "s|^\./|  $output/|"
