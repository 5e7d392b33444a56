#!/usr/bin/env python3
"""Writes an image that `ctr images import` reads: one layer, nothing in it but the programs.

    image.py OUT.tar NAME:TAG PROGRAM...     each PROGRAM as /usr/local/bin/<its name>; the first one is the entry point

Follows the OCI image layout (opencontainers/image-spec, image-layout.md); byte-identical for identical programs.
"""

import hashlib
import io
import json
import pathlib
import sys
import tarfile

MEDIA = "application/vnd.oci.image"
FOLDERS = {"etc": 0o755, "tmp": 0o1777, "usr": 0o755, "usr/local": 0o755, "usr/local/bin": 0o755}


def add(archive, path, data, mode=0o644):
    """One file, owned by root, of no date."""
    entry = tarfile.TarInfo(path)
    entry.mode, entry.size = mode, len(data)
    archive.addfile(entry, io.BytesIO(data))


def layer(programs):
    """The only layer, as the bytes of a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, mode in FOLDERS.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
        add(archive, "etc/passwd", b"root:x:0:0:root:/:/sbin/nologin\n")
        add(archive, "etc/group", b"root:x:0:\n")
        for program in programs:
            add(archive, f"usr/local/bin/{program.name}", program.read_bytes(), 0o755)
    return out.getvalue()


class Layout:
    """An OCI image layout: blobs by digest, and an index that names one image."""

    def __init__(self):
        self.blobs = {}

    def blob(self, kind, data, **more):
        """Stores `data`; its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"mediaType": f"{MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(data), **more}

    def document(self, kind, value, **more):
        return self.blob(kind, json.dumps(value).encode(), **more)


def main():
    out, name, *programs = sys.argv[1:]
    programs = [pathlib.Path(program) for program in programs]
    layout = Layout()
    only_layer = layout.blob("layer.v1.tar", layer(programs))
    config = layout.document(
        "config.v1+json",
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/bin"], "Entrypoint": [f"/usr/local/bin/{programs[0].name}"]},
            "rootfs": {"type": "layers", "diff_ids": [only_layer["digest"]]},
        },
    )
    manifest = {"schemaVersion": 2, "mediaType": f"{MEDIA}.manifest.v1+json", "config": config, "layers": [only_layer]}
    annotations = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1]}
    image = layout.document("manifest.v1+json", manifest, annotations=annotations)
    index = {"schemaVersion": 2, "mediaType": f"{MEDIA}.index.v1+json", "manifests": [image]}
    with tarfile.open(out, "w") as archive:
        add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        add(archive, "index.json", json.dumps(index).encode())
        for digest, data in layout.blobs.items():
            add(archive, f"blobs/sha256/{digest}", data)


if __name__ == "__main__":
    main()
