"""A disk whose power can be cut."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

# ext4's own ioctl for such tests on the usual processors, and the wish that nothing more be written.
_EXT4_IOC_SHUTDOWN, _WRITE_NOTHING = 0x8004587D, (2).to_bytes(4, sys.byteorder)
_BYTES = 200_000_000


class JournalledDisk:
    """An ext4 disk in a file.

    Parameters
    ----------
    image : the file, made new
    folder : where the disk's files are once it is mounted, made new
    """

    def __init__(self, image: Path, folder: Path) -> None:
        self.image, self.folder = image, folder
        folder.mkdir()
        with open(image, "wb") as file:
            file.truncate(_BYTES)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)

    def mount(self) -> None:
        """Show the disk's files, as far as it holds them."""
        command = ["mount", "-o", "loop", str(self.image), str(self.folder)]
        subprocess.run(command, check=True, capture_output=True, text=True)

    def cut_power(self, holds_names: bool) -> None:
        """Take all that the disk does not hold yet, while nobody works there, and mount it again.

        Parameters
        ----------
        holds_names : whether it knows of every file by now, though not of what is in it
        """
        with open(self.folder / "journal", "wb") as file:
            if holds_names:
                # The names of all files are written with that of this one.
                os.fsync(file.fileno())
            fcntl.ioctl(file, _EXT4_IOC_SHUTDOWN, _WRITE_NOTHING)
        subprocess.run(["umount", str(self.folder)], check=True)
        self.mount()
