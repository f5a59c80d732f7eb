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

step() {
    echo
    echo "=== $1"
    echo "\$ $2"
}

step "60 images of a crystal whose diffuse scattering is known exactly" \
    "dials.diffuse_simulate examples/demo/simulate.phil"
dials.diffuse_simulate "$root/examples/demo/simulate.phil"
step "The map from the images" "dials.diffuse simulated.expt simulated.refl"
dials.diffuse simulated.expt simulated.refl
step "The map against the truth" "dials.diffuse_compare diffuse_merged.nxs truth.json"
dials.diffuse_compare diffuse_merged.nxs truth.json d_max=20

echo
python3 - <<'PYTHON'
import json

with open("dials.diffuse_compare.json") as file:
    figures = json.load(file)["between_lattice_points"]
overall = figures["overall"]
fit = next(f for f in figures["fits"] if f["name"] == "scale")
print("Between the lattice points, where no Bragg peak is masked:")
print(f"  correlation with the truth:        {overall['cc']:.3f}")
print(
    f"  correlation of anisotropic parts:  {overall['cc_anisotropic']:.3f}"
    f" (counting noise allows {overall['cc_anisotropic_allowed']:.3f})"
)
print(f"  scale, truth over map:             {fit['scale']:.4f}")
PYTHON
echo "Map:      $output/diffuse_map.nxs"
echo "Pictures: $output/diffuse_pictures, $output/diffuse_compare.png"
echo "Log:      $output/dials.diffuse.log"
