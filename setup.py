"""Builds the package `metaheads`, which lives under plugins/ and takes configs/ along as data."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """The `__version__` of the package, read as text: a build must not import it."""
    source = (ROOT / "plugins" / "metaheads" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', source, re.MULTILINE)
    assert found, "plugins/metaheads/__init__.py has no line __version__ = ..."
    return found.group(1)


setup(
    name="metaheads",
    version=read_version(),
    description="Meta-architectures and heads for Detectron2 and MMDetection, written once",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    package_dir={"": "plugins", "metaheads.configs": "configs"},
    packages=[*find_packages("plugins"), "metaheads.configs"],
    package_data={"metaheads.configs": ["detectron2/**/*.yaml", "mmdet/**/*.py"]},
    include_package_data=False,
    python_requires=">=3.11,<3.13",
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "numpy",
        "opencv-python",
        "pycocotools",
        "scipy",
        "pillow",
        "tensorboard",
        "tqdm",
    ],
    extras_require={
        "mmdet": ["mmdet==3.3.0", "mmengine>=0.10.7", "mmcv>=2.1.0,<2.2.0"],
        "export": ["onnx", "onnxscript", "onnxruntime"],
        "test": ["pytest", "pytest-xdist"],
        "dev": ["ruff", "mypy", "pre-commit", "wheel"],
    },
    entry_points={"console_scripts": ["metaheads = metaheads.cli:main"]},
)
