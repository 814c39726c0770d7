"""Takes the jars out of Flink's wheel: jars.py WHEEL FOLDER"""

import pathlib
import shutil
import sys
import zipfile

wheel, folder = sys.argv[1], pathlib.Path(sys.argv[2])
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        place = pathlib.PurePosixPath(name)
        if place.suffix == ".jar" and place.parent.name in ("lib", "opt"):
            with archive.open(name) as jar, open(folder / place.name, "wb") as copy:
                shutil.copyfileobj(jar, copy)
