"""Names of the pictures that `metaheads demo` writes."""

from pathlib import Path

from metaheads.commands.demo import unique_names


def test_pictures_do_not_overwrite_each_other():
    paths = [
        Path("/a/1.jpg"),
        Path("/b/1.jpg"),
        Path("/a/2.jpg"),
        Path("/a/2.png"),
        Path("/a/3.jpg"),
    ]
    names = unique_names(paths)
    assert [names[path] for path in paths] == ["a_1.jpg", "b_1.jpg", "2.jpg", "2.png", "3"]
