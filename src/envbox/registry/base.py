"""The image that environments stand on: pinned by digest, and what its C library lets packages need.

A solver must be told the glibc of the image, not the host's, and the image is often not for this machine. So
the version is read from the C library in the image's own layers, from the bottom up to the first that has it
(an upper layer may bring a newer one, never an older; too low is safe). It is remembered per manifest digest,
of which it is a function. Of a large image for another architecture, only that first layer is ever fetched.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import threading
import zlib
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from envbox.cache import Memo
from envbox.documents import read_json
from envbox.errors import ImageError, LockfileError
from envbox.files import open_file, remove
from envbox.lockfile import Base, LockedPackage, lock_anew
from envbox.oci import (
    LAYER_GZIP_TYPE,
    LAYER_TAR_TYPE,
    LAYER_ZSTD_TYPE,
    Descriptor,
    Digest,
    Manifest,
    parse_digest,
)
from envbox.platforms import image_platform
from envbox.registry import (
    Access,
    Reference,
    blob_path,
    fetch_blob,
    fetch_blobs,
    fetch_config,
    fetch_manifest,
    is_cached,
    parse_reference,
    resolve,
)
from envbox.report import Reporter
from envbox.settings import Settings

_LIBC = re.compile(r"(?:usr/)?lib(?:32|64)?/(?:[^/]+/)?libc(?:\.so\.6|-2\.\d+\.so)")
_MUSL = re.compile(r"(?:usr/)?lib/ld-musl-[^/]+\.so\.1")
_SHELLS = ("bin/sh", "usr/bin/sh")
_GLIBC_VERSION = re.compile(rb"GNU C Library [^\n]*? version (\d+\.\d+)")
_AT_LEAST = re.compile(r">=\s*(\d+(?:\.\d+)*)")
_MANYLINUX = re.compile(r"manylinux_(\d+)_(\d+)_|manylinux(2014|2010|1)_")
_LEGACY_MANYLINUX = {"2014": (2, 17), "2010": (2, 12), "1": (2, 5)}  # PEP 599, 571, 513
_FACTS_VERSION = "1"
_LARGEST_LIBC = 64 << 20  # bytes; it has about two million
_EXTENSIONS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
_LARGEST_EXTENSION = 1 << 20  # bytes of paths and attributes
_GROWN, _GROWTH = 1 << 30, 200  # bytes that any layer may unpack to, and to how many times its own


@dataclass(frozen=True, slots=True)
class BaseLayer:
    """A layer as the registry has it.

    :param diff_id: digest of its uncompressed tar
    :param path: in the cache, where it is once `fetch_layers` has fetched it
    """

    blob: Descriptor
    diff_id: Digest
    path: Path


@dataclass(frozen=True, slots=True)
class BaseImage:
    """One platform's base: its config and layers, from the bottom up.

    :param platform: conda's name of it
    :param digest: of its manifest
    """

    platform: str
    reference: Reference
    digest: Digest
    config: Mapping[str, Any]
    layers: tuple[BaseLayer, ...]


def resolve_base(reference: str, platforms: Sequence[str], settings: Settings, report: Reporter) -> Base:
    """Pin a base: its digest for each platform as the registry has it now, and the glibc in it.

    :raises ImageError: when there is no such image, or it cannot carry conda packages
    :raises ToolError: when the registry cannot be asked
    """
    parsed = parse_reference(reference)
    digests = resolve(parsed, platforms, settings)

    stop = threading.Event()

    def glibc_of(platform: str) -> str:
        label = f"reading {parsed} for {platform}"
        return _glibc(_access(parsed, digests[platform], settings, stop), label, settings, report)

    with ThreadPoolExecutor(len(platforms) or 1, "base") as pool:
        try:
            versions = list(pool.map(glibc_of, platforms))
        except BaseException:
            stop.set()
            raise
    return Base(str(parsed), digests, dict(zip(platforms, versions, strict=True)))


def pull_base(
    base: Base, platform: str, settings: Settings, stop: threading.Event | None = None
) -> BaseImage:
    """Return the base's manifest and config; its layers stay where they are until `fetch_layers`.

    :raises ImageError: when the registry has it no longer, or it is of another platform
    :raises LockfileError: when the lock pins none for the platform
    """
    if platform not in base.digests:
        raise LockfileError(f"the lock pins no base for {platform}", lock_anew())
    digest = parse_digest(base.digests[platform])
    reference = parse_reference(base.reference)
    access = _access(reference, digest, settings, stop)
    manifest = fetch_manifest(access, digest, settings)
    config = _config(access, manifest, settings)
    found = (config.get("os"), config.get("architecture"))
    if found != image_platform(platform):
        raise ImageError(
            f"the base {reference.name}@{digest} is for {found[0]}/{found[1]}, not for {platform}",
            lock_anew(),
        )
    return BaseImage(platform, reference, digest, config, _layers(manifest, config, reference, settings))


def fetch_layers(
    base: BaseImage,
    layers: Collection[BaseLayer],
    settings: Settings,
    report: Reporter,
    stop: threading.Event | None = None,
) -> None:
    """Bring layers of a base into the cache; nothing is asked of the registry when they are there.

    :raises ImageError: when the registry lacks one, or sends something else under its name
    """
    missing = [layer.blob for layer in layers if not is_cached(layer.path, layer.blob)]
    if not missing:
        return
    access = _access(base.reference, base.digest, settings, stop)
    total = sum(blob.size for blob in missing)
    with report.task(f"pulling {base.reference.name}", total, "bytes") as task:
        fetch_blobs(access, missing, settings, task.advance)


def check_glibc(packages: Sequence[LockedPackage], base: Base, platform: str) -> None:
    """Refuse a base whose C library is older than what a package needs.

    :raises ImageError: naming the packages that need more
    """
    have = base.glibc.get(platform)
    if have is not None and (words := newer_glibc(packages, have)):
        raise ImageError(
            f"the base {base.reference} has glibc {have}, but {words}",
            f"take a newer base; or, to lock for this one, {lock_anew()}",
        )


def newer_glibc(packages: Sequence[LockedPackage], have: str) -> str | None:
    """Say which packages need a newer C library, and which one; None when none does.

    :param have: X.Y
    """
    needs = [(f"{p.name} {p.version}", need) for p in packages if (need := _needed_glibc(p)) > _version(have)]
    if not needs:
        return None
    names = ", ".join(sorted(name for name, _ in needs)[:5])
    more = f" and {len(needs) - 5} more need" if len(needs) > 5 else " need" + "s" * (len(needs) == 1)
    most = ".".join(map(str, max(need for _, need in needs)))
    return f"{names}{more} {most}"


def _needed_glibc(package: LockedPackage) -> tuple[int, ...]:
    if package.manager == "conda":
        found = _AT_LEAST.search(package.depends.get("__glibc", ""))
        return _version(found[1]) if found else ()
    tags = [
        (int(m[1]), int(m[2])) if m[1] else _LEGACY_MANYLINUX[m[3]]
        for m in _MANYLINUX.finditer(package.file_name)
    ]
    return min(tags, default=())


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def _access(
    reference: Reference, digest: Digest, settings: Settings, stop: threading.Event | None = None
) -> Access:
    return Access(Reference(reference.registry, reference.repository, reference.tag, digest), settings, stop)


def _config(access: Access, manifest: Manifest, settings: Settings) -> dict[str, Any]:
    data = fetch_config(access, manifest, settings)
    try:
        config = read_json(data)
        diff_ids = [parse_digest(d) for d in config["rootfs"]["diff_ids"]]
        _check_config(config)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ImageError(f"{access.reference} is not a container image: its config is not one") from error
    if len(diff_ids) != len(manifest.layers):
        raise ImageError(
            f"{access.reference} is damaged: {len(manifest.layers)} layers, but {len(diff_ids)} in its config"
        )
    return cast(dict[str, Any], config)


def _check_config(config: Mapping[str, Any]) -> None:
    """See that what we read of a config is of the specification's types.

    :raises TypeError: when not
    """
    said = config.get("config") or {}
    texts = [config.get(key) or "" for key in ("created", "variant", "os", "architecture")]
    texts += [said.get(key) or "" for key in ("User", "StopSignal")]
    texts += [part for pair in (said.get("Labels") or {}).items() for part in pair]
    texts += said.get("Env") or []
    history = config.get("history") or []
    if not (all(isinstance(text, str) for text in texts) and all(isinstance(h, dict) for h in history)):
        raise TypeError


def _layers(
    manifest: Manifest, config: Mapping[str, Any], reference: Reference, settings: Settings
) -> tuple[BaseLayer, ...]:
    for blob in manifest.layers:
        if blob.media_type not in (LAYER_TAR_TYPE, LAYER_GZIP_TYPE, LAYER_ZSTD_TYPE):
            raise ImageError(f"{reference} has a layer of a kind that is not known: {blob.media_type}")
    return tuple(
        BaseLayer(blob, Digest(diff_id), blob_path(settings, blob.digest))
        for blob, diff_id in zip(manifest.layers, config["rootfs"]["diff_ids"], strict=True)
    )


# --- what is in it ------------------------------------------------------------------------------------------


def _glibc(access: Access, label: str, settings: Settings, report: Reporter) -> str:
    reference, digest = access.reference, access.reference.digest
    assert digest
    path = settings.cache_dir / "bases" / f"{digest.removeprefix('sha256:')}.json"
    memo = Memo(path, _known_glibc, lambda glibc: {"version": _FACTS_VERSION, "glibc": glibc})
    if known := memo.read():
        return known
    manifest = fetch_manifest(access, digest, settings)
    layers = _layers(manifest, _config(access, manifest, settings), reference, settings)
    found = _Facts()
    for layer in layers:
        with report.task(label, layer.blob.size, "bytes") as task:
            fetch_blob(access, layer.blob, settings, task.advance)
        _look_into(layer, found, str(reference))
        if found.glibc and found.has_shell:
            break
    glibc = found.checked(str(reference))
    memo.write(glibc)
    return glibc


def _known_glibc(known: Any) -> str:
    if known["version"] != _FACTS_VERSION:
        raise ValueError
    return str(known["glibc"])


@dataclass
class _Facts:
    glibc: str = ""
    is_musl: bool = False
    has_shell: bool = False

    def checked(self, name: str) -> str:
        hint = "take a base of Debian's, Ubuntu's or Fedora's family"
        if not self.glibc:
            why = "it is built on musl" if self.is_musl else "there is no libc.so.6 in it"
            raise ImageError(f"base {name} has no glibc, which conda's packages need: {why}", hint)
        if not self.has_shell:
            raise ImageError(f"base {name} has no /bin/sh, which activating an environment needs", hint)
        return self.glibc


class _TarMember(tarfile.TarInfo):
    """A member whose name is no bomb: tarfile reads an extension header into memory, however long it is."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _TarMember:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _EXTENSIONS and found.size > _LARGEST_EXTENSION:
            raise tarfile.ReadError("the name or the attributes of an entry are too long")
        return found


class Bounded:
    """A layer that is unpacked, as a file: one that grows as no honest one does is no layer.

    :param size: of what it is unpacked from, in bytes
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = _GROWN + size * _GROWTH

    def read(self, size: int = -1) -> bytes:
        """Give the next bytes.

        :raises ValueError: when there are too many
        """
        data = self._file.read(size)
        self._count(len(data))
        return data

    def readinto(self, buffer: Any) -> int:
        """Give the next bytes, into a buffer; raises as `read` does."""
        size = int(cast(Any, self._file).readinto(buffer) or 0)
        self._count(size)
        return size

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError("it is far larger than what it was packed into")


def _look_into(layer: BaseLayer, found: _Facts, name: str) -> None:
    import zstandard

    try:
        with ExitStack() as stack:
            file = stack.enter_context(open_file(layer.path))
            plain = cast(IO[bytes], Bounded(_uncompressed(layer, file, stack), layer.blob.size))
            tar = stack.enter_context(tarfile.open(fileobj=plain, mode="r|", tarinfo=_TarMember))
            for member in tar:
                path = member.name.removeprefix("./").lstrip("/")
                if path in _SHELLS:
                    found.has_shell = True
                elif _MUSL.fullmatch(path):
                    found.is_musl = True
                elif _LIBC.fullmatch(path) and (content := tar.extractfile(member)):
                    version = _GLIBC_VERSION.search(content.read(_LARGEST_LIBC))
                    found.glibc = version[1].decode() if version else found.glibc
    except (
        tarfile.TarError,
        OSError,
        EOFError,
        ValueError,
        RecursionError,
        zlib.error,
        zstandard.ZstdError,
    ) as error:
        with suppress(OSError):
            remove(layer.path)
        raise ImageError(
            f"cannot read layer {layer.blob.digest} of {name}: {error}",
            "it was removed from the cache; run the command again",
        ) from error


def _uncompressed(layer: BaseLayer, file: IO[bytes], stack: ExitStack) -> IO[bytes]:
    if layer.blob.media_type == LAYER_GZIP_TYPE:
        return cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=file)))
    if layer.blob.media_type == LAYER_ZSTD_TYPE:
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return cast(IO[bytes], stack.enter_context(reader))
    return file
