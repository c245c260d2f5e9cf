"""What lies in the folder of a data set, without what systems and programs leave behind in any folder.

Needs nothing but Python itself.
"""

import os
import re
from fnmatch import translate
from pathlib import Path

# Patterns of names, in any case. Those of hidden files cover .DS_Store, ._name, .directory, .nfs0000,
# .ipynb_checkpoints and the builder's own marker.
LEFT_BEHIND = (
    *(".*", "*~", "~$*", "#*", "*.bak", "*.swp", "*.tmp"),  # hidden, and what editors save
    *("thumbs.db", "ehthumbs*.db", "desktop.ini", "$*", "system volume information"),  # Windows
    *("__macosx", "icon\r", "lost+found", "__pycache__"),
    *("@*", "*.sync-conflict-*", "*conflicted copy*"),  # network storage and sync clients
)
_LEFT_BEHIND = re.compile("|".join(map(translate, LEFT_BEHIND)), re.IGNORECASE)


def is_left_behind(name: str) -> bool:
    """Whether a system, an editor, a sync client or Jupyter leaves files or folders of this name."""
    return _LEFT_BEHIND.match(name) is not None


def entries_in(folder: Path) -> list[Path]:
    """The files and folders in a folder, sorted, without what was left behind."""
    return sorted(path for path in folder.iterdir() if not is_left_behind(path.name))


def names_below(folder: Path) -> list[str]:
    """The files below a folder (or the name of a single file), sorted, without what was left behind."""
    if folder.is_file():
        return [folder.name]
    names = []
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_left_behind(name)]
        inside = Path(where).relative_to(folder)
        names += [(inside / name).as_posix() for name in files if not is_left_behind(name)]
    return sorted(names)
