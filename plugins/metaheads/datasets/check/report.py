"""What a check tells of a data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class CheckReport:
    """What a data set holds.

    Attributes:
        class_counts: objects per class, crowds included, by ascending category id (of panoptic data
            by label).
        warnings: what is odd, but trains.
        kind: what is counted, "objects" or (things and stuff) "segments".
    """

    annotation_file: Path
    num_images: int
    num_objects: int
    num_crowds: int
    num_verified: int
    class_counts: dict[str, int]
    warnings: list[str] = field(default_factory=list)
    kind: str = "objects"

    def summary(self, max_classes: int = 10) -> str:
        """A few lines for the terminal; the most frequent classes are named."""
        used = {name: count for name, count in self.class_counts.items() if count}
        share = 100 * self.num_crowds / max(self.num_objects, 1)
        lines = [
            f"{self.annotation_file}: {self.num_images} images, {self.num_objects} {self.kind} of "
            f"{len(used)} classes (of {len(self.class_counts)}), {self.num_crowds} crowds "
            f"({share:.1f} %), {self.num_verified} images decoded"
        ]
        if used:
            ranked = sorted(used.items(), key=lambda item: -item[1])
            named = ", ".join(f"{name} {count}" for name, count in ranked[:max_classes])
            more = f", {len(ranked) - max_classes} more" if len(ranked) > max_classes else ""
            lines.append(f"  {self.kind}: {named}{more}")
        return "\n".join(lines + [f"  note: {warning}" for warning in self.warnings])
