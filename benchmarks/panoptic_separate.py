"""UPSNet against its two halves run apart: Mask R-CNN, and a semantic network.

    python benchmarks/panoptic_separate.py CHECKPOINT

Detectron2's Mask R-CNN with the regions and weights of a trained upsnet_r18_160_shapes and the
same lowest score, and semantic/deformable_r18_160_shapes with random weights; each has a backbone
of its own. One thread, one image at a time, interleaved, medians over the embedded validation
images below $METAHEADS_DATA. The table goes to benchmarks/panoptic_separate.md.
"""

from __future__ import annotations

import datetime
import os
import statistics
import sys
import time
from pathlib import Path

import torch
from detectron2.modeling import build_model

from metaheads.configs import find_config
from metaheads.hosts.detectron2.train import load_config
from metaheads.media import find_images, read_image
from metaheads.profiling import processor_name
from metaheads.weights import load_into, read_checkpoint

IMAGES = 30


def build(name: str, **options: object) -> torch.nn.Module:
    path, _ = find_config(name, "detectron2")
    words = [(key.replace("__", "."), str(value)) for key, value in options.items()]
    return build_model(load_config(path, words)).eval()


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    state = read_checkpoint(sys.argv[1])
    upsnet = build("upsnet/upsnet_r18_160_shapes")
    load_into(upsnet, state)
    options = {"MODEL__META_ARCHITECTURE": "GeneralizedRCNN"}
    options["MODEL__ROI_HEADS__SCORE_THRESH_TEST"] = "0.6"
    mask_rcnn = build("upsnet/upsnet_r18_160_shapes", **options)
    load_into(mask_rcnn, upsnet.state_dict(), allow_partial=True)
    semantic = build("semantic/deformable_r18_160_shapes")
    times: dict[str, list[float]] = {"UPSNet": [], "Mask R-CNN": [], "semantic network": []}
    folder = Path(os.environ.get("METAHEADS_DATA", "data")) / "shapes/val"
    for number, path in enumerate(find_images([str(folder)], IMAGES + 1)):
        pixels = torch.from_numpy(read_image(path)).permute(2, 0, 1).contiguous()
        stretched = torch.nn.functional.interpolate(pixels[None].float(), (160, 192))[0]
        inputs = {"UPSNet": pixels, "Mask R-CNN": stretched, "semantic network": pixels}
        for (name, kept), model in zip(times.items(), (upsnet, mask_rcnn, semantic), strict=True):
            start = time.perf_counter()
            model([{"image": inputs[name], "height": pixels.shape[1], "width": pixels.shape[2]}])
            if number:  # the first warms up
                kept.append(1000 * (time.perf_counter() - start))
    medians = {name: statistics.median(kept) for name, kept in times.items()}
    apart = medians["Mask R-CNN"] + medians["semantic network"]
    lines = [
        "# UPSNet against its halves",
        "",
        f"`python benchmarks/panoptic_separate.py CHECKPOINT`, {datetime.date.today()}, "
        f"{processor_name()}, one thread, torch {torch.__version__}; {IMAGES} images, medians.",
        "",
        "| model | ms per image |",
        "|---|---:|",
        *(f"| {name} | {value:.0f} |" for name, value in medians.items()),
        f"| both apart | {apart:.0f}, {apart / medians['UPSNet']:.2f} times UPSNet |",
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
